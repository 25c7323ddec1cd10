"""What goes wrong: wrong values, refusals, and servers that lie."""

from __future__ import annotations

import subprocess
from decimal import Decimal

import pytest
from conftest import HEAD, PROGRAM, ScriptedServer, ending, piece, refusal

import farlabs
from farlabs import FarMesh, FarMeshError


def ask(*answers: bytes, **options) -> FarMeshError | str:
    with ScriptedServer(*answers) as server:
        stream = FarMesh(base_url=server.url, model="m", **options).generate("x")
        try:
            return stream.text()
        except FarMeshError as error:
            return error


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "far_x\nX-Evil: 1"},
        {"api_key": "klíč"},
        {"base_url": "ftp://x"},
        {"base_url": "http://"},
        {"timeout": 0},
        {"max_retries": -1},
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(options):
    with pytest.raises(farlabs.InvalidRequestError) as caught:
        FarMesh(**options)
    assert caught.value.code == "invalid_argument"


def test_wrong_types_and_values():
    mesh = FarMesh(base_url="http://127.0.0.1:9", model="m")
    for wrong in (
        lambda: FarMesh(api_key=7),
        lambda: FarMesh("k", bootstrap="127.0.0.1:1", model="m"),
        lambda: FarMesh(bootstrap="127.0.0.1:1"),
        lambda: mesh.chat(),
        lambda: mesh.chat("x", messages=[]),
        lambda: mesh.chat(7),
        lambda: mesh.chat(messages=[{"role": "user", "content": None}]),
        lambda: mesh.generate(b"x"),
        lambda: mesh.generate("x", max_tokens=-1),
        lambda: mesh.generate("x", max_tokens="many"),
        lambda: mesh.generate("x", temperature="hot"),
        lambda: mesh.generate("x", stop=[7]),
        lambda: mesh.generate("x", seed=1 << 70),
        lambda: mesh.generate("x", logit_bias={"a": 1}),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(UnicodeEncodeError):
        mesh.generate("half a character: \ud83d")
    with pytest.raises(ValueError):
        mesh.generate("x", max_cost_far="-0.000000001")
    with pytest.raises(KeyError):
        mesh.chat(messages=[{"role": "user"}])
    with pytest.raises(farlabs.InvalidRequestError):
        mesh.generate("x", temperature=float("nan")).text()


def test_nobody_listens():
    with ScriptedServer() as server:
        url = server.url
    with pytest.raises(farlabs.ConnectionFailedError) as caught:
        FarMesh(base_url=url, max_retries=0).models()
    assert caught.value.code == "connection_refused"
    assert caught.value.status is None


@pytest.mark.parametrize(
    "status, code, kind",
    [
        ("401 Unauthorized", "missing_api_key", farlabs.AuthenticationError),
        ("402 Payment Required", "insufficient_credit", farlabs.PaymentRequiredError),
        ("403 Forbidden", "scope_missing", farlabs.PermissionDeniedError),
        ("404 Not Found", "model_not_found", farlabs.NotFoundError),
        ("409 Conflict", "request_id_reused", farlabs.ConflictError),
        ("500 Internal Server Error", "compute_failed", farlabs.ServerError),
    ],
)
def test_a_refusal_has_its_class(status, code, kind):
    error = ask(refusal(status, code, "X-Request-Id: x7\r\n"))
    assert type(error) is kind and isinstance(error, FarMeshError)
    assert (error.code, error.request_id, error.status) == (code, "x7", int(status[:3]))
    assert str(error) == f"{code}: No. (request x7)"


def test_retry_after_is_kept_or_told():
    limited = "429 Too Many Requests", "rate_limit_exceeded"
    good = HEAD + piece(1, "Once") + ending(2)
    assert ask(refusal(*limited, "Retry-After: 0\r\n"), good) == "Once"
    error = ask(refusal(*limited, "Retry-After: 3600\r\n"))
    assert type(error) is farlabs.RateLimitError and error.retry_after == 3600
    error = ask(refusal("503 Service Unavailable", "busy"), max_retries=0)
    assert type(error) is farlabs.UnavailableError


def test_servers_that_lie():
    for lie in (
        refusal("200 OK", "x"),
        HEAD + b"data: {\n\n",
        HEAD + b'data: {"choices": [{"text": "\xe2\x82"}]}\n\n',
        HEAD + b'data: {"choices": [{"text": "\\ud83d"}]}\n\n',
        b"SSH-2.0\r\n\r\n",
    ):
        error = ask(lie)
        assert type(error) is farlabs.ConnectionFailedError and error.code == "bad_http", lie
    error = ask(HEAD + piece(1, "Once"), refusal("404 Not Found", "stream_not_found"))
    assert (error.code, error.request_id) == ("connection_lost", "r")


def test_silence():
    with ScriptedServer(HEAD, hold=True) as server:
        with pytest.raises(farlabs.RequestTimeoutError):
            FarMesh(base_url=server.url, model="m", timeout=0.05).generate("x").text()


def test_a_key_without_credit(mesh):
    secret = subprocess.run(
        [PROGRAM, "key", "create", "--url", mesh.ledger], check=True, capture_output=True, text=True
    ).stdout.strip()
    poor = FarMesh(secret, base_url=mesh.url)
    with pytest.raises(farlabs.PaymentRequiredError) as caught:
        poor.generate("Once", max_tokens=4).text()
    assert caught.value.code == "insufficient_credit"
    assert caught.value.request_id
    assert secret not in str(caught.value)


def test_models_status_and_earnings(at):
    assert at.models() == [("org/demo", 2, Decimal("0.0001"), True)]
    status = at.status()
    assert (status.model_id, status.connected) == ("org/demo", True)
    assert at.status("org/demo").price_per_token_far == Decimal("0.0001")
    with pytest.raises(farlabs.NotFoundError):
        at.status("org/none")
    nobody = at.earnings("0x" + "0" * 39 + "1")
    assert nobody.total_earned_far == 0 and nobody.history == []
    with pytest.raises(farlabs.InvalidRequestError):
        at.earnings("no/wallet")
