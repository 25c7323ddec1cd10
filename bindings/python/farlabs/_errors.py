"""What can go wrong: one class for each thing that one may do about it."""

from __future__ import annotations


class FarMeshError(Exception):
    """A call to the mesh failed.

    ``code`` is stable and for programs ("insufficient_credit", "connection_lost"), ``request_id``
    is what an operator can look up, ``status`` the HTTP status or None.
    """

    code: str
    message: str
    request_id: str | None
    status: int | None
    retry_after: int | None  #: seconds, where the other side asked to wait

    def __init__(
        self,
        code: str,
        message: str = "",
        request_id: str | None = None,
        status: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code, message, request_id, status, retry_after)
        self.code = code
        self.message = message
        self.request_id = request_id
        self.status = status
        self.retry_after = retry_after

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}" if self.message else self.code
        return f"{text} (request {self.request_id})" if self.request_id else text


class InvalidRequestError(FarMeshError):
    """A value was refused."""


class AuthenticationError(FarMeshError):
    """No API key, or a wrong one."""


class PaymentRequiredError(FarMeshError):
    """The account's credit does not cover the request."""


class PermissionDeniedError(FarMeshError):
    """The key may not do this."""


class NotFoundError(FarMeshError):
    """No such model, folder or request."""


class ConflictError(FarMeshError):
    """The request contradicts an earlier one."""


class RateLimitError(FarMeshError):
    """Too many requests; ``retry_after`` says when to come again."""


class UnavailableError(FarMeshError):
    """The mesh, or its queue, cannot take the request now."""


class ServerError(FarMeshError):
    """A fault of the other side."""


class ConnectionFailedError(FarMeshError):
    """No connection, a lost one, or an answer that is none."""


class RequestTimeoutError(FarMeshError):
    """Silence for longer than ``timeout``."""


_CLASSES = {
    "invalid_request": InvalidRequestError,
    "authentication": AuthenticationError,
    "payment_required": PaymentRequiredError,
    "permission": PermissionDeniedError,
    "not_found": NotFoundError,
    "conflict": ConflictError,
    "rate_limited": RateLimitError,
    "unavailable": UnavailableError,
    "server": ServerError,
    "connection": ConnectionFailedError,
    "timeout": RequestTimeoutError,
}


def _make(
    kind: str, code: str, message: str, request_id: str, status: int, retry_after: int | None
) -> FarMeshError:
    make = _CLASSES.get(kind, FarMeshError)
    return make(code, message, request_id or None, status or None, retry_after)
