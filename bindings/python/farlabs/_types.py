"""What the calls give back."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple


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


class Model(NamedTuple):
    model_id: str
    active_nodes: int
    price_per_token_far: Decimal
    available: bool  #: every layer has a node


class Status(NamedTuple):
    model_id: str
    active_nodes: int
    active_sessions: int
    price_per_token_far: Decimal
    connected: bool


class DailyEarning(NamedTuple):
    date: str
    amount_far: Decimal


class Earnings(NamedTuple):
    wallet_address: str
    total_earned_far: Decimal
    pending_payout_far: Decimal  #: earned, not yet paid out
    total_tokens_served: int
    active_nodes: int
    avg_uptime_percent: float
    history: list[DailyEarning]
