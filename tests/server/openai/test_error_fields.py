"""Errors of the engine name the fields of each API's own requests."""

import json
from typing import Any

import httpx
import pytest

from engine.errors import CapabilityMissing, ContextExceeded, InvalidRequest
from modelfile.parameters import OptionError, check
from registry.names import InvalidName
from server.settings import Settings
from tests.server.fake_engine import FakeEngine

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
EMBEDDINGS, MESSAGES, OLLAMA = "/v1/embeddings", "/v1/messages", "/api/chat"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: HELLO,
    TEXT: {"prompt": "Hi"},
    RESPONSES: {"input": "Hi"},
    EMBEDDINGS: {"input": "Hi"},
    MESSAGES: HELLO | {"max_tokens": 9},
    OLLAMA: HELLO,
}
FORMAT = InvalidRequest("invalid format: it is wrong", "format")
CHOICE = InvalidRequest("tool_choice demands a call, but there are no tools", "tool_choice")
THINK = InvalidRequest('"m" does not support thinking', "think")
TOKENS = InvalidRequest("tokens[1] is not a token of this model", "tokens")
TEXTS = {"format": {"type": "json_object"}}
SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
F = {"name": "f"}


async def error(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, failure: Exception, **fields: Any
) -> dict[str, Any]:
    engine.script = [failure]
    answer = await client.post(path, json={"model": "m", **BODIES[path], **fields})
    assert answer.status_code == 400, answer.text
    found = answer.json()["error"]
    return found if isinstance(found, dict) else {"message": found}


@pytest.mark.parametrize(
    ("path", "failure", "fields", "param"),
    [
        (CHAT, ContextExceeded("too long"), {}, "messages"),
        (TEXT, ContextExceeded("too long"), {}, "prompt"),
        (RESPONSES, ContextExceeded("too long"), {}, "input"),
        (EMBEDDINGS, ContextExceeded("too long"), {}, "input"),
        (CHAT, CHOICE, {}, "tool_choice"),
        (RESPONSES, CHOICE, {}, "tool_choice"),
        (CHAT, THINK, {"reasoning_effort": "low"}, "reasoning_effort"),
        (CHAT, THINK, {"reasoning": {"effort": "low"}}, "reasoning.effort"),
        (RESPONSES, THINK, {"reasoning": {"effort": "low"}}, "reasoning.effort"),
        (TEXT, CapabilityMissing("m does not support insert", "suffix"), {"suffix": "x"}, "suffix"),
        (CHAT, CapabilityMissing("m does not support tools", "tools"), {"functions": [F]}, "functions"),
        (CHAT, CapabilityMissing("m does not support tools", "tools"), {"tools": [{"function": F}]}, "tools"),
        (TEXT, InvalidRequest("prompt has 9, which is no token", "prompt"), {"prompt": [9]}, "prompt"),
        (CHAT, InvalidName("a//b"), {}, "model"),
        (EMBEDDINGS, InvalidName("a//b"), {}, "model"),
        (CHAT, InvalidRequest("of no field"), {}, None),
    ],
)
async def test_the_field(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, failure: Exception, fields: Any, param: str | None
) -> None:
    found = await error(client, engine, path, failure, **fields)
    assert found["param"] == param


@pytest.mark.parametrize(
    ("path", "fields", "name"),
    [
        (CHAT, {"guided_regex": "("}, "guided_regex"),
        (CHAT, {"guided_choice": []}, "guided_choice"),
        (CHAT, {"response_format": SCHEMA}, "response_format"),
        (TEXT, {"structured_outputs": {"grammar": "root ::= ("}}, "structured_outputs.grammar"),
        (RESPONSES, {"text": TEXTS}, "text.format"),
        (RESPONSES, {"grammar": "root ::= ("}, "grammar"),
        (MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config.format"),
        (MESSAGES, {"output_format": {"type": "json_schema", "schema": {}}}, "output_format"),
        (OLLAMA, {"format": {}}, "format"),
    ],
)
async def test_a_format_has_the_name_under_which_it_was_sent(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, fields: Any, name: str
) -> None:
    found = await error(client, engine, path, FORMAT, **fields)
    assert found["message"] == f"invalid {name}: it is wrong"
    assert found.get("param", name) == name


async def test_tokens_are_those_of_the_input(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    found = await error(client, engine, EMBEDDINGS, TOKENS, input=[1, 2])
    assert (found["message"], found["param"]) == ("input[1] is not a token of this model", "input")
    found = await error(client, engine, TEXT, TOKENS, prompt=[1, 2])
    assert (found["message"], found["param"]) == ("prompt[1] is not a token of this model", "prompt")


@pytest.mark.parametrize("name", ["repetition_penalty", "repeat_penalty"])
@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES])
async def test_options_have_the_name_under_which_they_were_sent(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, name: str
) -> None:
    with pytest.raises(OptionError) as caught:
        check({"repeat_penalty": 0})
    found = await error(client, engine, path, caught.value, **{name: 0})
    assert found["message"] == f'option "{name}" must be between 0.01 and 100'
    assert found["param"] == name


@pytest.mark.parametrize("settings", [Settings(max_body=100_000, ping_interval=0.01)])
async def test_in_a_stream_that_has_begun(client: httpx.AsyncClient, engine: FakeEngine, settings: Settings) -> None:
    engine.script = [0.1, FORMAT]
    answer = await client.post(CHAT, json={"model": "m", **HELLO, "stream": True, "guided_regex": "("})
    last = json.loads(answer.text.split("data: ")[1])["error"]
    assert (last["message"], last["param"]) == ("invalid guided_regex: it is wrong", "guided_regex")


async def test_the_form_of_a_function_is_that_of_the_api(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    for path, form in (
        (CHAT, '{"type":"function","function":{"name":…}}'),
        (RESPONSES, '{"type":"function","name":…}'),
    ):
        found = await error(client, engine, path, CHOICE, tool_choice="maybe")
        assert found["message"].endswith(f'(must be "auto", "none", "required" or {form})')
        assert found["param"] == "tool_choice"
