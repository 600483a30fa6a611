"""Sampling fields of a body, and the engine's options that they become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, PlainValidator, PrivateAttr, model_validator

from modelfile.parameters import PARAMETERS, Parameter
from server.http.body import Body
from server.ollama.fields import KeepAlive, Options, go_type

DEFAULTS: Mapping[str, Any] = {"repeat_penalty": 1.0}
"""Options that count where neither the request nor the model has a value: this API knows no such penalty."""

_OTHER_NAMES = {"repetition_penalty": "repeat_penalty", "n_predict": "num_predict"}
_OPTIONS = {name: name for name in PARAMETERS} | _OTHER_NAMES
_JSON_TYPES = {"integer": "integer", "float32": "number", "boolean": "boolean", "array": "array", "map": "object"}


def parse_stop(value: Any) -> list[str]:
    """The stop texts: one, or a list. Raises ValueError."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise ValueError(f"invalid type for 'stop' field: {go_type(value)}")
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"invalid type for 'stop' field: {go_type(text)}")
    return texts


Stop = Annotated[list[str] | None, PlainValidator(parse_stop, json_schema_input_type=str | list[str] | None)]


def _add_options(schema: dict[str, Any]) -> None:
    """Add the options that stand among the other fields to a JSON schema."""
    properties = schema.setdefault("properties", {})
    for name, option in _OPTIONS.items():
        properties.setdefault(name, _option_schema(PARAMETERS[option]))


def _option_schema(row: Parameter) -> dict[str, Any]:
    return {"type": _JSON_TYPES[row.type], "description": row.doc}


class OptionFields(Body):
    """Options in `options`, or among the other fields, as the clients of vLLM and llama-server send them."""

    model_config = ConfigDict(json_schema_extra=_add_options)

    options: Options = Field(default_factory=dict)
    keep_alive: KeepAlive = None
    _loose: dict[str, Any] = PrivateAttr(default_factory=dict)
    _sent_as: dict[str, str] = PrivateAttr(default_factory=dict)  # the names under which they were sent

    @model_validator(mode="wrap")
    @classmethod
    def _keep_options(cls, value: Any, handler: ModelWrapValidatorHandler[OptionFields]) -> OptionFields:
        body = handler(value)
        if isinstance(value, dict):
            for key, item in value.items():
                if (option := _OPTIONS.get(name := key.lower())) and item is not None:
                    body._loose[option], body._sent_as[option] = item, name
        return body

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests; options may have other names."""
        return self._sent_as.get(field) or super().name_of(field)

    def options_with(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """All options; `named` are those of fields with a name of their own, which count before others of that name."""
        return {**self.options, **self._loose, **{name: value for name, value in named.items() if value is not None}}
