"""The APIs that the server speaks: the paths, routes and error shape of each."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from starlette.types import Scope as ASGIScope

from server import monitoring
from server.anthropic import errors as anthropic_errors
from server.anthropic import messages
from server.http import docs
from server.http.cors import Headers
from server.http.errors import ErrorObject, plain_error
from server.http.keys import Scope
from server.llamacpp import tokenize as llamacpp
from server.ollama import cloud, create, embed, inference, manage, plan, ps, show, status, tags, tokenize, transfer
from server.openai import chat, completions, embeddings, models, responses, transcriptions
from server.openai import errors as openai_errors
from server.rerank import errors as cohere_errors
from server.rerank import routes as rerank


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API: the prefix of its paths, the shape of its errors, its routes.

    `request_id`: a header of its answers that has the request's id too, and what stands before the id. `header`: one
    that all its requests have, where another API has the same paths.
    """

    prefix: str
    error_object: ErrorObject
    routers: tuple[APIRouter, ...]
    request_id: tuple[str, str] | None = None
    header: str = ""

    def takes(self, scope: ASGIScope) -> bool:
        """Whether a request is one of this API, as far as prefix and header tell."""
        of_header = not self.header or any(name == self.header.encode() for name, _ in scope["headers"])
        return f"{scope['path']}/".startswith(self.prefix) and of_header


_CLAUDE_ID = ("request-id", anthropic_errors.ID_PREFIX)
_OLLAMA = (status, tags, ps, plan, inference, show, manage, create, transfer, embed, tokenize, cloud, docs)

DIALECTS = (
    Dialect(
        "",
        plain_error,
        tuple(module.router for module in _OLLAMA),
    ),
    Dialect("", plain_error, (llamacpp.router, rerank.router, monitoring.router)),
    Dialect(
        "/v1/",
        openai_errors.error_object,
        (
            models.router,
            chat.router,
            completions.router,
            embeddings.router,
            responses.router,
            transcriptions.router,
            rerank.v1_router,
        ),
    ),
    Dialect("/v2/", cohere_errors.error_object, (rerank.v2_router,)),
    Dialect("/v1/messages/", anthropic_errors.error_object, (messages.router,), _CLAUDE_ID),
    Dialect("/v1/models/", anthropic_errors.error_object, (), _CLAUDE_ID, models.ANTHROPIC_VERSION),
)
"""A request belongs to the dialect that takes it and has the longest prefix."""

_SCOPES: dict[Scope | None, tuple[str, ...]] = {
    None: ("/", "/api/version", "/healthz", "/readyz", "/openapi.json", "/docs"),
    "read": ("/api/status", "/api/tags", "/api/ps", "/api/plan", "/api/show", "/v1/models", "/metrics"),
    "infer": (
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/api/rerank",
        "/api/tokenize",
        "/api/detokenize",
        "/api/render",
        "/api/experimental",
        "/tokenize",
        "/detokenize",
        "/apply-template",
        "/rerank",
        "/reranking",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/audio/transcriptions",
        "/v1/rerank",
        "/v1/reranking",
        "/v1/messages",
        "/v2/rerank",
    ),
    "manage": (
        "/api/copy",
        "/api/delete",
        "/api/blobs",
        "/api/create",
        "/api/pull",
        "/api/push",
        "/api/me",
        "/api/user",
        "/api/signout",
    ),
}
"""The scope of API keys that a path needs, and all paths below it; None: no key."""

_SCOPE_OF = {path: scope for scope, paths in _SCOPES.items() for path in paths}

ROUTERS = tuple(router for dialect in DIALECTS for router in dialect.routers)


def error_object_of(scope: ASGIScope) -> ErrorObject:
    """The error shape for a request, of which path and headers count. The path need not be a route."""
    return _dialect_of(scope).error_object


def request_id_headers(scope: ASGIScope, request_id: str) -> Headers:
    """Headers for the answer to a request that have its id, beside the one that every answer has."""
    header = _dialect_of(scope).request_id
    return [] if header is None else [(header[0].encode(), f"{header[1]}{request_id}".encode())]


def _dialect_of(scope: ASGIScope) -> Dialect:
    return max((dialect for dialect in DIALECTS if dialect.takes(scope)), key=lambda dialect: len(dialect.prefix))


def scope_of(path: str) -> Scope | None:
    """The scope of API keys that a path needs; None if everybody may. Without an entry: "manage"."""
    above = path
    while above and above not in _SCOPE_OF:
        above = above.rpartition("/")[0]
    return _SCOPE_OF[above] if above else "manage"
