"""The dialects that the server speaks: for each its paths, its routes, and how it writes errors."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from server.anthropic import errors as anthropic_errors
from server.anthropic import messages
from server.http import docs
from server.http.errors import ErrorObject, plain_error
from server.ollama import cloud, create, embed, inference, manage, meta, show, transfer
from server.openai import embeddings, models
from server.openai import errors as openai_errors


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API: what its paths begin with, how it writes errors, its routes."""

    prefix: str
    error_object: ErrorObject
    routers: tuple[APIRouter, ...]


DIALECTS = (
    Dialect(
        "",
        plain_error,
        tuple(room.router for room in (meta, inference, show, manage, create, transfer, embed, cloud, docs)),
    ),
    Dialect("/v1/", openai_errors.error_object, (models.router, embeddings.router)),
    Dialect("/v1/messages/", anthropic_errors.error_object, (messages.router,)),
)
"""A path belongs to the one with the longest prefix."""

ROUTERS = tuple(router for dialect in DIALECTS for router in dialect.routers)


def error_object_of(path: str) -> ErrorObject:
    """How errors of this path are written, whether or not there is a route."""
    own = (dialect for dialect in DIALECTS if f"{path}/".startswith(dialect.prefix))
    return max(own, key=lambda dialect: len(dialect.prefix)).error_object
