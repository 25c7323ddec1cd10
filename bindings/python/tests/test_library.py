"""The library's own types: peers, models and the ledger."""

from __future__ import annotations

import asyncio
import os
import threading
from decimal import Decimal

import pytest
from conftest import LAYERS, MODEL

import farlabs
from farlabs import ContributionLedger, DistributedModel, FarMesh, Peer


def test_peers_of_this_process_serve_a_mesh():
    half = LAYERS // 2
    with (
        Peer.start(MODEL, (0, half), threads=1) as first,
        Peer.start(MODEL, (half, LAYERS), threads=1) as second,
    ):
        stream = FarMesh(peers=[first.address, second.address], model=MODEL).generate(
            "Once upon a time", max_tokens=5, temperature=0
        )
        assert len(stream.text()) > 0
        assert [node.node_id for node in stream.nodes_used] == [first.node_id, second.node_id]
        assert first.stats()["rows"] > 0


def test_a_model_tells_what_it_is_and_its_tokens():
    model = DistributedModel.open(MODEL, local=True, threads=1)
    info = model.info()
    assert info["num_layers"] == LAYERS and info["peers"] == []
    ids = model.encode("Once upon a time")
    assert model.decode(ids).strip() == "Once upon a time"
    assert b"".join(map(model.token_bytes, ids)).decode().strip() == "Once upon a time"
    with pytest.raises(farlabs.NotFoundError):
        DistributedModel.open("/nowhere", local=True)


def test_the_ledger_knows_what_a_stream_cost(mesh, at):
    stream = at.generate("Once upon a time", max_tokens=7, temperature=0)
    stream.text()
    ledger = ContributionLedger.open(mesh.ledger)
    session = ledger.session_of_request(stream.request_id)
    assert session["tokens_generated"] == 7
    assert session["total_cost_far"] == stream.cost_far == Decimal("0.0007")
    assert sum(part["payment_far"] for part in session["contributions"]) == stream.cost_far
    assert ledger.audit()["findings"] == []
    with pytest.raises(farlabs.NotFoundError):
        ledger.session("none")


def test_a_session_keeps_its_text_and_tells_its_tokens():
    model = DistributedModel.open(MODEL, local=True, threads=1)
    session = model.open_session()
    stream = session.generate("Once upon a time", max_tokens=6, temperature=0, top_logprobs=2)
    tokens = list(stream)
    assert len(tokens) == 6
    assert all(token.logprob <= 0 and len(token.top) == 2 for token in tokens)
    assert all(token.top[0] == (token.id, pytest.approx(token.logprob)) for token in tokens)
    usage = stream.usage()
    assert (usage["tokens"], usage["finish_reason"]) == (6, "length")
    assert usage["hops"][0]["layers"] == (0, LAYERS)
    assert session.ids()[-6:] == [token.id for token in tokens]

    again = model.open_session().generate_ids(
        model.encode("Once upon a time"), max_tokens=6, temperature=0
    )
    assert [token.id for token in again] == [token.id for token in tokens]
    reply = session.chat([{"role": "user", "content": "Hello"}], max_tokens=3, ignore_eos=True)
    assert len(list(reply)) == 3


def test_a_turn_is_read_in_an_event_loop_and_takes_no_thread():
    session = DistributedModel.open(MODEL, local=True, threads=1).open_session()
    options = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}

    async def read() -> list[int]:
        return [token.id async for token in session.generate("Once upon a time", **options)]

    ids = asyncio.run(read())
    assert session.ids()[-8:] == ids
    before = threading.active_count(), len(os.listdir("/proc/self/task"))
    with session.generate(" and", **options) as stream:
        for _ in stream:
            assert (threading.active_count(), len(os.listdir("/proc/self/task"))) == before
    assert stream.usage()["finish_reason"] == "length"


def test_what_a_draft_model_guesses_changes_no_token():
    options = {"max_tokens": 24, "temperature": 1, "seed": 7, "ignore_eos": True}
    plain = DistributedModel.open(MODEL, local=True, threads=1)
    ids = [token.id for token in plain.open_session().generate("The fox", **options)]
    ahead = DistributedModel.open(MODEL, local=True, draft_model=MODEL, threads=1)
    guessed = ahead.open_session().generate("The fox", max_draft=8, **options)
    assert [token.id for token in guessed] == ids
    with pytest.raises(farlabs.NotFoundError):
        DistributedModel.open(MODEL, local=True, draft_model="/nowhere")


def test_a_turn_is_cancelled_and_the_session_goes_on():
    session = DistributedModel.open(MODEL, local=True, threads=1).open_session(buffer_tokens=1)
    stream = session.generate("Once", max_tokens=300, ignore_eos=True)
    next(stream)
    stream.cancel()
    assert list(stream) == [] and stream.usage()["finish_reason"] == "cancelled"
    assert len(list(session.generate("Again", max_tokens=2, ignore_eos=True))) == 2
    del stream
    session.generate("Once", max_tokens=300, ignore_eos=True)  # forgotten at once
    assert len(list(session.generate("Again", max_tokens=2, ignore_eos=True))) == 2
    for wrong in (
        {"model": "m"},
        {"tokens": 3},
        {"max_tokens": "many"},
        {"stop": [7]},
        {"top_logprobs": "many"},
        {"max_draft": -1},
    ):
        with pytest.raises(TypeError):
            session.generate("x", **wrong)
    with pytest.raises(farlabs.InvalidRequestError):
        list(session.generate("x", temperature=-1))
