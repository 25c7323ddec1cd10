"""What type checkers and readers of the stubs are told: it is strict, and it is true."""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import pytest
from test_docs import SNIPPETS

import farlabs
import farlabs._farlabs as native

PACKAGE = pathlib.Path(farlabs.__file__).parent


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_package_program_and_docs_pass_a_strict_check(version, tmp_path):
    """Of every Python that the package is declared for, its syntax and library are known there."""
    # Without what the tests' own environment has installed: some of it is for one Python only.
    for number, snippet in enumerate(SNIPPETS):
        (tmp_path / f"snippet_{number}.py").write_text(snippet)
    program = pathlib.Path(__file__).parent / "typed_program.py"
    strict = ["--strict", "--warn-unused-ignores", "--python-version", version]
    check = [*strict, "--cache-dir", str(tmp_path / "cache"), "--disable-error-code", "import-not-found",
             str(PACKAGE), str(program), *map(str, sorted(tmp_path.glob("*.py")))]  # fmt: skip
    told = subprocess.run([sys.executable, "-m", "mypy", *check], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def stubs() -> dict[str, ast.ClassDef]:
    body = ast.parse((PACKAGE / "_farlabs.pyi").read_text()).body
    return {each.name: each for each in body if isinstance(each, ast.ClassDef)}


def test_the_stubs_have_every_name_that_the_native_half_has():
    told = {
        name: {member.name for member in kind.body if hasattr(member, "name")}
        for name, kind in stubs().items()
    }
    there = {
        name: {
            member
            for member in vars(kind)
            if not member.startswith("__") or member.startswith("__dlpack")
        }
        for name, kind in vars(native).items()
        if isinstance(kind, type)
    }
    assert told.keys() == there.keys()
    for name, members in there.items():
        assert {m for m in members if not m.startswith("_pybind11")} <= told[name], name


def parameters(function: ast.FunctionDef) -> tuple[list[str], list[str]]:
    given = function.args
    positional = [each.arg for each in given.posonlyargs + given.args if each.arg != "self"]
    return positional, [each.arg for each in given.kwonlyargs]


def test_the_stubs_have_the_parameters_that_the_native_half_has():
    compared = 0
    for name, kind in stubs().items():
        for stub in kind.body:
            if not isinstance(stub, ast.FunctionDef):
                continue
            # pybind11 writes what a function takes into the first line of its docstring.
            there = getattr(getattr(native, name), stub.name, None)
            line = (getattr(there, "__doc__", None) or "").split("\n")[0]
            if not line.startswith(f"{stub.name}(") or "arg0" in line or "<" in line:
                continue
            tree = ast.parse(f"def {line}: ...").body[0]
            assert isinstance(tree, ast.FunctionDef)
            assert parameters(tree) == parameters(stub), f"{name}.{stub.name}"
            compared += 1
    assert compared > 15


TYPESCRIPT = "".join(
    (pathlib.Path(__file__).parents[2] / "node/src" / f"{name}.ts").read_text()
    for name in ("types", "mesh", "native", "library", "index")
)


def in_typescript(kind: str) -> set[str]:
    """What a class or an interface of the TypeScript package has for its users."""
    found = re.search(rf"^export (?:class|interface) {kind}\b.*?^}}", TYPESCRIPT, re.M | re.S)
    assert found, kind
    body = re.sub(r"/\*.*?\*/|//[^\n]*", "", found[0], flags=re.S)
    member = r"^  (?:static )?(?:async )?(?:get )?(\w+)\??(?:: |\()"
    return {name for name in re.findall(member, body, re.M) if name != "constructor"}


def camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def of_class(kind: type) -> set[str]:
    return {camel(name) for base in kind.__mro__[:-1] for name in vars(base) if not name.startswith("_")}


def of_call(function: object) -> set[str]:
    """The options of a call, those that only names can give."""
    if inspect.isfunction(function):
        given = inspect.signature(function).parameters.values()
        return {camel(each.name) for each in given if each.name != "self"}
    line = (function.__doc__ or "").split("\n")[0]
    tree = ast.parse(f"def {line}: ...").body[0]
    assert isinstance(tree, ast.FunctionDef)
    return {camel(name) for name in parameters(tree)[1]}


def test_typescript_has_the_same_surface_in_camel_case():
    for kind in ("Usage", "Model", "Status", "Earnings", "DailyEarning", "Token"):
        assert in_typescript(kind) == {camel(name) for name in getattr(farlabs, kind)._fields}, kind
    fields = farlabs.AskOptions.__annotations__
    assert in_typescript("AskOptions") - {"signal"} == set(map(camel, fields))
    own = farlabs.GenerateOptions.__annotations__.keys() - fields.keys()
    assert in_typescript("GenerateOptions") == set(map(camel, own))

    assert in_typescript("Mesh") == of_class(farlabs.FarMesh)
    assert in_typescript("FarStream") - {"toReadableStream"} == of_class(farlabs.Stream) - {
        "atext", "aclose",
    }  # fmt: skip
    assert in_typescript("TokenStream") - {"text"} == of_class(farlabs.TokenStream) - {"aclose"}
    for kind in ("DistributedModel", "Session", "HiddenSession", "Peer", "ContributionLedger"):
        assert in_typescript(kind) == of_class(getattr(farlabs, kind)), kind

    assert in_typescript("FarMeshOptions") | in_typescript("ConnectOptions") | in_typescript(
        "DirectOptions"
    ) == of_call(farlabs.FarMesh.__init__)
    model = farlabs.DistributedModel
    assert in_typescript("OpenOptions") == of_call(model.open)
    assert in_typescript("SessionOptions") == of_call(model.open_session)
    assert in_typescript("PeerOptions") == of_call(farlabs.Peer.start)
