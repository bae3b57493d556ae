"""Errors as gRPC has them: SQLSTATE to status, with google.rpc.ErrorInfo in the details (AIP-193) and `sqlstate`
as trailing metadata.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from filestore import errors

DOMAIN: Final = "filestore"


class NoSuchRow(errors.Error):
    """There is no row with the key that was named."""

    sqlstate = "02000"


# By SQLSTATE, or by its class (the first two characters) where the code itself is not listed.
_STATUS: Final[dict[str, grpc.StatusCode]] = {
    "02": grpc.StatusCode.NOT_FOUND,
    "08": grpc.StatusCode.INVALID_ARGUMENT,
    "08003": grpc.StatusCode.UNAVAILABLE,
    "0A": grpc.StatusCode.UNIMPLEMENTED,
    "21": grpc.StatusCode.INVALID_ARGUMENT,
    "22": grpc.StatusCode.INVALID_ARGUMENT,
    "23": grpc.StatusCode.INVALID_ARGUMENT,
    "23503": grpc.StatusCode.FAILED_PRECONDITION,
    "23505": grpc.StatusCode.ALREADY_EXISTS,
    "25": grpc.StatusCode.FAILED_PRECONDITION,
    "28": grpc.StatusCode.UNAUTHENTICATED,
    "2B": grpc.StatusCode.FAILED_PRECONDITION,
    "3D": grpc.StatusCode.NOT_FOUND,
    "3F": grpc.StatusCode.NOT_FOUND,
    "40": grpc.StatusCode.ABORTED,
    "42": grpc.StatusCode.INVALID_ARGUMENT,
    "42501": grpc.StatusCode.PERMISSION_DENIED,
    "42P01": grpc.StatusCode.NOT_FOUND,
    "53": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "54": grpc.StatusCode.INVALID_ARGUMENT,
    "55": grpc.StatusCode.FAILED_PRECONDITION,
    "55P03": grpc.StatusCode.ABORTED,
    "57": grpc.StatusCode.UNAVAILABLE,
    "57014": grpc.StatusCode.CANCELLED,
    "58": grpc.StatusCode.INTERNAL,
    "58030": grpc.StatusCode.UNAVAILABLE,
    "XX": grpc.StatusCode.INTERNAL,
    "XX001": grpc.StatusCode.DATA_LOSS,
    "XX002": grpc.StatusCode.DATA_LOSS,
}
_FIELDS: Final = ("schema", "table", "column", "datatype", "constraint", "detail", "hint")


def status_code(sqlstate: str) -> grpc.StatusCode:
    """The status that a SQLSTATE is told as."""
    return _STATUS.get(sqlstate) or _STATUS.get(sqlstate[:2]) or grpc.StatusCode.UNKNOWN


def reason(error: errors.Error) -> str:
    """AIP-193's reason: the condition's name in capitals, e.g. UNIQUE_VIOLATION."""
    letters = [f"_{c}" if c.isupper() else c for c in type(error).__name__]
    return "".join(letters).lstrip("_").upper()


def status_of(error: errors.Error) -> Any:
    """The grpc.Status of an error: code, message, ErrorInfo and the trailing metadata."""
    code = status_code(error.sqlstate)
    metadata = {"sqlstate": error.sqlstate}
    for field in _FIELDS:
        value = getattr(error, field)
        if value is not None:
            metadata[field] = str(value)
    information = any_pb2.Any()
    information.Pack(error_details_pb2.ErrorInfo(reason=reason(error), domain=DOMAIN, metadata=metadata))
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=error.message, details=[information]))


async def refuse(context: Any, error: errors.Error) -> None:
    """Ends a call with an error; does not return."""
    status = status_of(error)
    trailing = (*status.trailing_metadata, ("sqlstate", error.sqlstate))
    await context.abort(status.code, status.details, trailing)
