"""Hidden states in and out: as NumPy arrays, as DLPack tensors, and as what is neither."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
from conftest import LAYERS, MODEL

import farlabs
from farlabs import DistributedModel, Peer, Rows

WIDTH = {"f32": np.float32, "bf16": np.uint16}  # NumPy has no bf16: its bits
TEXT = "Once upon a time there was a fox who"


class Foreign:
    """A tensor of another library's, which speaks DLPack and nothing else."""

    def __init__(self, rows: Rows, device: tuple[int, int] = (1, 0)) -> None:
        self._rows = rows
        self._device = device

    def __dlpack__(self, stream: object = None) -> object:
        return self._rows.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


@pytest.fixture(scope="module", params=["f32", "bf16"])
def model(request):
    return DistributedModel.open(MODEL, local=True, threads=1, precision=request.param)


def bits(rows: Rows) -> bytes:
    return np.asarray(rows).tobytes()


def test_over_three_peers_they_are_bit_for_bit_those_of_one_process(model):
    dtype = model.info()["hidden_dtype"]
    states = model.embed(model.encode(TEXT))
    expected = model.open_hidden_session().run(states)
    assert (expected.dtype, expected.shape) == (dtype, states.shape)
    third = LAYERS // 3
    with (
        Peer.start(MODEL, (0, third), threads=1, precision=dtype) as a,
        Peer.start(MODEL, (third, 2 * third), threads=1, precision=dtype) as b,
        Peer.start(MODEL, (2 * third, LAYERS), threads=1, precision=dtype) as c,
    ):
        there = DistributedModel.open(
            MODEL, peers=[a.address, b.address, c.address], threads=1, precision=dtype
        )
        session = there.open_hidden_session()
        assert bits(session.run(states)) == bits(expected)
        assert [hop["peer"] for hop in session.hops()] == [a.address, b.address, c.address]


def test_the_head_makes_the_token_of_them_that_a_session_makes(model):
    ids = model.encode(TEXT)
    out = model.open_hidden_session().run(model.embed(ids))
    logits = np.asarray(model.logits(out))
    assert logits.dtype == np.float32
    assert logits.shape == (len(ids), model.info()["vocab_size"])
    token = next(model.open_session().generate(TEXT, max_tokens=1, temperature=0))
    assert int(logits[-1].argmax()) == token.id


def test_numpy_reads_and_gives_them_where_they_lie(model):
    states = model.embed(model.encode(TEXT))
    seen = np.asarray(states)
    assert seen.dtype == WIDTH[states.dtype] and seen.shape == states.shape
    assert seen.ctypes.data == np.asarray(states).ctypes.data and not seen.flags.writeable
    expected = bits(model.open_hidden_session().run(states))

    mine = seen.copy()
    held = sys.getrefcount(mine)
    session = model.open_hidden_session()
    out = session.run(mine)
    assert bits(out) == expected
    assert sys.getrefcount(mine) > held  # kept, and so not copied
    half = mine[: len(mine) // 2]  # a part of it is one row after the other too
    session.truncate(0)
    assert np.array_equal(np.asarray(session.run(half)), np.asarray(out)[: len(half)])
    session.truncate(0)
    session.cancel()
    del session, half
    for _ in range(2000):  # until the library's threads have let it go
        if sys.getrefcount(mine) == held:
            break
        model.info()
    assert sys.getrefcount(mine) == held


def test_dlpack_tensors_go_in_and_out(model):
    states = model.embed(model.encode(TEXT))
    session = model.open_hidden_session()
    out = session.run(states)
    again = model.open_hidden_session().run(Foreign(states))
    assert bits(again) == bits(out)
    assert out.__dlpack_device__() == (1, 0)
    if out.dtype == "f32":
        tensor = np.from_dlpack(out)
        assert tensor.ctypes.data == np.asarray(out).ctypes.data
        assert not tensor.flags.writeable
        del tensor
    for version in (None, (0, 8), (1, 0), (2, 0)):
        capsule = out.__dlpack__(max_version=version)
        assert ("versioned" in repr(capsule)) == (version is not None and version[0] >= 1)
    expected = bits(out)
    capsules = [out.__dlpack__() for _ in range(3)]  # never used: they take themselves down
    del out, capsules
    gc.collect()
    assert bits(again) == expected


def test_what_a_model_gives_outlives_it():
    model = DistributedModel.open(MODEL, local=True, threads=1)
    session = model.open_hidden_session()
    out = session.run(model.embed(model.encode("Once")))
    logits = model.logits(out)
    before = bits(out), bits(logits)
    del model, session
    gc.collect()
    assert (bits(out), bits(logits)) == before


def test_what_are_no_hidden_states_is_refused_clearly(model):
    session = model.open_hidden_session(context_tokens=8)
    dtype = model.info()["hidden_dtype"]
    columns = model.info()["hidden_size"]
    good = np.zeros((2, columns), WIDTH[dtype])
    session.run(good)
    for wrong, why in (
        (np.zeros((2, columns + 1), WIDTH[dtype]), rf"\[n, {columns}\] of {dtype}"),
        (np.zeros((0, columns), WIDTH[dtype]), r"not \[0, "),
        (np.zeros((2, columns), WIDTH["bf16" if dtype == "f32" else "f32"]), f"of {dtype}"),
        (np.zeros((2, columns), np.float64), "format"),
        (np.zeros((2, columns), np.int64), "format"),
        (np.zeros(columns, WIDTH[dtype]), "1 dimensions"),
        (np.zeros((1, 2, columns), WIDTH[dtype]), "3 dimensions"),
        (np.full((2, columns), np.nan if dtype == "f32" else 0x7FC0, WIDTH[dtype]), "NaN"),
        (Foreign(model.embed([5]), (2, 0)), "main memory"),
    ):
        with pytest.raises(farlabs.InvalidRequestError, match=why) as caught:
            session.run(wrong)
        assert caught.value.code == "invalid_argument"
        with pytest.raises(farlabs.InvalidRequestError):
            model.logits(wrong)
    for wrong in (None, 7, "text", [[1.0]], np.zeros((4, columns), WIDTH[dtype])[:, ::2]):
        with pytest.raises(TypeError):
            session.run(wrong)
    with pytest.raises(farlabs.InvalidRequestError) as caught:
        session.run(np.zeros((7, columns), WIDTH[dtype]))
    assert caught.value.code == "context_exceeded"
    for wrong in ([], [1 << 30]):
        with pytest.raises(farlabs.InvalidRequestError):
            model.embed(wrong)
    with pytest.raises(farlabs.InvalidRequestError):
        session.truncate(3)
    assert session.position == 2
    session.run(good)
    assert session.position == 4


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(ValueError):
        DistributedModel.open(MODEL, local=True, precision="f64")
