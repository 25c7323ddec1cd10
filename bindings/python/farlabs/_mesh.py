"""FarMesh and its streams: names, types and protocols over the native half."""

from __future__ import annotations

import atexit
import itertools
import weakref
from decimal import Decimal
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Iterator,
    Mapping,
    Protocol,
    Sequence,
    TypeVar,
)

from . import _farlabs
from ._types import AskOptions, DailyEarning, Earnings, Model, NodeUse, Status, Token, Usage

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self, Unpack  # typing has them from 3.11 on

_open_readers: weakref.WeakSet[_Reader[Any]] = weakref.WeakSet()


@atexit.register
def _close_readers() -> None:
    # No thread may come back to an interpreter that ends.
    for reader in list(_open_readers):
        reader.close()
    _farlabs.let_go()


_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class _Native(Protocol[_T_co]):
    def next(self) -> _T_co | None: ...
    def ready(self) -> bool: ...
    def on_ready(self, wakes: _farlabs.Wakes, ticket: int) -> None: ...
    def close(self) -> None: ...


class _Waiting:
    """Those who wait in one event loop, woken by a descriptor that it watches."""

    _of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting] = (
        weakref.WeakKeyDictionary()
    )

    @classmethod
    def of_this_loop(cls) -> _Waiting:
        import asyncio  # who waits has it already; others need not wait for it

        loop = asyncio.get_running_loop()
        waiting = cls._of.get(loop)
        if waiting is None:
            waiting = cls._of[loop] = cls()
            loop.add_reader(waiting._wakes.fileno(), waiting._wake)
        return waiting

    def __init__(self) -> None:
        self._wakes = _farlabs.Wakes()
        self._tickets = itertools.count()
        self._futures: dict[int, asyncio.Future[None]] = {}

    async def wait_for(self, native: _Native[Any]) -> None:
        """Returns when there may be something to read."""
        import asyncio

        ticket = next(self._tickets)
        future = self._futures[ticket] = asyncio.get_running_loop().create_future()
        native.on_ready(self._wakes, ticket)
        try:
            await future
        finally:
            del self._futures[ticket]

    def _wake(self) -> None:
        for ticket in self._wakes.take():
            future = self._futures.get(ticket)
            if future is not None and not future.done():
                future.set_result(None)


class _Reader(Iterator[_T], AsyncIterator[_T]):
    """What comes bit by bit from a thread of the library's, for ``for`` and for ``async for``."""

    __slots__ = ("_native", "__weakref__")

    def __init__(self, native: _Native[_T]) -> None:
        self._native = native
        _open_readers.add(self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        piece = self._native.next()
        if piece is None:
            raise StopIteration
        return piece

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        while not self._native.ready():
            await _Waiting.of_this_loop().wait_for(self._native)
        piece = self._native.next()
        if piece is None:
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        """Ends it; what was not read is dropped. Any thread, any number of times."""
        self._native.close()

    async def aclose(self) -> None:
        """``close()``, for contextlib.aclosing and its like."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Stream(_Reader[str]):
    """An answer as it is made: pieces of text for ``for`` and for ``async for``.

    Leaving the loop, ``close()`` and the end of a ``with`` block end it at the other end too.
    """

    __slots__ = ()
    _native: _farlabs.Stream

    def text(self) -> str:
        """Waits for the end. The whole answer, with what was read before."""
        return self._native.text()

    async def atext(self) -> str:
        """``text()`` for event loops."""
        async for _ in self:
            pass
        return self._native.text()

    @property
    def usage(self) -> Usage:
        """Counts, cost and nodes: so far, or of the whole once it has ended."""
        prompt, tokens, ttft, finish, cost, nodes, resumed = self._native.usage()
        used = [NodeUse(*node) for node in nodes]
        return Usage(prompt, tokens, ttft, finish, cost, used, resumed)

    @property
    def cost_far(self) -> Decimal | None:
        """What the answer costs, exactly; None until that is known."""
        return self.usage.cost_far

    @property
    def nodes_used(self) -> list[NodeUse]:
        """Who made the answer, in route order; empty until that is known."""
        return self.usage.nodes_used

    @property
    def request_id(self) -> str | None:
        """What an operator can look up; None until the other side has told it."""
        return self._native.request_id() or None


class TokenStream(_Reader[Token]):
    """The tokens of one turn of a Session, for ``for`` and for ``async for``."""

    __slots__ = ()
    _native: _farlabs.Tokens

    def cancel(self) -> None:
        """Ends the turn; the session stays usable."""
        self.close()

    def usage(self) -> dict[str, Any]:
        """So far, or of the whole turn once it has ended."""
        return self._native.usage()


def _text(value: str, what: str) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    return value.encode()


class FarMesh:
    """The mesh: ask, and text streams back.

    At a coordinator: ``FarMesh(api_key="…")``. ``api_key`` and ``base_url`` come from the
    environment variables FARLABS_API_KEY and FARLABS_BASE_URL where they are not given; without any,
    the public tier of http://localhost:8100 answers.

    Without a coordinator: ``FarMesh(bootstrap="/ip4/…/tcp/31337", model="FOLDER")`` finds the peers
    itself. FOLDER holds config.json, the tokenizer and, unless ``remote_head``, the head's weights.
    ``peers=["HOST:PORT"]`` names them instead, and ``local=True`` computes every layer here.
    ``draft_model``, the folder of a small model with the same tokenizer, guesses tokens ahead: the
    text is the same, sooner where it is often right.

    Timeouts are in seconds, ``timeout`` of silence. Calls that fail in passing are tried again
    ``max_retries`` times, and a stream that breaks goes on where it broke.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        model: str | None = None,
        timeout: float = 120.0,
        connect_timeout: float = 10.0,
        max_retries: int = 4,
        ca_file: str | None = None,
        bootstrap: str | Sequence[str] | None = None,
        peers: Sequence[str] | None = None,
        local: bool = False,
        remote_head: bool = False,
        draft_model: str | None = None,
        threads: int = 0,
        join_token_file: str | None = None,
    ) -> None:
        if bootstrap is None and peers is None and not local:
            self._native = _farlabs.Mesh.connect(
                api_key or "",
                base_url or "",
                model or "",
                connect_timeout,
                timeout,
                max_retries,
                ca_file or "",
            )
            return
        if api_key is not None or base_url is not None:
            raise TypeError("api_key and base_url are a coordinator's; the mesh itself needs none")
        if not model:
            raise TypeError("without a coordinator, model must name the model's folder")
        starts = [bootstrap] if isinstance(bootstrap, str) else list(bootstrap or [])
        self._native = _farlabs.Mesh.open(
            model,
            starts,
            list(peers or []),
            local,
            remote_head,
            draft_model or "",
            threads,
            join_token_file or "",
        )

    def chat(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        **options: Unpack[AskOptions],
    ) -> Stream:
        """Answers ``prompt``, or the conversation ``messages`` so far (each with "role" and
        "content"). Nothing is waited for: what goes wrong is raised where the stream is read."""
        if (prompt is None) == (messages is None):
            raise TypeError("chat() takes a prompt or messages")
        if messages is None:
            messages = [{"role": "user", "content": prompt or ""}]
            _text(prompt, "prompt")  # type: ignore[arg-type]
        told = [(_text(m["role"], "role"), _text(m["content"], "content")) for m in messages]
        return Stream(self._native.chat(told, native_options(options)))

    def generate(self, prompt: str, **options: Unpack[AskOptions]) -> Stream:
        """Continues ``prompt`` as it stands. As chat() otherwise."""
        text = _text(prompt, "prompt")
        return Stream(self._native.generate(text, native_options(options)))

    def models(self) -> list[Model]:
        """Every model that is served."""
        return [Model(*row) for row in self._native.models()]

    def status(self, model: str | None = None) -> Status:
        """How a model stands; without one, this FarMesh's own."""
        return Status(*self._native.status(model or ""))

    def earnings(self, wallet: str) -> Earnings:
        """What the nodes of ``wallet`` (0x…) have earned. Asked of a coordinator only."""
        told = self._native.earnings(wallet)
        return Earnings(*told[:-1], [DailyEarning(*day) for day in told[-1]])


def native_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call in the native half's types."""
    options = {name: value for name, value in given.items() if value is not None}
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    if "logit_bias" in options:
        options["logit_bias"] = dict(options["logit_bias"])
    if "max_cost_far" in options:
        options["max_cost_far"] = format(Decimal(options["max_cost_far"]), "f")
    return options
