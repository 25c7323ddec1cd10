"""product_page.py PROGRAM MODEL PYTHON BUILD: the two snippets of the product page, verbatim, at a running demo.

Both must stream: the answer comes in pieces, while the program that asked still runs. Exits with 77, which
ctest shows as skipped, where a package could not be built.
"""

import contextlib
import os
import pathlib
import pty
import re
import signal
import shutil
import subprocess
import sys
import tempfile

IN_PYTHON = """
from farlabs import FarMesh

mesh = FarMesh(api_key="your-api-key")

for token in mesh.chat("Explain quantum computing"):
    print(token, end="")
"""

IN_TYPESCRIPT = """
import { FarMesh } from "@farlabs/sdk";

const mesh = new FarMesh({ apiKey: "your-api-key" });

for await (const token of await mesh.chat("Explain quantum computing")) {
  process.stdout.write(token);
}
"""


class Demo:
    """At a terminal it goes on until Ctrl-C."""

    def __init__(self, program: str, model: str) -> None:
        self._ours, its = pty.openpty()
        options = ["--model", model, "--max-tokens", "60", "--kill-at", "20", "--pace", "0"]
        self._process = subprocess.Popen([program, "demo", *options], stdin=its, stdout=its, stderr=its)
        os.close(its)
        said = b""
        while not (found := re.search(rb"(http://127.0.0.1:(\d+))/", said)):
            said += os.read(self._ours, 4096)
        # 8100, where the snippets ask by themselves, unless something else is there.
        self.environment = {} if found[2] == b"8100" else {"FARLABS_BASE_URL": found[1].decode()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGINT)
        while self._process.poll() is None:  # it must not wait for us to read
            with contextlib.suppress(OSError):  # the terminal went with it
                os.read(self._ours, 4096)
        os.close(self._ours)


def pieces_of(command: list[str], folder: pathlib.Path, environment: dict[str, str]) -> list[str]:
    program = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, bufsize=0
    )
    pieces = []
    while piece := os.read(program.stdout.fileno(), 65536):
        pieces.append(piece.decode(errors="replace"))
    assert program.wait() == 0, f"{command[0]} ended with {program.returncode}"
    return pieces


def main() -> None:
    program, model, python, build = sys.argv[1:]
    node = pathlib.Path(build, "node")
    packages = [*pathlib.Path(build, "python/farlabs").glob("_farlabs.*.so"), *node.glob("esm/index.js")]
    if len(packages) != 2 or not shutil.which("node"):
        print("skipped: the Python and npm packages were not built; ./run test, where PyPI and npm's registry"
              " can be reached, builds them")  # fmt: skip
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(XDG_DATA_HOME=folder, NO_PROXY="127.0.0.1,localhost", LOG_LEVEL="warning")
        with Demo(program, model) as demo:
            # Python's own buffer would keep what a page's print() does not flush.
            alone = {**demo.environment, "PYTHONPATH": f"{build}/python", "PYTHONUNBUFFERED": "1"}
            asked = {
                "Python": pieces_of([python, "-c", IN_PYTHON], pathlib.Path(folder), alone),
                "TypeScript": pieces_of(
                    ["node", "--input-type=module", "-e", IN_TYPESCRIPT], node, demo.environment
                ),  # inside the package its name is known
            }
    for name, pieces in asked.items():
        text = "".join(pieces)
        assert len(pieces) >= 3 and len(text) > 20, f"{name}: {pieces}"
        print(f"{name}: {len(text)} characters in {len(pieces)} pieces")


if __name__ == "__main__":
    main()
