"""A mesh of two nodes and a coordinator over it, as processes, for the whole run."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass

import pytest

PROGRAM = os.environ["FARMESH_PROGRAM"]
MODEL = os.environ["FARMESH_MODEL"]
LAYERS = json.loads((pathlib.Path(MODEL) / "config.json").read_text())["num_hidden_layers"]


class Program:
    """A verb of the program that serves; its address is what its first line says."""

    def __init__(self, folder: pathlib.Path, *arguments: str) -> None:
        self._arguments = arguments
        self._environment = {**os.environ, "XDG_DATA_HOME": str(folder), "LOG_LEVEL": "warning"}
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [PROGRAM, *self._arguments], stdout=subprocess.PIPE, text=True, env=self._environment
        )
        line = self._process.stdout.readline()
        found = re.match(r"listening on (\S+)", line)
        assert found, f"{self._arguments} said {line!r}"
        self.address = found[1]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Redis:
    """A server without files, on a port of its own."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"redis://:secret@127.0.0.1:{port}"
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
             "--requirepass", "secret"], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                break
        else:
            raise AssertionError("redis-server ended")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@dataclass
class Mesh:
    """Where it is."""

    url: str
    peers: list[str]
    bootstrap: str
    ledger: str
    coordinator: Program
    redis: Redis | None  #: where there is one the coordinator may die and come back


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
    running: list[Program | Redis] = []

    def start(*arguments: str) -> str:
        running.append(Program(folder, *arguments))
        return running[-1].address

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
        redis = None
        shared: list[str] = []
        if shutil.which("redis-server"):
            running.append(redis := Redis())
            key = folder / "shared.key"
            key.write_text("what both lives of the coordinator know")
            key.chmod(0o600)
            shared = ["--redis", redis.url, "--shared-key", str(key)]
        url = start(
            "coordinator", "--model", f"org/demo={MODEL}", "--port", str(free_port()), "--ledger",
            ledger, "--public-budget", "1000", "--public-rate", "0", "--threads", "1", *shared,
            *[flag for peer in peers for flag in ("--peer", peer)],
        )  # fmt: skip
        yield Mesh(url, peers, f"/ip4/127.0.0.1/tcp/{port}", ledger, running[-1], redis)
    finally:
        for each in running:
            each.stop()


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
