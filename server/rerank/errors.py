"""The error shape of Cohere's API."""

from __future__ import annotations

from typing import Any

from server.http.errors import ErrorInfo


def error_object(info: ErrorInfo) -> dict[str, Any]:
    """The body of an error."""
    return {"message": info.message}
