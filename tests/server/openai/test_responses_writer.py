"""The answers of `/v1/responses`: the events of a stream, and what they add up to."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from engine.api import CallPart, Delta, Event, Final, TokenLogprob, ToolCall
from engine.errors import ContextExceeded, EngineStopped
from server.http.errors import ErrorInfo
from server.openai.responses_schemas import ResponsesBody
from server.openai.responses_writer import ResponsesWriter
from tests.server.openai.sdk import check_events, check_response

STOP = Final(done_reason="stop", prompt_eval_count=9, prompt_eval_cached=8, eval_count=5, thinking_count=2)
LENGTH = Final(done_reason="length", prompt_eval_count=9, eval_count=5)
TOOLS = [
    {"type": "function", "name": "f"},
    {"type": "namespace", "name": "ns", "description": "", "tools": [{"type": "function", "name": "g"}]},
    {"type": "custom", "name": "patch"},
]
STOPPED = str(EngineStopped())
Events = list[dict[str, Any]]


def writer(**body: Any) -> ResponsesWriter:
    return ResponsesWriter(ResponsesBody.model_validate({"model": "m", "input": "x", "tools": TOOLS, **body}))


def events(data: bytes) -> Events:
    """The events of a stream; their names and numbers are checked."""
    found = []
    for frame in data.decode().split("\n\n")[:-1]:
        name, text = frame.split("\n")
        payload = json.loads(text.removeprefix("data: "))
        assert name == f"event: {payload['type']}"
        found.append(payload)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def streamed(script: Sequence[Event], **body: Any) -> Events:
    stream = writer(stream=True, **body)
    return events(b"".join(map(stream.event, script)) + stream.end())


def whole(script: Sequence[Event], **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(b"".join(map(writer(**body).event, script)))
    return answer


@pytest.mark.parametrize(
    "body", [{}, {"tool_choice": {"type": "function", "name": "f"}, "reasoning": {"effort": "low"}}]
)
@pytest.mark.parametrize("name", ["talk", "calls", "custom call", "logprobs", "cut short", "failure"])
def test_all_is_of_the_types_of_openais_library(name: str, body: dict[str, Any]) -> None:
    script = SCRIPTS[name]
    stream = writer(stream=True, **body)
    data = b"".join(
        stream.error(ErrorInfo.of(step)) if isinstance(step, Exception) else stream.event(step) for step in script
    )
    check_events(events(data))
    if isinstance(script[-1], Final):
        check_response(whole(script, **body))


def settled(value: Any) -> Any:
    """Without ids and times."""
    if isinstance(value, list):
        return [settled(item) for item in value]
    if isinstance(value, dict):
        volatile = ("id", "item_id", "created_at", "completed_at")
        return {key: settled(item) for key, item in value.items() if key not in volatile}
    return value


def short(found: Events) -> list[tuple[Any, ...]]:
    """Type, place and text of each event."""
    texts = ("delta", "text", "arguments", "input")
    return [
        (
            event["type"].removeprefix("response."),
            event.get("output_index"),
            *(event[key] for key in texts if key in event),
        )
        for event in found
    ]


TALK = [Delta(thinking="h"), Delta(thinking="m"), Delta("Hel"), Delta("lo"), STOP]


def test_reasoning_and_text() -> None:
    found = streamed(TALK)
    assert short(found) == [
        ("created", None),
        ("in_progress", None),
        ("output_item.added", 0),
        ("reasoning_summary_text.delta", 0, "h"),
        ("reasoning_summary_text.delta", 0, "m"),
        ("reasoning_summary_text.done", 0, "hm"),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("content_part.added", 1),
        ("output_text.delta", 1, "Hel"),
        ("output_text.delta", 1, "lo"),
        ("output_text.done", 1, "Hello"),
        ("content_part.done", 1),
        ("output_item.done", 1),
        ("completed", None),
    ]
    items = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert found[-1]["response"]["output"] == items
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    assert settled(items) == [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "hm"},
        {"type": "message", "status": "completed", "role": "assistant", "content": [part]},
    ]


def test_a_stream_adds_up_to_the_whole_answer() -> None:
    for script in (TALK, [Delta(thinking="x"), Delta(tool_calls=(ToolCall("f", {"a": 1}, "c"),)), STOP], [LENGTH]):
        assert settled(streamed(script)[-1]["response"]) == settled(whole(script))


def test_ids_are_stable_within_an_answer_and_differ_between_them() -> None:
    first, second = streamed(TALK), streamed(TALK)
    assert {event["item_id"] for event in first if event.get("output_index") == 1 and "item_id" in event} == {
        first[-1]["response"]["output"][1]["id"]
    }
    assert len({event["response"]["id"] for event in first if "response" in event}) == 1
    assert first[0]["response"]["id"] != second[0]["response"]["id"]


def test_the_response_before_its_end() -> None:
    response = streamed(TALK)[0]["response"]
    assert (response["status"], response["output"], response["usage"]) == ("in_progress", [], None)
    assert response["completed_at"] is None


def test_usage() -> None:
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 14,
    }
    assert whole(TALK)["usage"] == usage
    counted = whole(TALK, reasoning={"effort": "low"})["usage"]
    assert counted == usage | {"output_tokens_details": {"reasoning_tokens": 2}}


def test_an_answer_that_was_cut_short() -> None:
    answer = whole([Delta("Hel"), LENGTH])
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["completed_at"] is None
    assert answer["output"][0]["status"] == "incomplete"
    assert streamed([Delta("Hel"), LENGTH])[-1]["type"] == "response.incomplete"


def test_no_text_at_all_is_an_empty_message() -> None:
    [message] = whole([Delta(), STOP])["output"]
    assert message["content"][0]["text"] == ""
    assert "output_text.delta" not in [event[0] for event in short(streamed([Delta(), STOP]))]


CALLS = [
    Delta(thinking="x"),
    Delta("\n\n"),
    Delta(tool_calls=(ToolCall("f", {"a": [1, "é"]}, "c1", 0),)),
    Delta("\n"),
    Delta(tool_calls=(ToolCall("ns.g", {}, "c2", 1),)),
    Delta("bye"),
    STOP,
]


def test_calls() -> None:
    found = streamed(CALLS)
    assert short(found)[6:-1] == [
        ("output_item.added", 1),
        ("function_call_arguments.delta", 1, '{"a":[1,"é"]}'),
        ("function_call_arguments.done", 1, '{"a":[1,"é"]}'),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("function_call_arguments.delta", 2, "{}"),
        ("function_call_arguments.done", 2, "{}"),
        ("output_item.done", 2),
    ]
    calls = [settled(item) for item in found[-1]["response"]["output"][1:]]
    call = {"type": "function_call", "status": "completed"}
    assert calls == [
        call | {"call_id": "c1", "name": "f", "arguments": '{"a":[1,"é"]}'},
        call | {"call_id": "c2", "namespace": "ns", "name": "g", "arguments": "{}"},
    ]


def test_text_before_calls_is_kept() -> None:
    output = whole([Delta("I look."), *CALLS[2:]])["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
    assert output[0]["content"][0]["text"] == "I look."


def test_arguments_are_streamed_while_they_are_written() -> None:
    parts = [CallPart(0, "", "c1", "f"), CallPart(0, '{"a"'), CallPart(0, ": 1}")]
    script = [Delta(call_parts=(part,)) for part in parts] + [Delta(tool_calls=(ToolCall("f", {"a": 1}, "c1"),)), STOP]
    found = streamed(script)
    assert short(found)[2:-1] == [
        ("output_item.added", 0),
        ("function_call_arguments.delta", 0, '{"a"'),
        ("function_call_arguments.delta", 0, ": 1}"),
        ("function_call_arguments.done", 0, '{"a": 1}'),
        ("output_item.done", 0),
    ]
    assert found[2]["item"]["arguments"] == ""
    assert found[2]["item"]["id"] == found[-1]["response"]["output"][0]["id"]
    assert whole(script)["output"][0]["arguments"] == '{"a":1}'


def test_a_call_that_was_cut_short() -> None:
    script = [Delta(call_parts=(CallPart(0, "", "c1", "f"),)), Delta(call_parts=(CallPart(0, '{"a'),)), LENGTH]
    [call] = streamed(script)[-1]["response"]["output"]
    assert (call["status"], call["arguments"]) == ("incomplete", '{"a')


def test_a_custom_call() -> None:
    parts = Delta(call_parts=(CallPart(0, "", "c1", "patch"), CallPart(0, '{"input":')))
    found = streamed([parts, Delta(tool_calls=(ToolCall("patch", {"input": "+a"}, "c1"),)), STOP])
    assert short(found)[2:-1] == [
        ("output_item.added", 0),
        ("custom_tool_call_input.delta", 0, "+a"),
        ("custom_tool_call_input.done", 0, "+a"),
        ("output_item.done", 0),
    ]
    call = {"type": "custom_tool_call", "status": "completed", "call_id": "c1", "name": "patch", "input": "+a"}
    assert settled(found[-1]["response"]["output"]) == [call]


def test_a_custom_call_with_other_arguments() -> None:
    [call] = whole([Delta(tool_calls=(ToolCall("patch", {"text": "+a"}, "c1"),)), STOP])["output"]
    assert call["input"] == '{"text":"+a"}'


def test_whitespace_before_text_belongs_to_it() -> None:
    assert [
        event[2] for event in short(streamed([Delta("\n"), Delta("Hi"), STOP])) if event[0] == "output_text.delta"
    ] == ["\nHi"]
    assert whole([Delta("\n"), STOP])["output"][0]["content"][0]["text"] == "\n"


def test_logprobs() -> None:
    top = (TokenLogprob(b"Hi", -0.5), TokenLogprob(b"\xc3", -1.5))
    script = [
        Delta(thinking="x", logprobs=(TokenLogprob(b"x", -2.0),)),
        Delta("Hi", logprobs=(TokenLogprob(b"Hi", -0.5, top),)),
        STOP,
    ]
    tokens = [
        {
            "token": "Hi",
            "logprob": -0.5,
            "bytes": [72, 105],
            "top_logprobs": [
                {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
                {"token": "\N{REPLACEMENT CHARACTER}", "logprob": -1.5, "bytes": [195]},
            ],
        }
    ]
    assert whole(script)["output"][1]["content"][0]["logprobs"] == tokens
    with_tokens = [event["logprobs"] for event in streamed(script) if "logprobs" in event]
    assert with_tokens == [tokens, tokens]


CUSTOM = Delta(tool_calls=(ToolCall("patch", {"input": "+a"}, "c1"),))
TOKEN = TokenLogprob(b"Hi", -0.5, (TokenLogprob(b"Hi", -0.5),))
SCRIPTS: dict[str, list[Any]] = {
    "talk": TALK,
    "calls": CALLS,
    "custom call": [CUSTOM, STOP],
    "logprobs": [Delta("Hi", logprobs=(TOKEN,)), STOP],
    "cut short": [Delta(thinking="x"), Delta("Hi"), LENGTH],
    "failure": [Delta("Hi"), EngineStopped()],
}


def test_the_fields_of_the_request_are_repeated() -> None:
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    text = {"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": True}, "verbosity": "low"}
    sent = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "max_tool_calls": 3,
        "parallel_tool_calls": False,
        "truncation": "auto",
        "tool_choice": "required",
        "metadata": {"a": "b"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "top_logprobs": 2,
        "background": True,
    }
    answer = whole(TALK, **sent, text=text, store=True, service_tier="flex", include=["reasoning.encrypted_content"])
    assert {key: answer[key] for key in sent} == sent
    assert answer["text"] == text | {"format": text["format"] | {"description": None}}
    assert (answer["store"], answer["service_tier"]) == (False, "default")


def test_reasoning_is_repeated() -> None:
    assert whole(TALK)["reasoning"] is None
    assert whole(TALK, reasoning={"effort": "xhigh"})["reasoning"] == {"effort": "xhigh"}
    both = {"effort": None, "summary": "auto"}
    assert streamed(TALK, reasoning={"summary": "auto"})[-1]["response"]["reasoning"] == both


@pytest.mark.parametrize("script", [[], [Delta(thinking="x"), Delta("Hel")]], ids=["at once", "in the text"])
def test_a_failure(script: list[Event]) -> None:
    stream = writer(stream=True)
    found = events(b"".join(map(stream.event, script)) + stream.error(ErrorInfo.of(EngineStopped())))
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    failed, error = found[-2:]
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": STOPPED}
    assert [item["type"] for item in failed["response"]["output"]] == ["reasoning"] * bool(script)
    assert (error["type"], error["code"], error["message"]) == ("error", None, STOPPED)
    assert error["error"] == {"message": STOPPED, "type": "api_error", "param": None, "code": None}


def test_a_defect_tells_nothing() -> None:
    stream = writer(stream=True)
    [*_, error] = events(stream.error(ErrorInfo.of(RuntimeError("secret"))))
    assert error["message"] == "internal server error"


def test_a_prompt_too_long_has_the_code_that_agents_look_for() -> None:
    stream = writer(stream=True)
    failed = events(stream.error(ErrorInfo.of(ContextExceeded("too long"))))[-2]
    assert failed["response"]["error"]["code"] == "context_length_exceeded"
