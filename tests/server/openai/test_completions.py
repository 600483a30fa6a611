"""`/v1/completions`: what it refuses, what it asks the engine, and its answers."""

import json
import math
from typing import Any

import httpx
import pytest

from engine.api import Delta, Detokenized, Final, GenerateRequest, Rendered, TokenLogprob
from engine.errors import RunnerDied
from tests.server.fake_engine import FakeEngine
from tests.server.openai.sdk import check, check_chunks
from tests.server.openai.test_models import openai

PATH = "/v1/completions"
FINAL = Final(done_reason="stop", prompt_eval_count=3, prompt_eval_cached=1, eval_count=2)


def request(prompt: str, **fields: Any) -> GenerateRequest:
    options = {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0}
    options |= fields.pop("options", {})
    defaults = {"repeat_penalty": 1.0}
    return GenerateRequest(model="m", prompt=prompt, options=options, defaults=defaults, truncate=False, **fields)


async def post(client: httpx.AsyncClient, engine: FakeEngine, script: Any, **fields: Any) -> httpx.Response:
    engine.script = script
    return await client.post(PATH, json={"model": "m", "prompt": "Hi", **fields})


async def whole(client: httpx.AsyncClient, engine: FakeEngine, script: Any, **fields: Any) -> dict[str, Any]:
    answer = await post(client, engine, script, **fields)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"model": "m", "prompt": 5}, "invalid prompt: a text, token ids, or a list of either is expected", "prompt"),
        (
            {"model": "m", "prompt": [1, "a"]},
            "invalid prompt: a text, token ids, or a list of either is expected",
            "prompt",
        ),
        ({"model": "m", "prompt": "a", "best_of": 2}, "best_of above 1 is not supported", "best_of"),
        ({"model": "m", "prompt": "a", "logprobs": 21}, "logprobs must be between 0 and 20", "logprobs"),
        ({"model": "m", "prompt": "a", "n": 0}, "n must be between 1 and 128", "n"),
        (
            {"model": "m", "prompt": ["a"] * 65, "n": 2},
            "too many prompts: at most 128 answers are given at once",
            "prompt",
        ),
        ({"model": "m", "prompt": "a", "stop": [5]}, "invalid type for 'stop' field: float64", "stop"),
        (
            {"model": "m", "prompt": "a", "echo": 1},
            "json: cannot unmarshal number into Go struct field CompletionRequest.echo of type bool",
            "echo",
        ),
    ],
)
async def test_refusals(client: httpx.AsyncClient, engine: FakeEngine, body: object, message: str, param: str) -> None:
    answer = await client.post(PATH, json=body)
    assert (answer.status_code, answer.json()) == (400, openai(message, param=param))
    assert not engine.asked


async def test_no_model(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json={"prompt": "a"})
    assert (answer.status_code, answer.json()) == (404, openai("model '' not found", "not_found_error"))


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, request("Hi")),
        ({"temperature": 0, "top_p": 0}, request("Hi", options={"temperature": 0})),
        ({"max_tokens": 5, "stop": "x"}, request("Hi", options={"num_predict": 5, "stop": ["x"]})),
        ({"suffix": "!", "top_k": 1}, request("Hi", suffix="!", options={"top_k": 1})),
        ({"raw": True, "truncate": None}, request("Hi", raw=True)),
        ({"logprobs": 0}, request("Hi", logprobs=True)),
        ({"logprobs": 2}, request("Hi", logprobs=True, top_logprobs=2)),
        ({"response_format": {"type": "json_object"}}, request("Hi", format='"json"')),
        ({"prompt": [1, 2]}, request("", prompt_tokens=(1, 2), raw=True)),
    ],
)
async def test_the_request(client: httpx.AsyncClient, engine: FakeEngine, fields: Any, asked: GenerateRequest) -> None:
    await whole(client, engine, [FINAL], **fields)
    assert engine.asked == [asked]


async def test_whole(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    answer = check(await whole(client, engine, [Delta(thinking="hm"), Delta("a"), Delta("b"), FINAL]))
    assert answer["id"].startswith("cmpl-")
    assert answer["choices"] == [{"text": "ab", "index": 0, "finish_reason": "stop"}]
    assert list(answer) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert answer["usage"]["total_tokens"] == 5
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}


async def test_a_list_of_prompts(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.scripts = [[Delta(text), FINAL] for text in "abcd"]
    answer = check(await whole(client, engine, [], prompt=["x", "y"], n=2, seed=5))
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == list(enumerate("abcd"))
    assert [(asked.prompt, asked.options["seed"]) for asked in engine.asked] == [  # type: ignore[union-attr]
        ("x", 5),
        ("x", 6),
        ("y", 5),
        ("y", 6),
    ]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (6, 8)


async def test_stream(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    chunks = check_chunks(await post(client, engine, [Delta(thinking="x"), Delta("a"), Delta("b"), FINAL], stream=True))
    assert [chunk["choices"] for chunk in chunks] == [
        [{"text": "a", "index": 0, "finish_reason": None}],
        [{"text": "b", "index": 0, "finish_reason": None}],
        [{"text": "", "index": 0, "finish_reason": "stop"}],
    ]
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_at_the_end(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    answer = await post(client, engine, [Delta("a"), FINAL], stream=True, stream_options={"include_usage": True})
    chunks = check_chunks(answer)
    assert [chunk["usage"]["total_tokens"] for chunk in chunks] == [0, 0, 5]
    assert chunks[-1]["choices"] == []


async def test_an_error_in_the_stream(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    answer = await post(client, engine, [Delta("a"), RunnerDied("gone")], stream=True)
    error = json.loads(answer.text.split("\n\n")[-2].removeprefix("data: "))["error"]
    assert error["type"] == "api_error"
    assert "[DONE]" not in answer.text


TOKENS = (TokenLogprob(b"\xc3", -0.5, (TokenLogprob(b"b", -0.25),)), TokenLogprob(b"\xa9b", -1.0))
LOGPROBS = {
    "tokens": ["bytes:\\xc3", "bytes:\\xa9\\x62"],
    "token_logprobs": [-0.5, -1.0],
    "top_logprobs": [{"b": -0.25, "bytes:\\xc3": -0.5}, {"bytes:\\xa9\\x62": -1.0}],
    "text_offset": [0, 0],
}


async def test_logprobs(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    last = TokenLogprob(b"c", -2.0)
    script = [Delta("\u00e9b", logprobs=TOKENS), Delta("c", logprobs=(last,)), FINAL]
    (choice,) = check(await whole(client, engine, script, logprobs=1))["choices"]
    assert choice["logprobs"]["tokens"] == [*LOGPROBS["tokens"], "c"]
    assert choice["logprobs"]["text_offset"] == [0, 0, 2]
    first, second, _ = check_chunks(await post(client, engine, script, logprobs=1, stream=True))
    assert first["choices"][0]["logprobs"] == LOGPROBS
    assert second["choices"][0]["logprobs"]["text_offset"] == [2]


async def test_echo(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    (choice,) = (await whole(client, engine, [Delta("!"), FINAL], echo=True))["choices"]
    assert choice["text"] == "Hi!"
    assert engine.asked == [request("Hi")]
    first, *_ = check_chunks(await post(client, engine, [Delta("!"), FINAL], echo=True, stream=True))
    assert first["choices"][0]["text"] == "Hi"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("fields", "text"), [({"echo": True}, "Hi"), ({"echo": True, "prompt": [7]}, "Hi"), ({}, "")])
async def test_no_tokens_are_generated(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool, fields: Any, text: str
) -> None:
    script = [Detokenized(text="Hi"), Delta("!"), FINAL]
    engine.scripts = [script[:1], script[1:]] if "prompt" in fields else [script[1:]]
    answer = await post(client, engine, [], max_tokens=0, stream=stream, **fields)
    chunks = check_chunks(answer) if stream else [check(answer.json())]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    if not stream:
        assert chunks[0]["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize("scores_only", [True, False])
async def test_scores_of_a_prompt(client: httpx.AsyncClient, engine: FakeEngine, scores_only: bool) -> None:
    scores = Delta(logprobs=(TokenLogprob(b"H", math.nan), TokenLogprob(b"i", -0.5, (TokenLogprob(b"o", -0.25),))))
    engine.scripts = [[Detokenized(text="Hi")], [scores, Delta("!", logprobs=(TokenLogprob(b"!", -1.0),)), FINAL]]
    answer = await whole(client, engine, [], prompt=[7, 8], echo=True, logprobs=1, max_tokens=0 if scores_only else 1)
    (choice,) = answer["choices"]
    count = 2 if scores_only else 3
    assert choice["text"] == "Hi!"[:count]
    assert choice["logprobs"] == {
        "tokens": ["H", "i", "!"][:count],
        "token_logprobs": [None, -0.5, -1.0][:count],
        "top_logprobs": [None, {"o": -0.25, "i": -0.5}, {"!": -1.0}][:count],
        "text_offset": [0, 1, 2][:count],
    }
    asked = next(asked for asked in engine.asked if isinstance(asked, GenerateRequest))
    assert (asked.raw, asked.prompt_logprobs, asked.options["num_predict"]) == (True, True, 1)
    assert answer["usage"]["completion_tokens"] == (0 if scores_only else 2)


async def test_without_a_prompt_the_model_is_loaded(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    for prompt in (None, "", []):
        (choice,) = (await whole(client, engine, [], prompt=prompt))["choices"]
        assert choice == {"text": "", "index": 0, "finish_reason": "stop"}
    (chunk,) = check_chunks(await post(client, engine, [], prompt="", stream=True, keep_alive=0))
    assert chunk["choices"][0]["finish_reason"] == "stop"
    assert engine.unloaded == ["m"]


async def test_render_only(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    answer = await whole(client, engine, [Rendered("the prompt")], _debug_render_only=True)
    assert answer["_debug_info"] == {"rendered_template": "the prompt"}
