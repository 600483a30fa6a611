"""`POST /v1/messages` over a scripted engine: answers, events, errors."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from engine import errors
from engine.api import CallPart, ChatRequest, Delta, Event, Final, Rendered, ToolCall
from registry import bundled
from tests.server.fake_engine import FakeEngine

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
ASKED = {"model": "tinychat", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
CALL = ToolCall("f", {"city": "Rome"}, id="call_1")
TOOLS = {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}
SEARCH = {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}


def final(reason: Any = "stop", **more: Any) -> Final:
    return Final(done_reason=reason, prompt_eval_count=10, prompt_eval_cached=4, eval_count=5, **more)


async def whole(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/messages", json=ASKED | fields)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    Message.model_validate(answer.json(), strict=True)
    return dict(answer.json())


async def events(client: httpx.AsyncClient, **fields: Any) -> list[dict[str, Any]]:
    answer = await client.post("/v1/messages", json=ASKED | fields | {"stream": True})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream"), answer.text
    found = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        head, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert head == f"event: {event['type']}"
        if event["type"] not in ("ping", "error"):
            EVENT.validate_python(event)
        found.append(event)
    return found


def summed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that the events add up to."""
    blocks: list[dict[str, Any]] = []
    opened = False
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert not opened
                assert event["index"] == len(blocks)
                blocks.append(event["content_block"] | {"json": ""})
                opened = True
            case "content_block_delta":
                assert opened
                assert event["index"] == len(blocks) - 1
                delta, block = event["delta"], blocks[-1]
                for key in ("text", "thinking", "signature"):
                    if key in delta:
                        block[key] += delta[key]
                block["json"] += delta.get("partial_json", "")
            case "content_block_stop":
                opened = False
    assert not opened
    for block in blocks:
        if written := block.pop("json"):
            block["input"] = json.loads(written)
    return blocks


ANSWERS: dict[str, tuple[list[Event], dict[str, Any], list[dict[str, Any]]]] = {
    "text": ([Delta("Hel"), Delta("lo")], {}, [{"type": "text", "text": "Hello"}]),
    "thinking": (
        [Delta(thinking="H"), Delta(thinking="m"), Delta("Yes")],
        {},
        [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Yes"}],
    ),
    "both in one piece": (
        [Delta("Yes", "Hm")],
        {},
        [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Yes"}],
    ),
    "calls": (
        [Delta("Look"), Delta(tool_calls=(CALL, ToolCall("f", {}, id="call_2", index=1)))],
        TOOLS,
        [
            {"type": "text", "text": "Look"},
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {"city": "Rome"}},
            {"type": "tool_use", "id": "call_2", "name": "f", "input": {}},
        ],
    ),
    "search": (
        [Delta(tool_calls=(ToolCall("web_search", {"query": "x"}, id="s"),))],
        SEARCH,
        [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "s",
                "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
            },
        ],
    ),
    "nothing": ([], {}, []),
}


@pytest.mark.parametrize(("script", "fields", "blocks"), ANSWERS.values(), ids=ANSWERS)
async def test_content(
    client: httpx.AsyncClient, engine: FakeEngine, script: list[Event], fields: Any, blocks: list[dict[str, Any]]
) -> None:
    engine.script = [*script, final()]
    answer, streamed = await whole(client, **fields), summed(await events(client, **fields))
    assert answer["content"] == streamed
    for block in streamed:
        assert (block.pop("signature", None) is not None) == (block["type"] == "thinking")
    assert streamed == blocks


async def test_the_object(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("Hi"), final()]
    answer = await whole(client)
    assert answer.pop("id").startswith("msg_")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "tinychat",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


async def test_events_come_in_order(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta(thinking="Hm"), Delta("Hi"), final()]
    found = await events(client, messages=[{"role": "user", "content": "What is the capital of France?"}])
    assert [event["type"] for event in found] == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert found[0]["message"]["usage"] == {"input_tokens": 8, "output_tokens": 0}
    assert found[0]["message"]["content"] == []
    assert found[3]["delta"]["type"] == "signature_delta"
    assert found[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


async def test_signatures_are_stable(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta(thinking="H"), Delta(thinking="m"), final()]
    signature = (await whole(client))["content"][0]["signature"]
    assert signature
    assert (await whole(client))["content"][0]["signature"] == signature
    engine.script = [Delta(thinking="Hm"), final()]
    assert summed(await events(client))[0]["signature"] == signature


async def test_reasoning_can_be_left_out(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta(thinking="Hm"), Delta("Hi"), final()]
    thinking = {"type": "adaptive", "display": "omitted"}
    answer = await whole(client, thinking=thinking)
    assert answer["content"] == summed(await events(client, thinking=thinking))
    assert answer["content"][0]["thinking"] == ""
    assert answer["content"][0]["signature"]


@pytest.mark.parametrize("before", [[], [Delta(thinking="Hm.")], [Delta("Wait.")]])
async def test_calls_are_streamed_as_they_are_written(
    client: httpx.AsyncClient, engine: FakeEngine, before: list[Delta]
) -> None:
    second = ToolCall("f", {}, id="call_2", index=1)
    engine.script = [
        *before,
        Delta(call_parts=(CallPart(0, id="call_1", name="f"),)),
        Delta(call_parts=(CallPart(0, '{"city":'),)),
        Delta(call_parts=(CallPart(0, '"Rome"}'),)),
        Delta(tool_calls=(CALL,)),
        Delta(call_parts=(CallPart(1, id="call_2", name="f"), CallPart(1, "{}")), tool_calls=(second,)),
        final("tool_calls"),
    ]
    found = await events(client, **TOOLS)
    pieces = [event["delta"]["partial_json"] for event in found if "partial_json" in event.get("delta", {})]
    assert pieces == ['{"city":', '"Rome"}', "{}"]
    assert [block["id"] for block in summed(found)[len(before) :]] == ["call_1", "call_2"]
    assert (await whole(client, **TOOLS))["content"] == summed(found)


@pytest.mark.parametrize(
    ("pieces", "known"),
    [
        ((), {}),
        (('{"city', '": "Par'), {}),
        (('{"city": "Rome",', ' "days": [1, 2'), {"city": "Rome", "days": [1, 2]}),
        (('{"city": "\\ud83d"',), {}),
    ],
)
async def test_a_call_that_is_cut(
    client: httpx.AsyncClient, engine: FakeEngine, pieces: tuple[str, ...], known: dict[str, Any]
) -> None:
    parts = [CallPart(1, id="call_2", name="f"), *(CallPart(1, piece) for piece in pieces)]
    begun = Delta(call_parts=(CallPart(0, id="call_1", name="f"), CallPart(0, '{"city":"Rome"}')))
    engine.script = [Delta("Hm"), begun, Delta(tool_calls=(CALL,)), *(Delta(call_parts=(p,)) for p in parts)]
    engine.script.append(final("length"))
    block = {"type": "tool_use", "id": "call_2", "name": "f", "input": known}
    answer = await whole(client, **TOOLS)
    assert [part["type"] for part in answer["content"]] == ["text", "tool_use", "tool_use"]
    assert (answer["content"][2], answer["stop_reason"]) == (block, "max_tokens")
    found = await events(client, **TOOLS)
    blocks = [event["content_block"] for event in found if "content_block" in event]
    assert blocks[2] == block | {"input": {}}
    written = [event["delta"]["partial_json"] for event in found if "partial_json" in event.get("delta", {})]
    assert "".join(written) == '{"city":"Rome"}' + "".join(pieces)
    assert found[-2]["delta"]["stop_reason"] == "max_tokens"


async def test_a_search_that_is_cut_is_not_shown(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    parts = (CallPart(0, id="s", name="web_search"), CallPart(0, '{"que'))
    engine.script = [Delta("Hm"), Delta(call_parts=parts), final("length")]
    assert (await whole(client, **SEARCH))["content"] == summed(await events(client, **SEARCH))
    assert (await whole(client, **SEARCH))["content"] == [{"type": "text", "text": "Hm"}]


async def test_parts_of_a_search_are_not_streamed(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    call = ToolCall("web_search", {"query": "x"}, id="s")
    engine.script = [
        Delta(call_parts=(CallPart(0, id="s", name="web_search"), CallPart(0, '{"query":"x"}'))),
        Delta(tool_calls=(call,)),
        final("tool_calls"),
    ]
    found = await events(client, **SEARCH)
    assert [block["type"] for block in summed(found)] == ["server_tool_use", "web_search_tool_result"]
    assert found[-2]["delta"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("end", "calls", "reason"),
    [
        (final("stop"), (), ("end_turn", None)),
        (final("length"), (), ("max_tokens", None)),
        (final("stop", stop_text="###"), (), ("stop_sequence", "###")),
        (final("stop", stop_text="<|im_end|>"), (), ("end_turn", None)),
        (final("tool_calls"), (CALL,), ("tool_use", None)),
        (final("length"), (CALL,), ("max_tokens", None)),
    ],
)
async def test_why_it_ended(
    client: httpx.AsyncClient, engine: FakeEngine, end: Final, calls: tuple[ToolCall, ...], reason: tuple[Any, Any]
) -> None:
    engine.script = [Delta("x", tool_calls=calls), end]
    answer = await whole(client, stop_sequences=["###"])
    delta = (await events(client, stop_sequences=["###"]))[-2]["delta"]
    assert (answer["stop_reason"], answer["stop_sequence"]) == reason
    assert (delta["stop_reason"], delta["stop_sequence"]) == reason


async def test_requests_with_cache_control_are_told_what_was_cached(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = [Delta("x"), final()]
    usage = {"input_tokens": 6, "output_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0}
    cached = {"cache_control": {"type": "ephemeral"}}
    assert (await whole(client, **cached))["usage"] == usage
    assert (await events(client, **cached))[-2]["usage"] == usage


async def test_thinking_is_not_asked_of_a_model_that_cannot(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    weights = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes().replace(b"think", b"thonk")
    digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
    (await client.post(f"/api/blobs/{digest}", content=weights)).raise_for_status()
    (await client.post("/api/create", json={"model": "plain", "files": {"m.gguf": digest}})).raise_for_status()
    engine.script = [Delta("x"), final()]
    for model, think in (("plain", None), ("tinychat", True)):
        await whole(client, model=model, thinking={"type": "enabled", "budget_tokens": 2000})
        asked = engine.asked[-1]
        assert isinstance(asked, ChatRequest)
        assert asked.think == think


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "", "max_tokens": 0, "messages": []}, "model is required"),
        ({"max_tokens": 0, "messages": []}, "max_tokens is required and must be positive"),
        ({"messages": []}, "messages is required"),
        ({"messages": None}, "messages is required"),
        (
            {"messages": [{"role": "user", "content": [{"type": "redacted_thinking", "data": "x"}]}]},
            "messages has no content that a model can read",
        ),
    ],
)
async def test_what_is_missing(client: httpx.AsyncClient, fields: dict[str, Any], message: str) -> None:
    answer = await client.post("/v1/messages", json=ASKED | fields)
    assert answer.status_code == 400
    body = answer.json()
    assert body.pop("request_id") == f"req_{answer.headers['x-request-id']}"
    assert body == {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


async def test_too_many_pictures(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUI="}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [picture] * 16}
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        messages = [{"role": "user", "content": [result]}, {"role": "user", "content": [picture]}]
        answer = await client.post(path, json=ASKED | {"messages": messages})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert answer.json()["error"]["message"] == "too many images: 17, at most 16 are accepted"
    assert not engine.asked


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.ModelNotFound("x"), 404, "not_found_error"),
        (errors.ServerBusy(), 503, "overloaded_error"),
        (errors.RunnerDied(), 500, "api_error"),
        (errors.ContextExceeded("too long"), 400, "invalid_request_error"),
        (RuntimeError("secret"), 500, "api_error"),
    ],
)
async def test_errors_have_the_shape_of_this_api(
    client: httpx.AsyncClient, engine: FakeEngine, error: Exception, status: int, kind: str
) -> None:
    engine.script = [error]
    for stream in (False, True):
        answer = await client.post("/v1/messages", json=ASKED | {"stream": stream})
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == kind
        assert "secret" not in answer.text
    engine.script = [Delta("x"), error]
    last = (await events(client))[-1]
    assert last["type"] == "error"
    assert last["error"]["type"] == kind
    assert last["request_id"]


async def test_tokens_are_counted(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Rendered("prompt", token_count=17)]
    body = {name: value for name, value in ASKED.items() if name != "max_tokens"}
    answer = await client.post("/v1/messages/count_tokens", json=body | TOOLS | {"system": "Be brief."})
    assert (answer.status_code, answer.json()) == (200, {"input_tokens": 17})
    asked = engine.asked[-1]
    assert isinstance(asked, ChatRequest)
    assert [message.role for message in asked.messages] == ["system", "user"]
    assert [tool.name for tool in asked.tools] == ["f"]


@pytest.mark.parametrize(("missing", "message"), [("model", "model is required"), ("messages", "messages is required")])
async def test_what_is_missing_from_a_prompt(client: httpx.AsyncClient, missing: str, message: str) -> None:
    answer = await client.post("/v1/messages/count_tokens", json={**ASKED, missing: None})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)
