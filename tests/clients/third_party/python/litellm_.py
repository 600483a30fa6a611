"""LiteLLM: its two Ollama providers, OpenAI's and Anthropic's."""

from typing import Any

import litellm
from pydantic import BaseModel

from . import common as c

litellm.drop_params = False
litellm.suppress_debug_info = True


class Person(BaseModel):
    name: str
    age: int
    city: str


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def calls(message: Any) -> list[Any]:
    return [(call.function.name, c.arguments(call.function.arguments)) for call in message.tool_calls or []]


class Chat:
    def __init__(self, provider: str, url: str, **fields: Any) -> None:
        self.name = f"litellm {provider}"
        self.provider = provider
        self.fields = {"api_base": url, "api_key": "any", "temperature": 0, "num_retries": 0} | fields

    def ask(self, messages: Any = None, *, model: str = c.MODEL, **fields: Any) -> Any:
        messages = user(c.CAPITAL) if messages is None else messages
        return litellm.completion(model=f"{self.provider}/{model}", messages=messages, **self.fields | fields)

    def whole(self, messages: Any, **fields: Any) -> Any:
        return litellm.stream_chunk_builder(list(self.ask(messages, stream=True, **fields)), messages=messages)

    def plain(self) -> str:
        return self.ask().choices[0].message.content

    def stream(self) -> list[str]:
        return [piece.choices[0].delta.content or "" for piece in self.ask(stream=True)]

    async def asynchronous(self) -> str:
        answer = await litellm.acompletion(model=f"{self.provider}/{c.MODEL}", messages=user(c.CAPITAL), **self.fields)
        return answer.choices[0].message.content

    async def asynchronous_stream(self) -> list[str]:
        model = f"{self.provider}/{c.MODEL}"
        stream = await litellm.acompletion(model=model, messages=user(c.CAPITAL), stream=True, **self.fields)
        return [piece.choices[0].delta.content or "" async for piece in stream]

    def system(self) -> str:
        return self.ask([{"role": "system", "content": c.PIRATE}, *user(c.CAPITAL)]).choices[0].message.content

    def history(self) -> str:
        return self.ask([{"role": role, "content": text} for role, text in c.HISTORY]).choices[0].message.content

    def finish(self) -> str:
        return self.ask().choices[0].finish_reason

    def usage(self) -> tuple[int, int]:
        usage = self.ask().usage
        return usage.prompt_tokens, usage.completion_tokens

    def stream_usage(self) -> tuple[int, int]:
        usage = list(self.ask(stream=True, stream_options={"include_usage": True}))[-1].usage
        return usage.prompt_tokens, usage.completion_tokens

    def thinking(self) -> tuple[str, str]:
        message = self.ask(reasoning_effort="low").choices[0].message
        return message.reasoning_content.strip(), message.content

    def thinking_stream(self) -> tuple[str, str]:
        deltas = [piece.choices[0].delta for piece in self.ask(stream=True, reasoning_effort="low")]
        thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        return thought.strip(), "".join(delta.content or "" for delta in deltas)

    def stop(self) -> str:
        return self.ask(user(c.COUNT), stop=["4"]).choices[0].message.content

    def max_tokens(self) -> str:
        return self.ask(user(c.COUNT), max_tokens=5).choices[0].finish_reason

    def tool(self) -> list[Any]:
        return calls(self.ask(user(c.PARIS), tools=[c.WEATHER_TOOL]).choices[0].message)

    def two_tools(self) -> list[Any]:
        return calls(self.ask(user(c.TWO), tools=[c.WEATHER_TOOL]).choices[0].message)

    def tool_stream(self) -> list[Any]:
        return calls(self.whole(user(c.PARIS), tools=[c.WEATHER_TOOL]).choices[0].message)

    def two_tools_stream(self) -> list[Any]:
        return calls(self.whole(user(c.TWO), tools=[c.WEATHER_TOOL]).choices[0].message)

    def tool_loop(self) -> str:
        message = self.ask(user(c.PARIS), tools=[c.WEATHER_TOOL]).choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "name": c.WEATHER, "content": c.RESULT}
        return self.ask([*user(c.PARIS), message, result], tools=[c.WEATHER_TOOL]).choices[0].message.content

    def json(self) -> Any:
        return c.arguments(self.ask(user(c.PERSON), response_format={"type": "json_object"}).choices[0].message.content)

    def json_schema(self) -> Any:
        schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": c.PERSON_SCHEMA, "strict": True}}
        return c.arguments(self.ask(user(c.PERSON), response_format=schema).choices[0].message.content)

    def structured(self) -> Any:
        answer = self.ask(user(c.PERSON), response_format=Person)
        return Person.model_validate_json(answer.choices[0].message.content)

    def unknown_model(self) -> str:
        return c.caught(Exception, lambda: self.ask(model="nosuch"))

    def cancel(self) -> str:
        for _ in range(5):
            c.first(self.ask(user(c.LONG), stream=True))
        return self.plain()


class Ollama(Chat):
    def embed_batch(self) -> list[list[float]]:
        answer = litellm.embedding(model=f"ollama/{c.EMBEDDER}", input=["a", "b"], api_base=c.URL)
        return [item["embedding"] for item in answer.data]

    async def embed_asynchronous(self) -> list[list[float]]:
        answer = await litellm.aembedding(model=f"ollama/{c.EMBEDDER}", input=["a", "b"], api_base=c.URL)
        return [item["embedding"] for item in answer.data]

    def models(self) -> list[str]:
        fields = {"custom_llm_provider": self.provider, "api_base": c.URL, "check_provider_endpoint": True}
        return [name.split("/")[-1] for name in litellm.get_valid_models(**fields)]

    def check_model_info(self) -> None:
        info = litellm.get_model_info(f"{self.provider}/{c.MODEL}", api_base=c.URL)
        assert info["supports_function_calling"], info


class Prompted(Ollama):
    """The provider for /api/generate. It puts conversations and tools into one prompt: too much for a tiny model."""

    json = system = history = tool = two_tools = tool_stream = two_tools_stream = tool_loop = max_tokens = None


class ByMessage(Ollama):
    """The provider for /api/chat. It numbers the calls of each line anew, and so merges two that come in two lines."""

    two_tools_stream = None


class Tooled(Chat):
    def required_tool(self) -> list[Any]:
        return calls(self.ask(user("Hello!"), tools=[c.WEATHER_TOOL], tool_choice="required").choices[0].message)

    def named_tool(self) -> list[Any]:
        choice = {"type": "function", "function": {"name": c.WEATHER}}
        return calls(self.ask(user("Hello!"), tools=[c.WEATHER_TOOL], tool_choice=choice).choices[0].message)

    def bad_request(self) -> str:
        return c.caught(litellm.BadRequestError, lambda: self.ask(temperature=-3))


class OpenAI(Tooled):
    def embed_batch(self) -> list[list[float]]:
        model = f"openai/{c.EMBEDDER}"
        answer = litellm.embedding(model=model, input=["a", "b"], api_base=f"{c.URL}/v1", api_key="any")
        return [item["embedding"] for item in answer.data]

    def completion(self) -> str:
        model = f"text-completion-openai/{c.MODEL}"
        answer = litellm.text_completion(model=model, prompt="The capital of France is", **self.fields)
        return answer.choices[0].text

    def check_responses(self) -> None:
        answer = litellm.responses(model=f"openai/{c.MODEL}", input=c.CAPITAL, **self.fields)
        assert c.ANSWER in str(answer.output), answer

    def logprobs(self) -> list[Any]:
        return [(e.token, e.logprob) for e in self.ask(logprobs=True, top_logprobs=2).choices[0].logprobs.content]


if __name__ == "__main__":
    options = {"repeat_penalty": 1.0}
    c.run(
        Prompted("ollama", c.URL, **options),
        ByMessage("ollama_chat", c.URL, **options),
        OpenAI("openai", f"{c.URL}/v1"),
        Tooled("anthropic", c.URL, max_tokens=2000),
    )
