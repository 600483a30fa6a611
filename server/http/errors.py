"""Errors of the HTTP layer, and the table from exceptions to statuses and bodies.

HTTPError                   a status and a message
├── InvalidBody             400  not JSON, or a wrong type
├── Unauthorized            401
├── NotFound                404
├── Forbidden               403  as `{"error": …}` in every API
├── BodyTooLarge            413
└── UnknownEncoding         415  the body is compressed in a way that is not supported

Any other exception is a defect: the client gets 500 `internal server error`, the log the traceback.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from engine import errors as engine
from engine.chat.prompt import RenderError
from modelfile import gotemplate
from modelfile.create import CreateError
from modelfile.parameters import OptionError
from modelfile.parser import ModelfileError
from modelfile.quantize import QuantizeError
from modelfile.text import cut, quote
from modelfile.worker_client import JobFailed, JobUnsupported
from registry.errors import RegistryError
from registry.gguf import GGUFError
from registry.logfields import REQUEST_ID, fields, tell_request
from registry.manifest import ManifestError
from registry.names import InvalidDigest, InvalidName
from registry.storage.store import ModelMissing, StoreError
from server.http.json_output import encode

log = logging.getLogger("pronk.server")

INTERNAL = "internal server error"
MOST_TEXT = 4096  # characters of an error's text; some repeat what a client sent
CLOUD_DISABLED = "ollama cloud is disabled"
_RETRY_AFTER = "1"  # seconds; a load takes about that long


class HTTPError(Exception):
    """An error with its status; `str()` is the message for the client, `param` the field of the body at fault."""

    status = 400

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class InvalidBody(HTTPError):
    """The body is not JSON, or has a wrong type."""


class Unauthorized(HTTPError):
    """No account is signed in."""

    status = 401


class NotFound(HTTPError):
    """There is no such model, blob or file."""

    status = 404


class Forbidden(HTTPError):
    """The server never does this. In every API the body is `{"error": …}`."""

    status = 403


class BodyTooLarge(HTTPError):
    """The body is larger than `limit` bytes."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"request body too large: at most {limit} bytes are accepted")


class UnknownEncoding(HTTPError):
    """The body has a `Content-Encoding` that is not supported."""

    status = 415

    def __init__(self, encoding: str) -> None:
        super().__init__(f'unsupported Content-Encoding: {quote(cut(encoding))} (must be "zstd")')


STATUS: Mapping[type[Exception], int] = {
    engine.InvalidRequest: 400,
    engine.ModelNotFound: 404,
    engine.CapabilityMissing: 400,
    engine.CloudModel: 403,
    engine.ServerBusy: 503,
    engine.LoadFailed: 500,
    engine.RunnerDied: 500,
    engine.RunnerError: 500,
    engine.AnswerUnread: 500,
    engine.EngineStopped: 503,
    engine.EngineError: 500,
    OptionError: 400,
    ModelfileError: 400,
    CreateError: 400,
    QuantizeError: 400,
    JobFailed: 500,
    JobUnsupported: 400,
    RenderError: 400,
    gotemplate.TemplateError: 400,
    InvalidName: 400,
    InvalidDigest: 400,
    ModelMissing: 404,
    ManifestError: 500,
    GGUFError: 500,
    StoreError: 500,
    RegistryError: 500,
}
"""The status of an exception is that of its nearest ancestor in the table."""

KNOWN: tuple[type[Exception], ...] = (HTTPError, *STATUS)
"""Exceptions that are no defects."""

_FIXED_TEXTS: Mapping[type[Exception], str] = {
    InvalidName: "invalid model name",
    InvalidDigest: "invalid digest format",
}


def status_of(error: Exception) -> int:
    """The HTTP status of an exception, 500 for a defect."""
    if isinstance(error, HTTPError):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def kind_of(error: BaseException) -> str:
    """The name of an exception for metrics, which has no more values than the code has exceptions."""
    return type(error).__name__ if isinstance(error, KNOWN) else "Defect"


def message_of(error: Exception) -> str:
    """The message for the client."""
    if not isinstance(error, KNOWN):
        return INTERNAL
    return next((text for kind, text in _FIXED_TEXTS.items() if isinstance(error, kind)), cut(str(error), MOST_TEXT))


NameOf = Callable[[str], str]
"""Gives a client's name for a field of the engine's requests, "" if it has none."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What a client is told of an error. `param` is the field of the body at fault, `code` a word for programs.

    A prompt that is too long has `tokens` and may have `limit`; 0 if that is not known.
    """

    status: int
    message: str
    param: str = ""
    code: str = ""
    tokens: int = 0
    limit: int = 0

    @classmethod
    def of(cls, error: Exception, name_of: NameOf = str) -> ErrorInfo:
        """What a client is told of an exception, with the client's names for the engine's fields."""
        param, message = error.param if isinstance(error, HTTPError) else "", message_of(error)
        if field := _field_of(error):
            param = name_of(field)
            message = _renamed(message, field, param or field)
        if isinstance(error, engine.ContextExceeded):
            return cls(status_of(error), message, param, "context_length_exceeded", error.tokens, error.limit)
        return cls(status_of(error), message, param)


def _field_of(error: Exception) -> str:
    """The field of the engine's request at fault, "" if there is none such."""
    match error:
        case engine.EngineError():
            return error.field
        case OptionError():
            return error.name
        case InvalidName():
            return "model"
    return ""


def _renamed(message: str, field: str, name: str) -> str:
    """The text of an error with another name for the field, with which such texts begin."""
    return re.sub(rf'\A(invalid |option ")?{re.escape(field)}\b', lambda found: (found[1] or "") + name, message)


ErrorObject = Callable[[ErrorInfo], dict[str, Any]]
"""Makes an API's error object."""


def plain_error(info: ErrorInfo) -> dict[str, Any]:
    """The error object of Ollama's API, and of paths outside all APIs.

    For want of a key it has `status` too: of a 401, `ollama`, the command, shows only that.
    """
    told = {"error": info.message}
    return told | {"status": info.message} if info.code in ("missing_api_key", "invalid_api_key") else told


async def error_response(request: Request, error: Exception) -> Response:
    """The response for an exception, in the shape of the path's API: the handler of all exceptions."""
    kind = kind_of(error)
    request.app.state.metrics.error(kind)
    tell_request(error=kind)
    status = status_of(error)
    if status >= 500 and isinstance(error, KNOWN):  # others come with a traceback
        reason = one_line(message_of(error))
        log.warning("request failed", extra=fields(path=request.url.path, status=status, reason=reason))
    error_object: ErrorObject = request.app.state.error_object_of(request.scope)
    info = ErrorInfo.of(error, name_of(request))
    if isinstance(error, Forbidden | engine.CloudModel):
        error_object = plain_error
    headers = {"content-type": "application/json; charset=utf-8"}
    if status == 503:
        headers["retry-after"] = _RETRY_AFTER
    if isinstance(error, BodyTooLarge | UnknownEncoding) or not isinstance(error, KNOWN):
        # The rest of the body is not read; after a defect uvicorn closes the connection anyway.
        headers["connection"] = "close"
    if not isinstance(error, KNOWN):
        headers["x-request-id"] = REQUEST_ID.get()  # this response bypasses the guard
    return Response(encode(error_object(info)), status, headers)


def name_of(request: Request) -> NameOf:
    """The names of a request's body for the engine's fields, once the body is read."""
    names: NameOf = getattr(request.state, "name_of", str)
    return names


def one_line(text: str) -> str:
    """The text with line breaks and runs of blanks replaced by one blank each."""
    return " ".join(text.split())
