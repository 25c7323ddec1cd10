"""Large language models served by many machines: ask the mesh, and text streams back.

    from farlabs import FarMesh

    mesh = FarMesh(api_key="…")
    for token in mesh.chat("What is a mesh?"):
        print(token, end="")
"""

from ._errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    FarMeshError,
    InvalidRequestError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    UnavailableError,
)
from ._farlabs import ContributionLedger, DistributedModel, Peer, __version__
from ._mesh import FarMesh, Stream
from ._types import DailyEarning, Earnings, Model, NodeUse, Status, Usage

__all__ = [
    "AuthenticationError",
    "ConflictError",
    "ConnectionFailedError",
    "ContributionLedger",
    "DailyEarning",
    "DistributedModel",
    "Earnings",
    "FarMesh",
    "FarMeshError",
    "InvalidRequestError",
    "Model",
    "NodeUse",
    "NotFoundError",
    "PaymentRequiredError",
    "Peer",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ServerError",
    "Status",
    "Stream",
    "UnavailableError",
    "Usage",
    "__version__",
]
