"""The table of errors: every exception has a status, in every dialect a shape."""

import json
from collections.abc import Iterator

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Scope

from engine import errors as engine
from engine.errors import CloudModel
from registry.logfields import REQUEST_ID
from registry.names import InvalidDigest, InvalidName
from server.app import create_app
from server.http import errors
from server.http.errors import ErrorInfo, message_of, status_of
from server.routers import error_object_of
from server.settings import Settings
from tests.server.conftest import Live
from tests.server.fake_engine import FakeEngine


def asked(path: str, *header_names: str) -> Scope:
    return {"path": path, "headers": [(name.encode(), b"x") for name in header_names]}


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind} | {found for child in kind.__subclasses__() for found in subclasses(child)}


def test_every_fakeerror_is_known() -> None:
    assert all(issubclass(kind, errors.KNOWN) for kind in subclasses(engine.EngineError))


@pytest.mark.parametrize("kind", sorted(subclasses(errors.HTTPError), key=lambda kind: kind.__name__))
def test_every_http_error_is_a_refusal(kind: type[errors.HTTPError]) -> None:
    assert kind.status in range(400, 600)


def test_a_subclass_counts_as_its_nearest_ancestor() -> None:
    assert status_of(engine.ContextExceeded("x")) == 400
    assert status_of(type("Odd", (engine.EngineError,), {})("x")) == 500


def test_fixed_texts() -> None:
    assert message_of(InvalidName("a//b")) == "invalid model name"
    assert message_of(InvalidDigest("x")) == "invalid digest format"


@pytest.mark.parametrize("error", [OSError(2, "No such file", "/secret"), KeyError("x"), RuntimeError("/secret")])
def test_what_is_unknown_is_not_told(error: Exception) -> None:
    assert (status_of(error), message_of(error)) == (500, "internal server error")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (404, "not_found_error"), (500, "api_error"), (503, "api_error")],
)
def test_openai_shape(status: int, kind: str) -> None:
    body = error_object_of(asked("/v1/chat/completions"))(ErrorInfo(status, "m"))
    assert body == {"error": {"message": "m", "type": kind, "param": None, "code": None}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (403, "permission_error"), (503, "overloaded_error"), (501, "api_error")],
)
def test_anthropic_shape(status: int, kind: str) -> None:
    token = REQUEST_ID.set("0123abcd")
    body = error_object_of(asked("/v1/messages"))(ErrorInfo(status, "m"))
    REQUEST_ID.reset(token)
    assert body.pop("request_id") == "req_0123abcd"
    assert body == {"type": "error", "error": {"type": kind, "message": "m"}}


def test_an_error_names_the_field_and_has_a_word_for_programs() -> None:
    info = ErrorInfo.of(errors.HTTPError("best_of is too large", "best_of"))
    assert info == ErrorInfo(400, "best_of is too large", "best_of")
    info = ErrorInfo.of(engine.ContextExceeded("too long"))
    assert info == ErrorInfo(400, "too long", "prompt", "context_length_exceeded")
    assert error_object_of(asked("/v1/completions"))(info)["error"]["code"] == "context_length_exceeded"
    assert error_object_of(asked("/v1/messages"))(info)["error"]["message"] == "prompt is too long: too long"
    info = ErrorInfo.of(engine.ContextExceeded("too long", 300, 255))
    assert (
        error_object_of(asked("/v1/messages"))(info)["error"]["message"]
        == "prompt is too long: 300 tokens > 255 maximum"
    )


@pytest.mark.parametrize(
    ("text", "renamed"),
    [
        ("invalid format: it is no format", "invalid grammar: it is no format"),
        ("format is wrong", "grammar is wrong"),
        ('option "format" must be a format', 'option "grammar" must be a format'),
        ("the format is wrong", "the format is wrong"),
        ("formats are wrong", "formats are wrong"),
    ],
)
def test_a_field_of_the_engine_has_the_name_that_the_client_knows(text: str, renamed: str) -> None:
    error = engine.InvalidRequest(text, "format")
    assert ErrorInfo.of(error) == ErrorInfo(400, text, "format")
    assert ErrorInfo.of(error, lambda field: {"format": "grammar"}[field]) == ErrorInfo(400, renamed, "grammar")
    assert ErrorInfo.of(error, lambda field: "") == ErrorInfo(400, text)
    assert ErrorInfo.of(engine.InvalidRequest("is wrong"), lambda field: "x") == ErrorInfo(400, "is wrong")


async def test_what_fails_is_in_the_log_in_one_line(caplog: pytest.LogCaptureFixture, settings: Settings) -> None:
    fake = FakeEngine(settings.models)
    app = create_app(settings, fake, fake.models)
    scope = {"type": "http", "path": "/api/chat", "headers": [], "server": ("x", 1), "query_string": b"", "app": app}
    request = Request(scope)
    await errors.error_response(request, engine.RunnerDied("it died\nof SIGSEGV"))
    (record,) = caplog.records
    assert record.getMessage() == "request failed"
    fields = vars(record)["fields"]
    assert (fields["path"], fields["status"]) == ("/api/chat", 500)
    assert fields["reason"].startswith("model runner has unexpectedly stopped")
    assert fields["reason"].endswith(": it died of SIGSEGV")
    caplog.clear()
    await errors.error_response(request, engine.InvalidRequest("a mistake of the client"))
    assert not caplog.records


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/v1/models/zz", ["type", "error/type", "error/message", "request_id"]),
        ("/v1/models", ["type", "error/type", "error/message", "request_id"]),
        ("/v1/chat/completions", ["error/message", "error/type", "error/param", "error/code"]),
        ("/api/chat", ["error"]),
    ],
)
def test_paths_that_two_apis_have_follow_the_client(path: str, keys: list[str]) -> None:
    body = error_object_of(asked(path, "anthropic-version"))(ErrorInfo(404, "m"))
    assert list(_keys(body)) == keys


def test_native_shape() -> None:
    assert error_object_of(asked("/api/chat"))(ErrorInfo(500, "m")) == {"error": "m"}


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/api/chat", ["error"]),
        ("/nowhere", ["error"]),
        ("/v1/models", ["error/message", "error/type", "error/param", "error/code"]),
        ("/v1/nowhere", ["error/message", "error/type", "error/param", "error/code"]),
        ("/v1/messages", ["type", "error/type", "error/message", "request_id"]),
        ("/v1/messages/nowhere", ["type", "error/type", "error/message", "request_id"]),
    ],
)
async def test_what_is_refused_before_there_is_a_request_has_the_shape_of_its_path(
    live: Live, path: str, keys: list[str]
) -> None:
    [(status, body)] = await live.converse(f"POST {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".encode())
    assert status == 400
    assert list(_keys(json.loads(body))) == keys


async def test_what_asks_for_a_cloud_is_refused_in_the_plain_shape(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = [CloudModel()]
    messages = [{"role": "user", "content": "x"}]
    thinking = {"type": "enabled", "budget_tokens": 9}  # the capability is asked of the stored model
    for path, body in (
        ("/v1/completions", {"model": "m:cloud", "prompt": "x"}),
        ("/v1/messages", {"model": "m:cloud", "max_tokens": 1, "messages": messages, "thinking": thinking}),
    ):
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()) == (403, {"error": str(CloudModel())})


def _keys(value: dict[str, object]) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from (f"{key}/{name}" for name in _keys(inner))
        else:
            yield key
