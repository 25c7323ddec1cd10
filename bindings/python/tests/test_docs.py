"""Every Python snippet of docs/sdk-python.md, as it stands there, and the product page's own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys

import pytest
from conftest import MODEL, PROGRAM

PAGE = pathlib.Path(__file__).parents[3] / "docs/sdk-python.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)

PRODUCT_PAGE = '''
from farlabs import FarMesh

mesh = FarMesh(api_key="your-api-key")

for token in mesh.chat("Explain quantum computing"):
    print(token, end="")
'''


def run(text: str, url: str, folder: pathlib.Path) -> str:
    (folder / "models").symlink_to(pathlib.Path(MODEL).parent)
    program = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "FARLABS_BASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    assert program.returncode == 0, program.stderr
    return program.stdout


def test_the_page_has_snippets():
    assert len(SNIPPETS) >= 5


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(snippet, mesh, tmp_path):
    # The page's address is one that documents use.
    assert run(snippet.replace("/ip4/203.0.113.7/tcp/31337", mesh.bootstrap), mesh.url, tmp_path)


def test_the_product_page(mesh, tmp_path):
    assert run(PRODUCT_PAGE, mesh.url, tmp_path)


def test_the_product_page_at_a_running_demo(tmp_path):
    ours, its = pty.openpty()  # at a terminal the demo goes on until Ctrl-C
    options = ["--model", MODEL, "--max-tokens", "60", "--kill-at", "20", "--pace", "0"]
    demo = subprocess.Popen([PROGRAM, "demo", *options], stdin=its, stdout=its, stderr=its)
    os.close(its)
    said = b""
    while not (found := re.search(rb"(http://127.0.0.1:(\d+))/", said)):
        said += os.read(ours, 4096)
    try:
        # 8100, where the snippet asks by itself, unless something else is there.
        url = "" if found[2] == b"8100" else found[1].decode()
        assert run(PRODUCT_PAGE, url, tmp_path)
    finally:
        demo.send_signal(signal.SIGINT)
        while demo.poll() is None:  # it must not wait for us to read
            with contextlib.suppress(OSError):  # the terminal went with it
                os.read(ours, 4096)
        os.close(ours)
