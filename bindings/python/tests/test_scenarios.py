"""tests/sdk/scenarios.json, at a coordinator and over the peers themselves."""

from __future__ import annotations

import json
import pathlib
from decimal import Decimal

import pytest
from conftest import MODEL, Program

from farlabs import FarMesh, FarMeshError
from farlabs._errors import _CLASSES

SCENARIOS = json.loads(
    (pathlib.Path(__file__).parents[3] / "tests/sdk/scenarios.json").read_text()
)["scenarios"]


@pytest.fixture(scope="module")
def coordinator(mesh):
    return FarMesh(base_url=mesh.url, max_retries=20), {}


@pytest.fixture(scope="module")
def direct(mesh):
    return FarMesh(bootstrap=mesh.bootstrap, model=MODEL), {}


@pytest.fixture(scope="module")
def guessed(mesh):
    return FarMesh(peers=mesh.peers, model=MODEL, draft_model=MODEL), {}


def start(asked: FarMesh, scenario: dict):
    options = dict(scenario["options"])
    if "logit_bias" in options:
        options["logit_bias"] = {int(token): bias for token, bias in options["logit_bias"].items()}
    if "generate" in scenario:
        return asked.generate(scenario["generate"] * scenario.get("repeat", 1), **options)
    if "chat" in scenario:
        return asked.chat(scenario["chat"], **options)
    return asked.chat(messages=scenario["messages"], **options)


def play(asked: FarMesh, told: dict[str, str], scenario: dict, at: Program | None = None) -> None:
    """``at``: the coordinator that is asked."""
    expect = scenario["expect"]
    stream = start(asked, scenario)
    if "error" in expect:
        with pytest.raises(_CLASSES[expect["error"]]) as caught:
            stream.text()
        assert caught.value.code == expect["code"]
        with pytest.raises(FarMeshError):  # told again
            stream.text()
        return
    pieces = []
    while len(pieces) != scenario.get("close_after"):
        piece = next(stream, None)
        if piece is None:
            break
        assert piece
        pieces.append(piece)
        if len(pieces) == scenario.get("kill_after"):
            at.stop()
            at.start()
    else:
        stream.close()
    text = "".join(pieces)
    assert stream.text() == text
    told[scenario["name"]] = text
    usage = stream.usage
    if "tokens" in expect:
        assert usage.tokens == expect["tokens"]
    if "finish" in expect:
        assert usage.finish_reason == expect["finish"]
    if "cost_far" in expect:
        assert usage.cost_far == (Decimal(expect["cost_far"]) if at else 0)
    if "same_as" in expect:
        assert text == told[expect["same_as"]]
    if "starts_as" in expect:
        assert text.startswith(told[expect["starts_as"]])
    if "without" in expect:
        assert expect["without"] not in text and text
    if usage.finish_reason != "cancelled":
        assert usage.prompt_tokens > 0 and usage.ttft_ms > 0
    assert (usage.resumed > 0) == ("kill_after" in scenario)


def test_there_are_scenarios_for_everything():
    assert len(SCENARIOS) >= 30


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s["name"])
def test_at_a_coordinator(mesh, coordinator, scenario):
    if "kill_after" in scenario and not mesh.redis:
        pytest.skip("there is no Redis here")
    play(*coordinator, scenario, mesh.coordinator)


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s["direct"]], ids=lambda s: s["name"])
def test_over_the_peers(direct, scenario):
    play(*direct, scenario)


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s["direct"]], ids=lambda s: s["name"])
def test_guessed_ahead_over_the_peers(guessed, scenario):
    play(*guessed, scenario)


def test_every_way_tells_the_same(coordinator, direct, guessed):
    for name in ("text", "a stop string", "a chat", "a conversation", "a seed"):
        assert coordinator[1][name] == direct[1][name] == guessed[1][name]
