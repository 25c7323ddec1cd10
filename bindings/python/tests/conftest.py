"""A mesh of two nodes and a coordinator over it, as processes, for the whole run."""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import subprocess
import threading
from dataclasses import dataclass, field

import pytest

PROGRAM = os.environ["FARMESH_PROGRAM"]
MODEL = os.environ["FARMESH_MODEL"]
LAYERS = json.loads((pathlib.Path(MODEL) / "config.json").read_text())["num_hidden_layers"]


class Program:
    """A verb of the program that serves; its address is what its first line says."""

    def __init__(self, folder: pathlib.Path, *arguments: str) -> None:
        environment = {**os.environ, "XDG_DATA_HOME": str(folder), "LOG_LEVEL": "warning"}
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], stdout=subprocess.PIPE, text=True, env=environment
        )
        line = self.process.stdout.readline()
        found = re.match(r"listening on (\S+)", line)
        assert found, f"{arguments} said {line!r}"
        self.address = found[1]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@dataclass
class Mesh:
    """Where it is."""

    url: str
    peers: list[str]
    bootstrap: str
    ledger: str
    programs: list[Program] = field(default_factory=list)


def free_port() -> int:
    """Free for TCP and UDP, below those that the system hands out by itself."""
    for port in range(10_000 + os.getpid() % 10_000, 30_000):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("mesh")
    half = LAYERS // 2
    port = free_port()
    programs: list[Program] = []

    def start(*arguments: str) -> str:
        programs.append(Program(folder, *arguments))
        return programs[-1].address

    common = ["--model", MODEL, "--listen", "127.0.0.1:0", "--threads", "1", "--ephemeral"]
    bootstrap = f"127.0.0.1:{port}"
    try:
        peers = [
            start("node", *common, "--layers", f"0:{half}", "--dht-port", str(port)),
            start(
                "node", *common, "--layers", f"{half}:{LAYERS}", "--bootstrap", bootstrap,
                "--dht-port", "0",
            ),
        ]  # fmt: skip
        ledger = str(folder / "ledger.sqlite")
        url = start(
            "coordinator", "--model", f"org/demo={MODEL}", "--port", "0", "--ledger", ledger,
            "--public-budget", "1000", "--public-rate", "0", "--threads", "1",
            *[flag for peer in peers for flag in ("--peer", peer)],
        )  # fmt: skip
        yield Mesh(url, peers, f"/ip4/127.0.0.1/tcp/{port}", ledger, programs)
    finally:
        for program in programs:
            program.stop()


@pytest.fixture
def at(mesh: Mesh):
    from farlabs import FarMesh

    return FarMesh(base_url=mesh.url)


class ScriptedServer:
    """Answers each connection with the next of its given bytes, then closes it."""

    def __init__(self, *answers: bytes, hold: bool = False) -> None:
        self.requests: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = "http://127.0.0.1:%d" % self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(answers, hold), daemon=True)
        self._thread.start()

    def _serve(self, answers: tuple[bytes, ...], hold: bool) -> None:
        for answer in answers:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client:
                self.requests.append(client.recv(65536))
                client.sendall(answer)
                if hold:
                    client.recv(1)

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def piece(number: int, text: str) -> bytes:
    data = {"id": "r", "choices": [{"index": 0, "text": text, "finish_reason": None}]}
    return f"data: {json.dumps(data)}\nid: r:{number}\n\n".encode()


def ending(number: int) -> bytes:
    finish = {"id": "r", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "cost_far": "0.00000001"}
    usage = {"id": "r", "choices": [], "usage": counts}
    return (
        f"data: {json.dumps(finish)}\nid: r:{number}\n\n"
        f"data: {json.dumps(usage)}\nid: r:{number + 1}\n\ndata: [DONE]\n\n"
    ).encode()


def refusal(status: str, code: str, headers: str = "") -> bytes:
    body = json.dumps({"error": {"message": "No.", "code": code}})
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{headers}\r\n{body}"
    ).encode()
