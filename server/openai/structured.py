"""Structured answers: `response_format`, and the fields of vLLM and llama-server, as the engine's `format`.

The engine's format is JSON text: `"json"`, a schema, or an object with a type: `regex`, `gbnf`, `lark` or `choice`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field, PlainValidator, model_validator

from modelfile.text import SPACES, cut, quote
from server.http.body import Body, FieldError, mismatch
from server.http.errors import HTTPError
from server.http.json_input import JSONReader
from server.ollama.fields import Texts

ANY_OBJECT = "json"
_STYLE = (
    "whitespace_pattern",
    "disable_any_whitespace",
    "disable_fallback",
)  # of vLLM; they change no answer's meaning


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
    """`response_format`: `text`, `json_object`, or `json_schema`."""

    go = "openai.ResponseFormat"

    type: str = ""
    json_schema: JSONSchemaFormat | None = None
    schema_: Schema = Field(default=None, alias="schema")

    @property
    def format(self) -> Any:
        """The engine's format, None for text. Raises HTTPError for an unknown type or a missing schema."""
        kind = self.type.strip(SPACES).lower()
        if kind in ("", "text"):
            return None
        if kind not in ("json_object", "json_schema"):
            raise HTTPError(
                'invalid response_format.type (must be "text", "json_object" or "json_schema")', "response_format.type"
            )
        schema = self.schema_ if self.json_schema is None else self.json_schema.schema_
        if schema is None and kind == "json_schema":
            raise HTTPError(
                "a response_format of type json_schema needs a schema", "response_format.json_schema.schema"
            )
        return ANY_OBJECT if schema is None else schema


class StructuredOutputs(Body):
    """`structured_outputs` of vLLM: one of the ways to say what an answer looks like. Other keys are refused."""

    json_: Schema = Field(default=None, alias="json")
    json_object: bool = False
    regex: str | None = None
    choice: Texts | None = None
    grammar: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, value: Any) -> Any:
        """Refuse unknown keys: the answer would be free text, which the client cannot use."""
        if isinstance(value, dict):
            for key, item in value.items():
                if item is not None and key.lower() not in (*cls._names, *_STYLE):
                    raise FieldError(f"unknown key of structured_outputs: {quote(cut(key))}", f".{cut(key)}")
        return value

    @property
    def formats(self) -> dict[str, Any]:
        """The engine's format by the field that asks for it, None where it is not given."""
        return {
            "structured_outputs.json": self.json_,
            "structured_outputs.json_object": ANY_OBJECT if self.json_object else None,
            "structured_outputs.regex": regex(self.regex),
            "structured_outputs.choice": choice(self.choice),
            "structured_outputs.grammar": grammar(self.grammar),
        }


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
    def formats(self) -> dict[str, Any]:
        """The engine's format by the field that asks for it, None where it is not given. Raises HTTPError."""
        return {
            "response_format": self.response_format.format,
            **self.structured_outputs.formats,
            "guided_json": self.guided_json,
            "guided_regex": regex(self.guided_regex),
            "guided_choice": choice(self.guided_choice),
            "guided_grammar": grammar(self.guided_grammar),
            "json_schema": self.json_schema,
            "grammar": grammar(self.grammar),
        }

    @property
    def format(self) -> str | None:
        """The engine's format as JSON text, None for free text. Raises HTTPError for two ways at once."""
        given = self._given()
        if len(given) > 1:
            first, second, *_ = given
            raise HTTPError(f"{first} and {second} cannot be combined", second)
        return next((msgspec.json.encode(value).decode() for value in given.values()), None)

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests; `format` is what asks for the answer's form."""
        if field == "format":
            return next(iter(self._given()), field)
        return super().name_of(field)

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in self.formats.items() if value is not None}


def regex(pattern: str | None) -> dict[str, Any] | None:
    """The format of texts that match a regular expression."""
    return {"type": "regex", "pattern": pattern} if pattern else None


def choice(texts: list[str] | None) -> dict[str, Any] | None:
    """The format of answers that are one of the texts; the engine refuses an empty list."""
    return None if texts is None else {"type": "choice", "choices": texts}


def grammar(text: str | None) -> dict[str, Any] | None:
    """The format of a grammar: GBNF, whose rules are written with `::=`, or Lark."""
    if not text:
        return None
    return {"type": "gbnf" if "::=" in text else "lark", "grammar": text}
