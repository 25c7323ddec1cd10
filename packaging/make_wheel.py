"""Writes a wheel (PEP 427) of a folder that was laid together by the build."""

import argparse
import base64
import hashlib
import pathlib
import platform
import sys
import sysconfig
import zipfile

parser = argparse.ArgumentParser()
parser.add_argument("--name", required=True)
parser.add_argument("--version", required=True)
parser.add_argument("--folder", required=True, type=pathlib.Path)
parser.add_argument("--out", required=True, type=pathlib.Path)
parser.add_argument("--about", type=pathlib.Path, help="Markdown")
parser.add_argument("--licence", required=True, type=pathlib.Path)
parser.add_argument("--extra", action="append", default=[], help="NAME: REQUIREMENT")
parser.add_argument("--any-python", action="store_true", help="nothing in it links Python")
given = parser.parse_args()

glibc = platform.libc_ver()[1].replace(".", "_")
machine = sysconfig.get_platform().removeprefix("linux-").replace("-", "_")
python = "cp%d%d" % sys.version_info[:2]
tags = "py3-none" if given.any_python else f"{python}-{python}"
tag = f"{tags}-manylinux_{glibc}_{machine}"

metadata = f"""Metadata-Version: 2.1
Name: {given.name}
Version: {given.version}
Summary: Large language models served by many machines: ask the mesh, and text streams back
License: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.10
Classifier: Typing :: Typed
"""
metadata += "".join(f"Classifier: Programming Language :: Python :: 3.{n}\n" for n in range(10, 14))
for extra in given.extra:
    name, requirement = extra.split(": ", 1)
    metadata += f'Provides-Extra: {name}\nRequires-Dist: {requirement}; extra == "{name}"\n'
if given.about:
    metadata += f"Description-Content-Type: text/markdown\n\n{given.about.read_text()}"

distribution = f"{given.name.replace('-', '_')}-{given.version}"
information = f"{distribution}.dist-info"
files = {
    file.relative_to(given.folder).as_posix(): file.read_bytes()
    for file in sorted(given.folder.rglob("*"))
    if file.is_file()
}
files[f"{information}/METADATA"] = metadata.encode()
files[f"{information}/LICENSE"] = given.licence.read_bytes()
files[f"{information}/WHEEL"] = (
    f"Wheel-Version: 1.0\nGenerator: farmesh\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
)


def recorded(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


record = "".join(recorded(*file) for file in files.items()) + f"{information}/RECORD,,\n"
files[f"{information}/RECORD"] = record.encode()
with zipfile.ZipFile(
    given.out / f"{distribution}-{tag}.whl", "w", zipfile.ZIP_DEFLATED, compresslevel=6
) as wheel:
    for name, content in files.items():
        # One date for all: the same folder gives the same wheel.
        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o755 if ".so" in name else 0o644) << 16
        wheel.writestr(entry, content)
