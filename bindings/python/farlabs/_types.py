"""What the calls give back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, TypedDict


class _Options(TypedDict, total=False):
    max_tokens: int | None  #: 512
    temperature: float | None  #: 0.7; 0 takes the likeliest token each time
    top_p: float | None  #: 0.9
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None  #: token id to bias
    seed: int | None  #: equal ones give equal tokens
    stop: str | Sequence[str] | None  #: the text ends before the first of these
    ignore_eos: bool | None


class AskOptions(_Options, total=False):
    """What every question to a FarMesh may be asked with; None is as good as nothing."""

    model: str | None  #: full id or alias; the FarMesh's own without one
    max_cost_far: Decimal | str | None  #: fewer tokens rather than a higher cost


class GenerateOptions(_Options, total=False):
    """What a Session's turn may be asked with; None is as good as nothing."""

    top_logprobs: int | None  #: alternatives told with each token, at most 20
    max_draft: int | None  #: tokens guessed ahead and verified in one step, at most 16; 0


class NodeUse(NamedTuple):
    """A node that made tokens of an answer, and the layers it ran: first, and one past the last."""

    node_id: str
    first_layer: int
    end_layer: int

    @property
    def layers(self) -> range:
        return range(self.first_layer, self.end_layer)


class Usage(NamedTuple):
    """So far, or of the whole answer once it has ended."""

    prompt_tokens: int  #: 0 until the end
    tokens: int  #: generated; pieces of text until the end
    ttft_ms: float  #: from the call to the first text
    finish_reason: str  #: "stop", "length", "cancelled"; "none" while it runs
    cost_far: Decimal | None  #: exact; None until it is known
    nodes_used: list[NodeUse]  #: in route order; known at the end
    resumed: int  #: times that a broken stream was gone on with


class Token(NamedTuple):
    """One token of a Session."""

    id: int
    text: str  #: what became complete with it, in whole characters; may be empty
    logprob: float
    top: list[tuple[int, float]]  #: ids and log-probabilities, likeliest first


class Model(NamedTuple):
    """A model that is served."""

    model_id: str
    active_nodes: int
    price_per_token_far: Decimal
    available: bool  #: every layer has a node


class Status(NamedTuple):
    """How a model stands."""

    model_id: str
    active_nodes: int
    active_sessions: int
    price_per_token_far: Decimal
    connected: bool


class DailyEarning(NamedTuple):
    """What was earned on a day such as "2026-11-23"."""

    date: str
    amount_far: Decimal


class Earnings(NamedTuple):
    """What the nodes of a wallet have earned."""

    wallet_address: str
    total_earned_far: Decimal
    pending_payout_far: Decimal  #: earned, not yet paid out
    total_tokens_served: int
    active_nodes: int
    avg_uptime_percent: float
    history: list[DailyEarning]
