"""The error shape of Anthropic's API."""

from __future__ import annotations

from typing import Any

from registry.logfields import REQUEST_ID
from server.http.errors import ErrorInfo

ID_PREFIX = "req_"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_object(info: ErrorInfo) -> dict[str, Any]:
    """The body of an error. `request_id` is the id in our log and in `X-Request-Id`, behind `req_`."""
    detail = {"type": _TYPES.get(info.status, "api_error"), "message": _message(info)}
    return {"type": "error", "error": detail, "request_id": f"{ID_PREFIX}{REQUEST_ID.get()}"}


def _message(info: ErrorInfo) -> str:
    """The text of an error. Agents shorten their history when they read "prompt is too long", some read the numbers."""
    if info.code != "context_length_exceeded":
        return info.message
    reason = f"{info.tokens} tokens > {info.limit} maximum" if info.tokens else info.message
    return f"prompt is too long: {reason}"
