"""Large language models served by many machines: ask the mesh, and text streams back.

    from farlabs import FarMesh

    mesh = FarMesh(api_key="…")
    for token in mesh.chat("What is a mesh?"):
        print(token, end="")
"""

import importlib.util as _importlib_util
import os as _os

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
from ._farlabs import (
    ContributionLedger,
    DistributedModel,
    HiddenSession,
    Peer,
    Rows,
    Session,
    __version__,
)
from ._mesh import FarMesh, Stream, TokenStream
from ._types import (
    AskOptions,
    DailyEarning,
    Earnings,
    GenerateOptions,
    Model,
    NodeUse,
    Status,
    Token,
    Usage,
)

# Of `pip install farlabs[engine]`; the library opens it once a model is computed here.
if "FARMESH_TORCH_LIBRARY" not in _os.environ and (
    _engine := _importlib_util.find_spec("farlabs_engine")
):
    _os.environ["FARMESH_TORCH_LIBRARY"] = _os.path.join(
        _os.path.dirname(_engine.origin or ""), "libfarmesh_torch.so"
    )

__all__ = [
    "AskOptions",
    "AuthenticationError",
    "ConflictError",
    "ConnectionFailedError",
    "ContributionLedger",
    "DailyEarning",
    "DistributedModel",
    "Earnings",
    "FarMesh",
    "FarMeshError",
    "GenerateOptions",
    "HiddenSession",
    "InvalidRequestError",
    "Model",
    "NodeUse",
    "NotFoundError",
    "PaymentRequiredError",
    "Peer",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "Rows",
    "ServerError",
    "Session",
    "Status",
    "Stream",
    "Token",
    "TokenStream",
    "UnavailableError",
    "Usage",
    "__version__",
]
