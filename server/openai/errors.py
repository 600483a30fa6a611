"""The error shape of OpenAI's API."""

from __future__ import annotations

from typing import Any

from server.http.errors import ErrorInfo

_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}


def error_object(info: ErrorInfo) -> dict[str, Any]:
    """The body of an error."""
    kind = _TYPES.get(info.status, "api_error")
    counted = not info.limit or info.tokens  # such texts have the numbers
    message = info.message if counted else f"{info.message} (at most {info.limit} tokens)"
    return {"error": {"message": message, "type": kind, "param": info.param or None, "code": info.code or None}}
