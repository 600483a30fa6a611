"""Structured answers: `response_format`, and the fields of vLLM and llama-server, as the engine's `format`.

The engine's format is JSON text: `"json"`, a schema, or an object with a type: `regex`, `gbnf`, `lark` or `choice`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field, PlainValidator

from modelfile.text import SPACES
from server.http.body import Body, mismatch
from server.http.errors import HTTPError
from server.http.json_input import JSONReader
from server.ollama.fields import Texts

_ANY_OBJECT = "json"


def parse_schema(value: Any) -> Any:
    """A JSON schema, or its text. Raises ValueError."""
    if isinstance(value, str):
        data = value.encode(errors="replace")
        reader = JSONReader(len(data))
        reader.feed(data)
        value = reader.value()
    if not isinstance(value, dict):
        raise mismatch(value, "map[string]interface {}")
    return value


Schema = Annotated[Any, PlainValidator(parse_schema, json_schema_input_type=dict[str, Any] | str | None)]


class JSONSchemaFormat(Body):
    """A named schema. Answers are always held to it, `strict` or not."""

    go = "openai.JsonSchema"

    name: str = ""
    description: str = ""
    strict: bool = False
    schema_: Schema = Field(default=None, alias="schema")


class ResponseFormat(Body):
    """`response_format`: `text`, `json_object`, or `json_schema`; other types count as text."""

    go = "openai.ResponseFormat"

    type: str = ""
    json_schema: JSONSchemaFormat | None = None
    schema_: Schema = Field(default=None, alias="schema")

    @property
    def format(self) -> Any:
        """The engine's format, None for text. Raises HTTPError for a missing schema."""
        kind = self.type.strip(SPACES).lower()
        if kind not in ("json_object", "json_schema"):
            return None
        schema = self.schema_ if self.json_schema is None else self.json_schema.schema_
        if schema is None and kind == "json_schema":
            raise HTTPError(
                "a response_format of type json_schema needs a schema", "response_format.json_schema.schema"
            )
        return _ANY_OBJECT if schema is None else schema


class StructuredOutputs(Body):
    """`structured_outputs` of vLLM: one of the ways to say what an answer looks like."""

    json_: Schema = Field(default=None, alias="json")
    json_object: bool = False
    regex: str | None = None
    choice: Texts | None = None
    grammar: str | None = None

    @property
    def format(self) -> Any:
        """The engine's format, None for text. Raises HTTPError for several ways at once."""
        return one_of(
            {
                "json": self.json_,
                "json_object": _ANY_OBJECT if self.json_object else None,
                "regex": regex(self.regex),
                "choice": choice(self.choice),
                "grammar": grammar(self.grammar),
            },
            "structured_outputs.",
        )


class StructureFields(Body):
    """The fields of a body that say what an answer looks like. One of them at most may be given."""

    response_format: ResponseFormat = Field(default_factory=ResponseFormat)
    structured_outputs: StructuredOutputs = Field(default_factory=StructuredOutputs)
    guided_json: Schema = None
    guided_regex: str | None = None
    guided_choice: Texts | None = None
    guided_grammar: str | None = None
    json_schema: Schema = None
    grammar: str | None = None

    @property
    def format(self) -> str | None:
        """The engine's format as JSON text, None for free text. Raises HTTPError."""
        value = one_of(
            {
                "response_format": self.response_format.format,
                "structured_outputs": self.structured_outputs.format,
                "guided_json": self.guided_json,
                "guided_regex": regex(self.guided_regex),
                "guided_choice": choice(self.guided_choice),
                "guided_grammar": grammar(self.guided_grammar),
                "json_schema": self.json_schema,
                "grammar": grammar(self.grammar),
            }
        )
        return None if value is None else msgspec.json.encode(value).decode()


def one_of(formats: dict[str, Any], prefix: str = "") -> Any:
    """The only format that is not None, if any; the keys are names of fields. Raises HTTPError for a second one."""
    given = [name for name, value in formats.items() if value is not None]
    if len(given) > 1:
        raise HTTPError(f"{prefix}{given[0]} and {prefix}{given[1]} cannot be combined", prefix + given[1])
    return formats[given[0]] if given else None


def regex(pattern: str | None) -> dict[str, Any] | None:
    """The format of texts that match a regular expression."""
    return {"type": "regex", "pattern": pattern} if pattern else None


def choice(texts: list[str] | None) -> dict[str, Any] | None:
    """The format of answers that are one of the texts."""
    return {"type": "choice", "choices": texts} if texts else None


def grammar(text: str | None) -> dict[str, Any] | None:
    """The format of a grammar: GBNF, whose rules are written with `::=`, or Lark."""
    if not text:
        return None
    return {"type": "gbnf" if "::=" in text else "lark", "grammar": text}
