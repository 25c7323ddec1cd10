"""Every Python snippet of docs/sdk-python.md, as it stands there."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import MODEL

PAGE = pathlib.Path(__file__).parents[3] / "docs/sdk-python.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)


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
