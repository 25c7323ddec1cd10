"""A notebook: cells of a Jupyter kernel, which run inside an event loop, and are interrupted."""

from __future__ import annotations

import os
import pathlib
import time

import pytest
from conftest import HEAD, ScriptedServer, piece
from jupyter_client.manager import KernelManager


class Notebook:
    def __init__(self, folder: pathlib.Path) -> None:
        self.manager = KernelManager(
            kernel_name="python3", connection_file=str(folder / "kernel.json")
        )
        self.manager.start_kernel(env={**os.environ, "IPYTHONDIR": str(folder)})
        self._client = self.manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=120)

    def begin(self, cell: str) -> str:
        return self._client.execute(cell)

    def said(self, cell: str):
        """What a cell that was begun says, as it says it; ("error", NAME) where it fails."""
        while True:
            message = self._client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                yield content["name"], content["text"]
            elif kind == "error":
                yield "error", content["ename"]
            elif kind == "status" and content["execution_state"] == "idle":
                return

    def run(self, cell: str) -> list[tuple[str, str]]:
        return list(self.said(self.begin(cell)))

    def close(self) -> None:
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory):
    notebook = Notebook(tmp_path_factory.mktemp("notebook"))
    yield notebook
    notebook.close()


def test_a_cell_reads_every_way(notebook, mesh):
    assert notebook.run(f"from farlabs import FarMesh\nmesh = FarMesh(base_url={mesh.url!r})") == []
    ask = "mesh.generate('Once upon a time', max_tokens=6, temperature=0)"
    cells = [
        f"print(''.join(text for text in {ask}))",
        f"print(''.join([text async for text in {ask}]))",
        f"async for text in {ask}: print(text, end='')\nprint()",
        f"print(await {ask}.atext())",
        f"import asyncio\nprint((await asyncio.gather(*[{ask}.atext() for _ in range(4)]))[3])",
    ]
    told = ["".join(text for name, text in notebook.run(cell) if name == "stdout") for cell in cells]
    assert told[0].strip() and told == told[:1] * len(cells)


def test_a_cell_is_interrupted_and_the_next_one_runs(notebook):
    # Of a cell that awaits, the kernel now and then misses the signal, whatever it awaits.
    with ScriptedServer(HEAD + piece(1, "Once"), hold=True) as server:
        cell = notebook.begin(
            f"from farlabs import FarMesh\nstream = FarMesh(base_url={server.url!r}, model='m').generate('x')\n"
            "for text in stream: print(text, flush=True)"
        )
        said = notebook.said(cell)
        assert next(said) == ("stdout", "Once\n")
        began = time.monotonic()
        notebook.manager.interrupt_kernel()
        assert list(said)[-1] == ("error", "KeyboardInterrupt")
        assert time.monotonic() - began < 30  # silence would end it after 120
        assert notebook.run("stream.close(); print(stream.usage.finish_reason)") == [
            ("stdout", "cancelled\n")
        ]
