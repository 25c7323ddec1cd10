#!/usr/bin/env python3
"""Checks that every include follows the arrows of docs/architecture.md.

A wrong include of code does not link, but a wrong include of a header-only part would: this holds
the allow-list for both, and for the third parties that each room may see. Prints one line per
violation and exits with 1 when there is any.
"""
import re
import subprocess
import sys
from pathlib import Path

# A room may include itself, the rooms named here, and what those may include.
ARROWS = {
    "base": [],
    "text": ["base"],
    "identity": ["base"],
    "wire": ["base"],
    "net": ["wire", "identity"],
    "kernels": ["base"],
    "model": ["base"],
    "model/torch": ["model", "kernels"],
    "sampling": ["base"],
    "serve": ["model", "net", "wire"],
    "discovery": ["net", "identity"],
    "route": ["wire"],
    "driver": ["sampling", "route", "net", "wire"],
    "client": ["text", "driver"],
    "http": ["base"],
    "weights": ["model", "http"],
    "node": ["model", "serve", "client", "discovery", "weights"],
    "sdk": ["node", "http"],
    "evm": ["http"],
    "ledger": ["wire", "identity"],
    "payout": ["ledger", "evm"],
    "gateway": ["client", "http", "payout"],
    "cli": ["node", "gateway"],
}
NETWORKED = {"net", "serve", "discovery", "driver", "node", "client", "cli"}
ALL = set(ARROWS)

# (header pattern, rooms that may include it, allowed in headers that other rooms include).
# The first match decides.
LIBRARIES = [
    (r"(torch|ATen|c10)/|cuda_runtime_api\.h$", {"model/torch"}, True),
    (r"asio(/|\.hpp$)", NETWORKED, True),
    (r"nlohmann/json_fwd", ALL, True),
    (r"(flatbuffers/|farmesh_generated\.h$)", {"wire"}, False),
    (r"nlohmann/", ALL, False),
    (r"fmt/", ALL, False),
    (r"openssl/", {"base", "identity", "net", "http", "evm"}, False),
    (r"boost/(asio|beast)(/|\.hpp$)", {"http"}, False),
    (r"prometheus/", {"http"}, False),
    (r"(libtorrent|boost)/", {"discovery"}, False),
    (r"(sqlite3|libpq-fe)\.h$", {"ledger"}, False),
    (r"(secp256k1|cryptopp/)", {"evm"}, False),
    (r"hiredis/", {"gateway"}, False),
    (r"(sentencepiece_|pcre2\.h$|utf8proc\.h$)", {"text"}, False),
    (r"CLI/", {"cli"}, True),
    (r"pybind11/", {"bindings/python"}, True),
    (r"napi\.h$", {"bindings/node"}, True),
]
SYSTEM = re.compile(
    r"[a-z_0-9]+$"  # the C++ standard library
    r"|(sys|linux|netinet|arpa)/\w+\.h$"
    r"|(dlfcn|emmintrin|fcntl|immintrin|link|malloc|netdb|poll|pthread|sched|signal|spawn|stdlib|termios|unistd|x86intrin)\.h$"
)
TEST_LIBRARY = re.compile(r"doctest/")
STAND_INS = {"model/stand_in_engine.hpp"}  # what the tests of any room may use
TEST_FOLDERS = {"bench", "fuzz", "golden", "integration", "sim", "support", "unit"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
BANNED = {
    "asio::detached": "start coroutines with net::spawn, which logs what escapes and counts them",
    "using namespace std;": "name what you use",
}


def below(room):
    """The rooms that `room` may include: itself and everything its arrows lead to."""
    seen = {room}
    for lower in ARROWS[room]:
        seen |= below(lower)
    return seen


def place_of(path):
    """(rooms, libraries' rooms) that the file may use; None for files outside the house."""
    parts = path.parts
    if parts[0] == "include":
        return set(), set()
    if parts[0] == "src":
        room = "model/torch" if parts[:3] == ("src", "model", "torch") else parts[1]
        return below(room), {room}
    if parts[0] == "tests" and parts[1] == "unit" and parts[2] in ARROWS:
        room = parts[2]
        reach = below("model/torch") if room == "model" else below(room)
        return reach, reach
    if parts[0] == "tests":
        return ALL, ALL - {"model/torch"} if parts[1] != "golden" else ALL
    if parts[:2] == ("tools", "train"):
        return {"base", "model", "text", "sampling"}, {"model/torch", "text", "cli"}
    if parts[0] == "examples":
        return set(), set()
    if parts[0] == "bindings":
        return set(), {"/".join(parts[:2])}
    return None


def room_of(header):
    """The room of a quoted include, such as "net/link.hpp"."""
    if header.startswith("model/torch/"):
        return "model/torch"
    return header.split("/")[0]


def complaint(path, quote, header, place, is_shared):
    """Why `path` may not include `header`; empty when it may."""
    rooms, library_rooms = place
    in_tests = path.parts[0] == "tests"
    for pattern, allowed, headers_too in LIBRARIES:
        if not re.match(pattern, header):
            continue
        if not allowed & library_rooms:
            return f"<{header}> belongs to {', '.join(sorted(allowed))}"
        if is_shared and not headers_too:
            return f"<{header}> belongs into .cpp files and headers that no other room includes"
        return ""
    if quote == "<":
        if header.startswith("farmesh/") or SYSTEM.match(header):
            return ""
        if TEST_LIBRARY.match(header):
            return "" if in_tests else f"<{header}> belongs to the tests"
        return f"<{header}> is in no list of tools/check_includes.py"
    if path.parts[0] == "bindings" and (Path(*path.parts[:-1]) / header).exists():
        return ""
    if "/" not in header:
        return f'"{header}" must be named with its folder'
    if in_tests and (room_of(header) in TEST_FOLDERS or header in STAND_INS):
        return ""
    if "train" in path.parts and room_of(header) == "train":
        return ""
    if room_of(header) not in rooms:
        return f'"{header}" is not below {path.parent}'
    return ""


def shared_headers(paths):
    """Headers that files outside their own room include, and the public ones."""
    shared = {path for path in paths if path.parts[0] == "include"}
    for path in paths:
        for match in INCLUDE.finditer(path.read_text(encoding="utf-8")):
            target = Path("src") / match[2]
            if path.parts[:2] != target.parts[:2] and path.parts[0] == "src":
                shared.add(target)
    return shared


def check_file(path, shared):
    place = place_of(path)
    if place is None:
        return
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".hpp" and "#pragma once" not in text:
        yield f"{path}: no #pragma once"
    for word, instead in BANNED.items():
        if word in text:
            yield f"{path}: {word}: {instead}"
    for match in INCLUDE.finditer(text):
        reason = complaint(path, match[1], match[2], place, path in shared)
        if reason:
            yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {reason}"


def check_cmake(room):
    """The DEPENDS of a room's CMake file are arrows too."""
    file = Path("src") / room / "CMakeLists.txt"
    if not file.exists():
        return
    depends = re.search(r"DEPENDS\s+([\w\s]+?)\s*(?:PUBLIC|PRIVATE|SOURCES|\))", file.read_text())
    for lower in depends[1].split() if depends else []:
        if lower not in below(room):
            yield f"{file}: {room} may not depend on {lower}"


def main():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.cpp", "*.hpp"],
        check=True, capture_output=True, text=True).stdout.split()
    paths = sorted(path for path in map(Path, listed) if path.exists())
    shared = shared_headers(paths)
    problems = [p for path in paths for p in check_file(path, shared)]
    problems += [p for room in ARROWS for p in check_cmake(room)]
    print("\n".join(problems) if problems else f"includes: {len(paths)} files follow the arrows")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
