"""How routes say in the OpenAPI document what they answer, where they write the bytes themselves."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from server.http.body import NDJSON

Responses = dict[int | str, dict[str, Any]]


class AnswerObject(BaseModel):
    """An object in an answer. A key with a default is left out when it is empty."""

    model_config = ConfigDict(protected_namespaces=())


def errors(model: type[BaseModel]) -> Responses:
    """All answers that are not declared otherwise."""
    return {"default": {"model": model, "description": "An error"}}


def lines(model: type[BaseModel]) -> Responses:
    """A stream of objects, one on each line, beside the single object that is the response model."""
    return content(NDJSON, {"$ref": f"#/components/schemas/{model.__name__}"})


def content(media_type: str, schema: dict[str, Any]) -> Responses:
    """Another form of the answer."""
    return {200: {"content": {media_type: {"schema": schema}}}}


BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
"""The schema of bytes that are no JSON."""


def takes(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A request body that the route reads by itself."""
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}
