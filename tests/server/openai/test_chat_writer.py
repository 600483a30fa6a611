"""The answers of `/v1/chat/completions`, whole and streamed."""

import json
from typing import Any

import httpx
import pytest

from engine.api import CallPart, ChatRequest, Delta, Final, ModelLoading, PromptRead, Queued, TokenLogprob, ToolCall
from engine.errors import RunnerDied
from tests.server.fake_engine import FakeEngine
from tests.server.openai.sdk import check, check_chunks

FINAL = Final(done_reason="stop", prompt_eval_count=3, prompt_eval_cached=2, eval_count=4, thinking_count=1)
CALLS = (ToolCall("f", {"city": "Paris", "n": 1}, "c1"), ToolCall("g", {}, "c2", 1))
CALLED = Final(done_reason="tool_calls", prompt_eval_count=3, eval_count=4)
TOKEN = TokenLogprob(b"\xc3", -0.5, (TokenLogprob(b"\xc3", -0.5), TokenLogprob(b"", float("-inf"))))
LOGPROB = {
    "token": "\ufffd",
    "logprob": -0.5,
    "bytes": [195],
    "top_logprobs": [
        {"token": "\ufffd", "logprob": -0.5, "bytes": [195]},
        {"token": "", "logprob": -9999.0, "bytes": []},
    ],
}
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 2},
}


async def post(client: httpx.AsyncClient, engine: FakeEngine, script: Any, **fields: Any) -> httpx.Response:
    engine.script = script
    body = {"model": "M", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return await client.post("/v1/chat/completions", json=body)


async def whole(client: httpx.AsyncClient, engine: FakeEngine, script: Any, **fields: Any) -> dict[str, Any]:
    answer = await post(client, engine, script, **fields)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.text.endswith("}\n")
    return check(answer.json())


async def chunks(client: httpx.AsyncClient, engine: FakeEngine, script: Any, **fields: Any) -> list[dict[str, Any]]:
    return check_chunks(await post(client, engine, script, stream=True, **fields))


async def deltas(client: httpx.AsyncClient, engine: FakeEngine, script: Any, **fields: Any) -> list[dict[str, Any]]:
    """The deltas of the only choice, without that of the end."""
    choices = [choice for chunk in await chunks(client, engine, script, **fields) for choice in chunk["choices"]]
    assert choices[-1]["delta"] == {}
    assert all(choice["finish_reason"] is None for choice in choices[:-1])
    return [choice["delta"] for choice in choices[:-1]]


async def test_the_progress_of_a_prompt_as_llama_cpp_tells_it(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    script = [Queued(1), ModelLoading(0.5), PromptRead(8, 24, 4, 1_500_000), PromptRead(24, 24, 4, 3_000_000)]
    first, second, *rest = await chunks(client, engine, [*script, Delta("Hi"), FINAL], return_progress=True)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["prompt_progress"] == {"total": 24, "cache": 4, "processed": 8, "time_ms": 1.5}
    assert second["choices"][0] == {"index": 0, "delta": {"content": ""}, "finish_reason": None}
    assert second["prompt_progress"]["processed"] == 24
    assert [chunk["choices"][0]["delta"] for chunk in rest] == [{"content": "Hi"}, {}]
    assert not any("prompt_progress" in chunk for chunk in rest)


async def test_progress_is_asked_for_in_streams_alone(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    for fields in ({"return_progress": True}, {"stream": True}, {"return_progress": True, "stream": True}):
        await post(client, engine, [Delta("Hi"), FINAL], **fields)
    assert [isinstance(request, ChatRequest) and request.progress for request in engine.asked] == [False, False, True]


async def test_whole(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    answer = await whole(client, engine, [Delta(thinking="h"), Delta("Hel", "m"), Delta("lo"), FINAL])
    number = answer.pop("id").removeprefix("chatcmpl-")
    assert 0 <= int(number) <= 998
    assert answer.pop("created") > 1_600_000_000
    message = {"role": "assistant", "content": "Hello", "reasoning": "hm", "reasoning_content": "hm"}
    assert answer == {
        "object": "chat.completion",
        "model": "M",
        "system_fingerprint": "fp_ollama",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }


async def test_nothing(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    (choice,) = (await whole(client, engine, [Final(done_reason="length")]))["choices"]
    assert choice == {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "length"}
    first, last = await chunks(client, engine, [Final(done_reason="length")])
    assert first["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]


async def test_stream(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    found = await chunks(client, engine, [Delta("Hel"), Delta("lo"), FINAL])
    heads = [{key: value for key, value in chunk.items() if key != "choices"} for chunk in found]
    assert all(head == heads[0] for head in heads)
    assert list(heads[0]) == ["id", "object", "created", "model", "system_fingerprint"]
    assert [chunk["choices"] for chunk in found] == [
        [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    ]


async def test_usage_at_the_end(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    found = await chunks(client, engine, [Delta("a"), FINAL], stream_options={"include_usage": True})
    assert [chunk.get("usage") for chunk in found] == [None, None, USAGE]
    assert found[-1]["choices"] == []
    assert list(found[0]) == ["id", "object", "created", "model", "system_fingerprint", "choices"]


@pytest.mark.parametrize("asked", [{"reasoning_effort": "low"}, {"reasoning": {"effort": "none"}}, {"reasoning": {}}])
async def test_reasoning_is_counted_where_it_is_asked_for(
    client: httpx.AsyncClient, engine: FakeEngine, asked: dict[str, Any]
) -> None:
    usage = USAGE | {"completion_tokens_details": {"reasoning_tokens": 1}}
    assert (await whole(client, engine, [FINAL], **asked))["usage"] == usage
    found = await chunks(client, engine, [FINAL], stream_options={"include_usage": True}, **asked)
    assert found[-1]["usage"] == usage


async def test_reasoning_comes_apart(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    script = [Delta(thinking="a"), Delta("x", "b"), Delta("", "c", CALLS[:1]), CALLED]
    first, second, third, fourth, fifth = await deltas(client, engine, script)
    assert first == {"role": "assistant", "content": "", "reasoning": "a", "reasoning_content": "a"}
    assert second == {"reasoning": "b", "reasoning_content": "b"}
    assert third == {"content": "x"}
    assert fourth == {"reasoning": "c", "reasoning_content": "c"}
    assert fifth["content"] == ""
    assert len(fifth["tool_calls"]) == 1


async def test_calls(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    calls = [
        {
            "id": "c1",
            "index": 0,
            "type": "function",
            "function": {"name": "f", "arguments": '{"city":"Paris","n":1}'},
        },
        {"id": "c2", "index": 1, "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    script = [Delta(tool_calls=CALLS), CALLED]
    (choice,) = (await whole(client, engine, script))["choices"]
    assert choice["message"] == {"role": "assistant", "content": "", "tool_calls": calls}
    assert choice["finish_reason"] == "tool_calls"
    assert await deltas(client, engine, script) == [{"role": "assistant", "content": "", "tool_calls": calls}]


async def test_calls_in_parts(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    parts = (CallPart(0, id="c1", name="f"), CallPart(0, '{"city":'))
    rest = (CallPart(0, ' "Paris", "n": 1}'),)
    script = [Delta(call_parts=parts), Delta(tool_calls=CALLS, call_parts=rest), CALLED]
    head, first, second, other = await deltas(client, engine, script)
    assert head == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "index": 0, "type": "function", "function": {"name": "f", "arguments": ""}}],
    }
    assert first == {"content": "", "tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}
    assert second == {"content": "", "tool_calls": [{"index": 0, "function": {"arguments": ' "Paris", "n": 1}'}}]}
    assert [call["id"] for call in other["tool_calls"]] == ["c2"]
    (choice,) = (await whole(client, engine, script))["choices"]
    assert [call["id"] for call in choice["message"]["tool_calls"]] == ["c1", "c2"]


async def test_a_call_that_is_cut(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    cut = [
        Delta(call_parts=(CallPart(2, id="c3", name="h"),)),
        Delta(call_parts=(CallPart(2, '{"a":'), CallPart(2, "["))),
    ]
    script = [
        Delta(call_parts=(CallPart(0, id="c1", name="f"), CallPart(0, "{"))),
        Delta(tool_calls=CALLS),
        *cut,
        FINAL,
    ]
    (choice,) = (await whole(client, engine, script))["choices"]
    *complete, last = choice["message"]["tool_calls"]
    assert [call["id"] for call in complete] == ["c1", "c2"]
    assert last == {"id": "c3", "index": 2, "type": "function", "function": {"name": "h", "arguments": '{"a":['}}
    streamed = [call for delta in await deltas(client, engine, script) for call in delta.get("tool_calls", [])]
    pieces = [call["function"]["arguments"] for call in streamed if call["index"] == 2]
    assert "".join(pieces) == last["function"]["arguments"]


async def test_a_call_that_was_written_in_parts_is_not_repeated(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    script = [Delta(call_parts=(CallPart(0, id="c1", name="f"),)), Delta(tool_calls=CALLS[:1]), CALLED]
    assert len(await deltas(client, engine, script)) == 1


async def test_calls_in_the_old_form(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    functions = [{"name": "f", "parameters": {}}]
    called = {"name": "f", "arguments": '{"city":"Paris","n":1}'}
    script = [Delta(tool_calls=CALLS[:1]), CALLED]
    (choice,) = (await whole(client, engine, script, functions=functions))["choices"]
    assert choice["message"] == {"role": "assistant", "content": "", "function_call": called}
    assert choice["finish_reason"] == "function_call"
    first, last = await chunks(client, engine, script, functions=functions)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "function_call": called}
    assert last["choices"][0]["finish_reason"] == "function_call"


async def test_logprobs(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    script = [Delta(logprobs=(TOKEN,)), Delta("x", "y", logprobs=(TOKEN, TOKEN)), FINAL]
    (choice,) = (await whole(client, engine, script, logprobs=True))["choices"]
    assert choice["logprobs"] == {"content": [LOGPROB] * 3}
    found = [chunk["choices"][0] for chunk in await chunks(client, engine, script, logprobs=True)]
    assert [choice.get("logprobs") for choice in found] == [
        {"content": [LOGPROB]},
        None,
        {"content": [LOGPROB, LOGPROB]},
        None,
    ]
    assert found[0]["delta"] == {"role": "assistant", "content": ""}


async def test_several_choices(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    script = [Delta("a"), 0.01, Delta("b"), FINAL]
    answer = await whole(client, engine, script, n=3)
    assert [(choice["index"], choice["message"]["content"]) for choice in answer["choices"]] == [
        (0, "ab"),
        (1, "ab"),
        (2, "ab"),
    ]
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == 12
    *found, counts = await chunks(client, engine, script, n=3, stream_options={"include_usage": True})
    assert counts["usage"] == answer["usage"]
    for index in range(3):
        own = [choice for chunk in found for choice in chunk["choices"] if choice["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in own) == "ab"
        assert own[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in own] == [None, None, "stop"]


@pytest.mark.parametrize("n", [1, 3])
async def test_an_error_in_the_stream(client: httpx.AsyncClient, engine: FakeEngine, n: int) -> None:
    answer = await post(client, engine, [Delta("a"), 0.05, RunnerDied("gone")], stream=True, n=n)
    assert answer.status_code == 200
    *found, last, end = answer.text.split("\n\n")
    assert len(found) == n
    assert end == ""
    error = {"message": str(RunnerDied("gone")), "type": "api_error", "param": None, "code": None}
    assert json.loads(last.removeprefix("data: ")) == {"error": error}


async def test_an_error_of_one_choice_ends_the_others(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.scripts = [[Delta("a"), 60.0, FINAL], [Delta("b"), RunnerDied("gone")]]
    answer = await post(client, engine, [], n=2)
    assert answer.status_code == 500
    assert engine.abandoned == 1


async def test_line_ends_in_text(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    text = "a\u2028b\u0085c"
    assert await deltas(client, engine, [Delta(text), FINAL]) == [{"role": "assistant", "content": text}]
    answer = await post(client, engine, [Delta(text), FINAL], stream=True)
    assert len(answer.text.splitlines()) == len(answer.text.split("\n")) - 1
