"""What a type checker knows of the package; test_types.py asks one. Nothing here is run."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from typing_extensions import assert_type

from farlabs import (
    AskOptions,
    ContributionLedger,
    DistributedModel,
    Earnings,
    FarMesh,
    Model,
    NodeUse,
    Peer,
    RateLimitError,
    Rows,
    Session,
    Status,
    Stream,
    Token,
    TokenStream,
    Usage,
)

mesh = FarMesh(api_key="key", base_url="http://localhost:8100", timeout=1, max_retries=1)
FarMesh(bootstrap="/ip4/127.0.0.1/tcp/31337", model="folder", draft_model="other")

for text in mesh.chat("Hello"):
    assert_type(text, str)
stream = mesh.chat(messages=[{"role": "user", "content": "Hello"}], stop=["."], seed=7)
assert_type(stream, Stream)
assert_type(stream.text(), str)
assert_type(next(stream), str)
assert_type(stream.usage, Usage)
assert_type(stream.cost_far, Decimal | None)
assert_type(stream.nodes_used, list[NodeUse])
assert_type(stream.request_id, str | None)
with stream as same:
    assert_type(same, Stream)

options: AskOptions = {"max_tokens": 3, "max_cost_far": "0.1"}
mesh.generate("Hello", **options)
mesh.generate("Hello", max_tokens="many")  # type: ignore[arg-type]
mesh.generate("Hello", tokens=1)  # type: ignore[call-arg]
mesh.generate(b"Hello")  # type: ignore[arg-type]
mesh.chat(messages="Hello")  # type: ignore[arg-type]

assert_type(mesh.models(), list[Model])
assert_type(mesh.status(), Status)
assert_type(mesh.earnings("0x0").total_earned_far, Decimal)
assert_type(mesh.earnings("0x0"), Earnings)


async def main() -> None:
    async for text in mesh.generate("Hello"):
        assert_type(text, str)
    async with mesh.chat("Hello") as answer:
        assert_type(answer, Stream)
        assert_type(await answer.atext(), str)


def told(error: RateLimitError) -> None:
    assert_type((error.code, error.retry_after), tuple[str, int | None])


with Peer.start("folder", (0, 3)) as peer:
    assert_type(peer.address, str)
model = DistributedModel.open("folder", peers=[peer.address])
session = model.open_session()
assert_type(session, Session)
tokens = session.generate("Hello", max_tokens=8, top_logprobs=2)
assert_type(tokens, TokenStream)
assert_type(tokens.usage(), dict[str, Any])
for token in tokens:
    assert_type(token, Token)
assert_type(model.open_hidden_session().run(model.embed([1])), Rows)
assert_type(ContributionLedger.open("file").audit(), dict[str, Any])
