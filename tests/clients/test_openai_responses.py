"""The Responses API with OpenAI's library for Python: what its users do, streaming and not."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import FunctionToolParam, Response
from pydantic import BaseModel

from tests.server.openai.sdk import check_events, check_response
from tests.serving import Served

CAPITAL = "What is the capital of Spain?"
ANSWER = "The capital of Spain is Madrid."
THOUGHT = "The user asks for the capital of Spain. It is Madrid.\n"
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_current_weather",
    "description": "Get the current weather for a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The name of the city"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class City(BaseModel):
    name: str
    population: int


@pytest.fixture
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def thoughts(response: Response) -> list[str]:
    return [item.summary[0].text for item in response.output if item.type == "reasoning"]


def test_create(client: openai.OpenAI) -> None:
    response = client.responses.create(model="tinychat", input=CAPITAL, temperature=0)
    assert (response.output_text, thoughts(response), response.status) == (ANSWER, [THOUGHT], "completed")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    check_response(response.to_dict())


def test_without_reasoning(client: openai.OpenAI) -> None:
    response = client.responses.create(model="tinychat", input=CAPITAL, temperature=0, reasoning={"effort": "none"})
    assert (response.output_text, thoughts(response)) == (ANSWER, [])


def test_reasoning_is_counted_where_the_request_speaks_of_it(client: openai.OpenAI) -> None:
    response = client.responses.create(model="tinychat", input=CAPITAL, temperature=0, reasoning={"summary": "auto"})
    assert response.usage is not None
    assert 0 < response.usage.output_tokens_details.reasoning_tokens < response.usage.output_tokens


def test_logprobs(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="tinychat", input=CAPITAL, temperature=0, include=["message.output_text.logprobs"], top_logprobs=2
    )
    [message] = [item for item in response.output if item.type == "message"]
    [text] = message.content
    assert text.type == "output_text"
    assert text.logprobs is not None
    assert "".join(token.token for token in text.logprobs) == ANSWER
    assert all(token.top_logprobs[0].token == token.token for token in text.logprobs)
    assert {len(token.top_logprobs) for token in text.logprobs} == {2}
    check_response(response.to_dict())


def test_events(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="tinychat", input=CAPITAL, temperature=0, stream=True))
    check_events(event.to_dict() for event in events)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ANSWER
    assert "".join(event.delta for event in events if event.type == "response.reasoning_summary_text.delta") == THOUGHT
    assert events[-1].type == "response.completed"


def test_the_librarys_own_accumulation(client: openai.OpenAI) -> None:
    with client.responses.stream(model="tinychat", input="Where is Paris?", temperature=0, text_format=City) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert response.output_parsed is not None
    assert City.model_validate_json(snapshots[-1]) == response.output_parsed


def test_parse(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="tinychat", input="Where is Paris?", temperature=0, text_format=City)
    assert isinstance(response.output_parsed, City)
    check_response(response.to_dict())


def test_an_answer_that_is_cut_short(client: openai.OpenAI) -> None:
    response = client.responses.create(model="tinychat", input=CAPITAL, temperature=0, max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_tool_loop_that_sends_all_items_back(client: openai.OpenAI) -> None:
    items: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.responses.create(model="tinychat", input=items, tools=[WEATHER], temperature=0)
    [call] = [item for item in first.output if item.type == "function_call"]
    assert (call.name, call.arguments) == ("get_current_weather", '{"city":"Paris"}')
    assert thoughts(first) == ["I should call get_current_weather.\n"]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": '{"temperature": 22}'}
    second = client.responses.create(
        model="tinychat", input=[*items, *first.output, output], tools=[WEATHER], temperature=0
    )
    assert "Paris" in second.output_text
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens - 1


def test_a_streamed_call(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="tinychat", input="What is the weather in Paris?", tools=[WEATHER], temperature=0
    ) as stream:
        events = list(stream)
        response = stream.get_final_response()
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert [event.arguments for event in done] == ["".join(pieces)]
    assert json.loads("".join(pieces)) == {"city": "Paris"}  # the blanks are the model's
    call = response.output[-1]
    assert call.type == "function_call"
    assert call.parsed_arguments == {"city": "Paris"}


def test_a_call_can_be_demanded(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="tinychat", input="Hello!", tools=[WEATHER], tool_choice="required", temperature=0
    )
    assert response.output[-1].type == "function_call"
    response = client.responses.create(
        model="tinychat", input="What is the weather in Paris?", tools=[WEATHER], tool_choice="none", temperature=0
    )
    assert response.output[-1].type == "message"


def test_a_stream_that_is_left_early(client: openai.OpenAI) -> None:
    for _ in range(3):
        with client.responses.create(model="tinychat", input="Count to 60", stream=True) as stream:
            next(iter(stream))
    assert client.responses.create(model="tinychat", input=CAPITAL, temperature=0).output_text == ANSWER


def test_errors_are_those_of_the_library(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nosuch' not found"):
        client.responses.create(model="nosuch", input=CAPITAL)
    with pytest.raises(openai.BadRequestError) as bad:
        client.responses.create(model="tinychat", input=CAPITAL, previous_response_id="resp_1")
    assert bad.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError) as long:
        client.responses.create(model="tinychat", input="word " * 3000, extra_body={"num_ctx": 512})
    assert long.value.code == "context_length_exceeded"


def test_old_messages_are_left_out_on_request(client: openai.OpenAI) -> None:
    talk: list[Any] = [{"role": "user", "content": "word " * 3000}, {"role": "assistant", "content": "Yes."}]
    question = {"role": "user", "content": CAPITAL}
    response = client.responses.create(
        model="tinychat", input=[*talk, question], truncation="auto", temperature=0, extra_body={"num_ctx": 512}
    )
    assert response.output_text == ANSWER
