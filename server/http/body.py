"""Request bodies: pydantic models that take JSON as Go's decoder does, with its error texts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

from fastapi.routing import APIRoute
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from modelfile.text import cut
from server.http.compressed import parts_of
from server.http.errors import BodyTooLarge, InvalidBody
from server.http.json_input import SLICE, EmptyBody, Infinite, JSONReader, OutOfRange
from server.http.json_output import encode

B = TypeVar("B", bound="Body")
T = TypeVar("T")

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"

_GO_TYPES = {
    "string_type": "string",
    "bool_type": "bool",
    "int_type": "int",
    "float_type": "float64",
    "greater_than_equal": "int",
    "less_than_equal": "int",
    "dict_type": "map[string]interface {}",
}
"""Pydantic's error types, and the Go type that Ollama's error names. Other errors carry their Go type."""

_MOST_DIGITS = 100  # of a number quoted in an error
_LITERAL = ("int", "uint8")  # Go types whose errors quote the number
_decoders = ThreadPoolExecutor(2, "decoder")  # of large bodies, two at a time


class Body(BaseModel):
    """The body of a request, or an object in one.

    Keys match in any case, unknown keys are ignored, `null` means the default, values are not converted.
    """

    model_config = ConfigDict(strict=True, frozen=True, protected_namespaces=())

    go: ClassVar[str] = ""
    """Its Go type in Ollama, such as `api.ChatRequest`, for error texts."""
    _names: ClassVar[dict[str, str]]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Collect the keys by their lower-case form."""
        names = (field.alias or name for name, field in cls.model_fields.items())
        cls._names = {name.lower(): name for name in names}

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests, "" if it has none: errors name it."""
        return field

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            if isinstance(value, cls):
                return value
            raise mismatch(value, cls.go)
        names = cls._names
        return {
            name: item
            for key, item in value.items()
            if item is not None and (name := names.get(key.lower())) is not None
        }


class AnyBody(Body):
    """Any JSON value; it is not used."""

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return value if isinstance(value, cls) else {}


class FieldError(ValueError):
    """A value that the body's fields do not take. `param` is the path of the field, such as `messages[0].content`.

    A parser of a field may raise it with the path within the field.
    """

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class _FirstError(FailFast):
    """FailFast, but hashable, so that it can stand in a union."""

    __hash__ = object.__hash__


FIRST_ERROR = _FirstError()
"""Stops a list at its first wrong element: a million errors take more memory than the body."""


class _GoList(BeforeValidator):
    """Says in the OpenAPI document that elements may be null."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        if items := described.get("items"):
            described["items"] = {"anyOf": [items, {"type": "null"}]}
        return described


def go_list(go: str, zero: Any) -> BeforeValidator:
    """Validates a list as the Go slice type `go`; null elements become `zero`."""

    def checked(value: Any) -> Any:
        if not isinstance(value, list):
            raise mismatch(value, go)
        return [zero if item is None else item for item in value] if None in value else value

    return _GoList(checked)


def text_map(value: Any) -> Any:
    """Validate a Go `map[string]string`; null becomes an empty text."""
    go = "map[string]string"
    if not isinstance(value, dict):
        raise mismatch(value, go)
    for item in value.values():
        if item is not None and not isinstance(item, str):
            raise mismatch(item, "string")
    return {key: item or "" for key, item in value.items()}


def mismatch(value: Any, go: str) -> PydanticCustomError:
    """The error for a value that is not of the Go type `go`."""
    return PydanticCustomError("go_type", "{got}, not {go}", {"got": describe(value, go), "go": go})


def describe(value: Any, go: str) -> str:
    """Go's name of a JSON value in an error about the type `go`."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        literal = cut(str(getattr(value, "literal", value)), _MOST_DIGITS)
        return f"number {literal}" if go in _LITERAL or isinstance(value, Infinite) else "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array"


def go_text(got: str, place: str, go: str) -> str:
    """The text of a type error; `place` is `Struct.field`, or "" for the body itself."""
    return f"json: cannot unmarshal {got} into Go {f'struct field {place}' if place else 'value'} of type {go}"


def decode(data: bytes, kind: type[B], limit: int = 64 << 20) -> B:
    """Decode a whole body of at most `limit` bytes. Raises BodyTooLarge, or ValueError with the text for the client."""
    reader = JSONReader(limit)
    reader.feed(data)
    return _read(reader, kind)


def _read(reader: JSONReader, kind: type[B]) -> B:
    try:
        value = reader.value()
    except OutOfRange as error:
        value = error.value
        _require_range(value, kind)
    return validated(value, kind)


def validated(value: Any, kind: type[B]) -> B:
    """A decoded JSON value as a body. Raises FieldError."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _first_error(error, kind, value) from None


def parse_each(name: str, items: list[Any], parse: Callable[[Any], T]) -> list[T]:
    """Parse the items of the list `name`. Raises FieldError, whose text begins with the place of the item."""
    parsed = []
    for index, item in enumerate(items):
        try:
            parsed.append(parse(item))
        except ValueError as error:
            inner = getattr(error, "param", "")
            raise FieldError(f"{name}[{index}]: {error}", f"[{index}]" + (f".{inner}" if inner else "")) from None
    return parsed


def _first_error(error: ValidationError, kind: type[Body], value: Any) -> FieldError:
    """The first error. Errors of a field's own parser come first, because they end Go's decoding."""
    errors = error.errors(include_url=False)
    order = {key.lower(): place for place, key in enumerate(value)} if isinstance(value, dict) else {}
    errors.sort(key=lambda entry: order.get(str(entry["loc"][0]).lower(), 0) if entry["loc"] else 0)
    for entry in errors:
        if entry["type"] == "value_error":
            cause = entry["ctx"]["error"]
            return FieldError(str(cause), _path(entry["loc"]) + getattr(cause, "param", ""))
    first = errors[0]
    known = first.get("ctx", {}) if first["type"] == "go_type" else {}
    go = known.get("go") or _GO_TYPES.get(first["type"], "interface {}")
    path = [part for part in first["loc"] if isinstance(part, str)]
    got, place = known.get("got") or describe(first["input"], go), ".".join([_struct(kind), *path]) if path else ""
    return FieldError(go_text(got, place, go), _path(first["loc"]))


def _path(loc: tuple[int | str, ...]) -> str:
    """The place of an error as a path: `messages[0].content`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _struct(kind: type[Body]) -> str:
    return kind.go.rpartition(".")[2]


def _require_range(value: Any, kind: type[Body]) -> None:
    """Raise FieldError for a number beyond the range of a float64, unless it is under an unknown key."""
    fields = value.items() if isinstance(value, dict) else [("", value)]
    for key, item in fields:
        name = kind._names.get(key.lower())
        if (number := _first_infinite(item)) is not None and (name or not key):
            go = "int" if item is number else "float64"
            place = f"{_struct(kind)}.{name}" if name else ""
            raise FieldError(go_text(describe(number, go), place, go), name or "")


def _first_infinite(value: Any) -> Infinite | None:
    if isinstance(value, Infinite):
        return value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((number for child in children if (number := _first_infinite(child)) is not None), None)


class BodyRoute(APIRoute):
    """A route whose endpoint may take a `Body`. It is decoded here, whatever its Content-Type; FastAPI documents it."""

    empty = "missing request body"
    """The error for a request without a body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """A handler that decodes the body and calls the endpoint.

        Raises TypeError for an endpoint with other parameters than the body and the request.
        """
        kind = None if self.body_field is None else self.body_field.field_info.annotation
        if self.body_field is None or not isinstance(kind, type) or not issubclass(kind, Body):
            return super().get_route_handler()
        body_name, request_name = self.body_field.name, self.dependant.request_param_name
        if others := set(inspect.signature(self.endpoint).parameters) - {body_name, request_name}:
            raise TypeError(f"{self.path}: beside a body, {', '.join(others)} cannot be had")

        async def handle(request: Request) -> Response:
            body = await read_body(request, kind, request.app.state.settings.max_body, self.empty)
            request.state.name_of = body.name_of
            arguments = {body_name: body} | ({request_name: request} if request_name else {})
            response: Response = await self.endpoint(**arguments)
            return response

        return handle


async def read_body(request: Request, kind: type[B], limit: int, empty: str = BodyRoute.empty) -> B:
    """Receive and decode a body of at most `limit` bytes. Raises BodyTooLarge, UnknownEncoding or InvalidBody."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(limit)
    reader = JSONReader(limit)
    try:
        async for part in parts_of(request):
            reader.feed(part)
        if reader.size > SLICE:
            return await asyncio.get_running_loop().run_in_executor(_decoders, _read, reader, kind)
        return _read(reader, kind)
    except EmptyBody:
        raise InvalidBody(empty) from None
    except ValueError as error:
        raise InvalidBody(str(error), getattr(error, "param", "")) from None


def json_response(value: Any, status: int = 200, media_type: str = JSON) -> Response:
    """A JSON response. `value` is made of dicts, lists, texts, numbers and `msgspec.Raw`."""
    return Response(encode(value), status, media_type=None, headers={"content-type": media_type})


def empty_response(status: int = 200) -> Response:
    """A response without body and Content-Type."""
    return Response(status_code=status)
