"""Entries of the OpenAPI document for routes that write their own bytes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from server.http.body import NDJSON

Responses = dict[int | str, dict[str, Any]]


class AnswerObject(BaseModel):
    """An object in an answer. Empty values of keys with a default are left out."""

    model_config = ConfigDict(protected_namespaces=())


def errors(model: type[BaseModel]) -> Responses:
    """The error response of every route."""
    return {"default": {"model": model, "description": "An error"}}


def lines(model: type[BaseModel]) -> Responses:
    """A stream of objects, one a line, beside the single object that is the response model."""
    return content(NDJSON, {"$ref": f"#/components/schemas/{model.__name__}"})


def content(media_type: str, schema: dict[str, Any]) -> Responses:
    """The answer in another media type."""
    return {200: {"content": {media_type: {"schema": schema}}}}


def events(model: type[BaseModel]) -> Responses:
    """A stream of server-sent events, beside the single object that is the response model."""
    return content("text/event-stream", model.model_json_schema(ref_template="#/components/schemas/{model}"))


def hoisted(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the models of its events among its components. Changes it."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                for media in response.get("content", {}).values():
                    document["components"]["schemas"].update(media.get("schema", {}).pop("$defs", {}))
    return document


BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
"""The schema of binary data."""


def takes(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A request body that the route reads itself."""
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}
