"""How Anthropic's API writes errors."""

from __future__ import annotations

import secrets
from typing import Any

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_object(status: int, message: str) -> dict[str, Any]:
    """The body of an error, with an id of its own."""
    detail = {"type": _TYPES.get(status, "api_error"), "message": message}
    return {"type": "error", "error": detail, "request_id": f"req_{secrets.token_hex(12)}"}
