#!/usr/bin/env python3
"""Runs clang-tidy-19 over changed .cpp files, or all of them with --tidy-all.

Changed means: different from the upstream branch, from the last commit when there is none, and
whatever is not committed. The compile commands are GCC's; what clang does not know is left out.
Files that include torch are left out as well: Clang 19 refuses libtorch 1.13's headers in C++20.
"""
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BUILD = Path("build/dev")
TIDY = Path("build/tidy")
GCC_ONLY = {"-fpch-preprocess", "-Winvalid-pch"}
ASIO = ["-DASIO_HAS_CO_AWAIT=1", "-DASIO_HAS_STD_COROUTINE=1"]  # as FarmeshDependencies.cmake


def git(*arguments):
    return subprocess.run(["git", *arguments], capture_output=True, text=True).stdout.split()


def changed():
    upstream = git("merge-base", "HEAD", "@{upstream}")
    base = upstream[0] if upstream else "HEAD~1"
    return set(git("diff", "--name-only", base)) | set(git("ls-files", "--others", "--exclude-standard"))


def translate():
    """Writes build/tidy/compile_commands.json and returns the files in it."""
    entries = []
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        words = [word for word in entry["command"].split() if word not in GCC_ONLY]
        if "_verify_interface_header_sets" in entry["file"] or any("torch" in word for word in words):
            continue
        entry["command"] = " ".join(words[:-1] + ASIO + words[-1:])
        entries.append(entry)
    TIDY.mkdir(parents=True, exist_ok=True)
    (TIDY / "compile_commands.json").write_text(json.dumps(entries))
    return {os.path.relpath(entry["file"]) for entry in entries}


def tidy(name):
    done = subprocess.run(
        ["nice", "clang-tidy-19", "-p", str(TIDY), "--quiet", name], capture_output=True, text=True)
    # Standard error counts the warnings of system headers; it matters only when nothing else came.
    return name, done.returncode, done.stdout or done.stderr


def main():
    compiled = translate()
    names = sorted(compiled & set(git("ls-files", "--cached", "--others", "--exclude-standard", "*.cpp")))
    if "--tidy-all" not in sys.argv[1:]:
        names = sorted(set(names) & changed())
    failed = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, code, output in pool.map(tidy, names):
            if code != 0:
                failed += 1
                print(f"{name}:\n{output}")
    print(f"clang-tidy: {len(names)} files, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
