"""Chats, completions, embeddings and models with OpenAI's library for Python: what its users do, streaming and not."""

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import BaseModel

from tests.server.openai.sdk import check
from tests.serving import Served

CAPITAL: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of Spain?"}]
ANSWER = "The capital of Spain is Madrid."
THOUGHT = "The user asks for the capital of Spain. It is Madrid.\n"
COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Count to 60"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The name of the city"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
ASKED: ChatCompletionMessageParam = {"role": "user", "content": "What is the weather in Paris?"}


class City(BaseModel):
    name: str
    population: int


@pytest.fixture
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, messages: Any = CAPITAL, **fields: Any) -> ChatCompletion:
    answer = client.chat.completions.create(model="tinychat", messages=messages, temperature=0, **fields)
    check(answer.to_dict())
    return answer


def test_chat(client: openai.OpenAI) -> None:
    answer = chat(client)
    message = answer.choices[0].message
    assert (message.role, message.content, answer.choices[0].finish_reason) == ("assistant", ANSWER, "stop")
    assert (message.to_dict()["reasoning"], message.to_dict()["reasoning_content"]) == (THOUGHT, THOUGHT)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_without_reasoning(client: openai.OpenAI) -> None:
    message = chat(client, reasoning_effort="none").choices[0].message
    assert (message.content, "reasoning" in message.to_dict()) == (ANSWER, False)


def test_the_second_prompt_comes_from_the_cache(client: openai.OpenAI) -> None:
    asked = {"model": "tinychat", "messages": CAPITAL, "max_tokens": 5}
    client.chat.completions.create(**asked)
    usage = client.chat.completions.create(**asked).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1


def test_streaming(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tinychat",
            messages=CAPITAL,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    for chunk in chunks:
        check(chunk.to_dict())
    *pieces, end, counts = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces) == ANSWER
    assert "".join(chunk.choices[0].delta.to_dict().get("reasoning", "") for chunk in pieces) == THOUGHT  # type: ignore[misc]
    assert end.choices[0].finish_reason == "stop"
    assert counts.usage is not None
    assert counts.usage.total_tokens == counts.usage.prompt_tokens + counts.usage.completion_tokens
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


def test_max_completion_tokens_and_stop(client: openai.OpenAI) -> None:
    choice = chat(client, COUNT, reasoning_effort="none", max_completion_tokens=5, max_tokens=50).choices[0]
    assert choice.finish_reason == "length"
    choice = chat(client, COUNT, reasoning_effort="none", stop=[", 4"]).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("1, 2, 3", "stop")


def test_tools_round_trip(client: openai.OpenAI) -> None:
    choice = chat(client, [ASKED], tools=[WEATHER]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    messages = [ASKED, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "22 degrees, sunny"}]
    assert "Paris" in (chat(client, messages, tools=[WEATHER]).choices[0].message.content or "")


def test_the_librarys_own_accumulation_of_calls(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="tinychat", messages=[ASKED], tools=[WEATHER], temperature=0) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.parsed_arguments == {"city": "Paris"}


@pytest.mark.parametrize("tool_choice", ["required", {"type": "function", "function": {"name": "get_current_weather"}}])
def test_a_call_is_forced(client: openai.OpenAI, tool_choice: Any) -> None:
    message = chat(client, tools=[WEATHER], tool_choice=tool_choice, parallel_tool_calls=False).choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert list(json.loads(call.function.arguments)) == ["city"]


def test_parse(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="tinychat", messages=CAPITAL, temperature=0, response_format=City)
    assert isinstance(answer.choices[0].message.parsed, City)


def test_formats_of_other_servers(client: openai.OpenAI) -> None:
    for extra in ({"guided_choice": ["red", "blue"]}, {"structured_outputs": {"regex": "red|blue"}}):
        assert chat(client, extra_body=extra).choices[0].message.content in ("red", "blue")


def test_logprobs(client: openai.OpenAI) -> None:
    choice = chat(client, logprobs=True, top_logprobs=2, max_tokens=4, reasoning_effort="none").choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert len(choice.logprobs.content) == 4
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0
        assert bytes(entry.bytes or ()).decode() == entry.token
        assert [other.logprob for other in entry.top_logprobs] == sorted(
            (other.logprob for other in entry.top_logprobs), reverse=True
        )


def test_several_choices(client: openai.OpenAI) -> None:
    choices = chat(client, n=3).choices
    assert [(choice.index, choice.message.content) for choice in choices] == [(0, ANSWER), (1, ANSWER), (2, ANSWER)]
    found = {0: "", 1: ""}
    for chunk in client.chat.completions.create(
        model="tinychat", messages=CAPITAL, temperature=0, n=2, stream=True, reasoning_effort="none"
    ):
        for choice in chunk.choices:
            found[choice.index] += choice.delta.content or ""
    assert found == {0: ANSWER, 1: ANSWER}


def test_choices_differ(client: openai.OpenAI) -> None:
    story: Any = [{"role": "user", "content": "Tell me a story about a fox named Luna."}]
    answer = client.chat.completions.create(model="tinychat", messages=story, temperature=1.5, n=3, seed=7)
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tinychat", prompt=["Count to 3", "Count to 5"], temperature=0)
    check(answer.to_dict())
    assert [choice.text for choice in answer.choices] == ["1, 2, 3", "1, 2, 3, 4, 5"]
    hole = client.completions.create(model="tinychat", prompt="def add(a, b):\n    return ", suffix="\n", temperature=0)
    assert hole.choices[0].text == "a + b"


def test_completions_streaming(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model="tinychat", prompt="Count to 5", temperature=0, stream=True))
    for chunk in chunks:
        check(chunk.to_dict())
    assert "".join(chunk.choices[0].text for chunk in chunks) == "1, 2, 3, 4, 5"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_scores_of_a_prompt(client: openai.OpenAI, server: Served) -> None:
    prompt = "The capital of Spain is Madrid."
    tokens = httpx.post(f"{server.url}/api/tokenize", json={"model": "tinychat", "content": prompt}).json()["tokens"]
    (choice,) = client.completions.create(model="tinychat", prompt=tokens, max_tokens=0, echo=True, logprobs=1).choices
    assert choice.text == prompt
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or ()) == prompt
    first, *others = choice.logprobs.token_logprobs or ()
    assert first is None
    assert len(others) == len(tokens) - 1
    assert all(number <= 0 and math.isfinite(number) for number in others)


def test_embeddings(client: openai.OpenAI, server: Served) -> None:
    texts = ["Hello", "Madrid"]
    answer = client.embeddings.create(model="tinychat", input=texts)
    plain = client.embeddings.create(model="tinychat", input=texts, encoding_format="float")
    assert [item.embedding for item in answer.data] == [pytest.approx(item.embedding) for item in plain.data]
    tokens = httpx.post(f"{server.url}/api/tokenize", json={"model": "tinychat", "content": "Madrid"}).json()["tokens"]
    by_tokens = client.embeddings.create(model="tinychat", input=[tokens], dimensions=8)
    assert len(by_tokens.data[0].embedding) == 8


def test_models(client: openai.OpenAI) -> None:
    chat(client, max_tokens=1)
    assert [model.id for model in client.models.list()] == ["tinychat:latest"]
    assert client.models.retrieve("tinychat").owned_by == "library"


def test_a_stream_that_is_left_ends_the_answer(client: openai.OpenAI, server: Served) -> None:
    for n in (1, 3):
        stream = client.chat.completions.create(
            model="tinychat", messages=COUNT, n=n, stream=True, extra_body={"num_predict": 100_000, "min_p": 0.1}
        )
        next(iter(stream))
        stream.close()
    httpx.post(f"{server.url}/api/generate", json={"model": "tinychat", "keep_alive": 0})
    while httpx.get(f"{server.url}/api/ps").json()["models"]:  # a model unloads when nothing runs in it
        pass


@pytest.mark.parametrize(
    ("model", "fields", "kind", "param"),
    [
        ("nosuch", {}, openai.NotFoundError, None),
        ("tinychat", {"top_logprobs": 50}, openai.BadRequestError, "top_logprobs"),
        ("tinychat", {"reasoning_effort": "bogus"}, openai.BadRequestError, "reasoning_effort"),
        ("tinychat", {"extra_body": {"top_k": "x"}}, openai.BadRequestError, "top_k"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors(
    client: openai.OpenAI, model: str, fields: Any, kind: type[openai.APIStatusError], param: str | None, stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=model, messages=CAPITAL, stream=stream, **fields)
    assert caught.value.param == param


def test_a_prompt_that_is_too_long(client: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "word " * 400}]
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, long, extra_body={"num_ctx": 256})
    assert caught.value.code == "context_length_exceeded"
    chat(client, [*COUNT, {"role": "assistant", "content": "word " * 300}, *CAPITAL], extra_body={"truncate": True})
