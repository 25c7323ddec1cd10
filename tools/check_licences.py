#!/usr/bin/env python3
"""Compares docs/dependencies.md with the packages it names and with what was really linked.

Fails when a package's own copyright file states another licence than the table, when that licence
would bind those who link FarMesh, or when a built library needs one that the table does not name.
"""
import re
import subprocess
import sys
from pathlib import Path

TABLE = Path("docs/dependencies.md")
BUILT = Path("build/dev/bin")
PLATFORM = {"glibc", "gcc-12"}  # source packages of the C and C++ run-time libraries

# What Debian's copyright files call a licence, and what we call it: the first match decides.
# Anything else, the GPL family above all, needs a person's decision.
ACCEPTED = [
    (r"apache-2\.0", "Apache-2.0"),
    (r"expat|mit\b", "MIT"),
    (r"bsd-3-clause", "BSD-3-Clause"),
    (r"bsd-2-clause", "BSD-2-Clause"),
    (r"boost|bsl-1\.0", "BSL-1.0"),
    (r"zlib", "Zlib"),
    (r"postgresql", "PostgreSQL"),
    (r"public-domain", "public domain"),
]


def query(field, package):
    done = subprocess.run(["dpkg-query", "-W", f"-f=${{{field}}}", package],
                          capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def table_rows():
    """(package, licence) of every library row: | name | `package` | version | licence | … |"""
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[1].startswith("`"):
            yield cells[1].strip("`"), cells[3]


def upstream_licence(package):
    """Our name for the licence of all files, or of `src/*.c`, in the package's copyright file."""
    text = Path(f"/usr/share/doc/{package}/copyright").read_text(errors="replace")
    for stanza in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:(.*(?:\n .*)*)", stanza, re.M)
        if files and {"*", "src/*.c"} & set(files[1].split()):
            stated = re.search(r"^License: *(.*)$", stanza, re.M)
            for pattern, ours in ACCEPTED:
                if stated and re.match(pattern, stated[1], re.I):
                    return ours
            return f"unaccepted: {stated[1] if stated else 'none stated'}"
    return "unaccepted: no stanza for all files"


def linked_sources():
    """(built file, source package of a library it names as needed)"""
    for binary in sorted(BUILT.glob("*")):
        if binary.is_symlink() or not binary.is_file():
            continue
        dynamic = subprocess.run(["readelf", "-d", str(binary)], capture_output=True, text=True).stdout
        for library in re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic):
            owner = subprocess.run(["dpkg-query", "-S", f"*/{library}"], capture_output=True, text=True)
            if owner.returncode == 0:
                yield binary.name, query("source:Package", owner.stdout.split(":")[0])


def main():
    problems, sources = [], set(PLATFORM)
    rows = list(table_rows())
    for package, licence in rows:
        sources.add(query("source:Package", package))
        if not query("Version", package):
            problems.append(f"{package}: not installed, so its licence cannot be read")
        elif upstream_licence(package) != licence:
            problems.append(f"{package}: the table says {licence}, its package {upstream_licence(package)}")
    for binary, source in linked_sources():
        if source not in sources:
            problems.append(f"{binary} links {source}, which {TABLE} does not name")
    if not rows:
        problems.append(f"{TABLE} has no library rows")
    print("\n".join(sorted(set(problems))) or f"licences: {len(rows)} libraries as documented")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
