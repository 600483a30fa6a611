"""LangChain, over all three dialects."""

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from . import common as c

weather = tool(c.get_current_weather)


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int
    city: str


def calls(message: Any) -> list[Any]:
    return [(call["name"], call["args"]) for call in message.tool_calls]


class Chat:
    """What is the same for every provider."""

    name: str
    structured_methods: tuple[str, str, str]

    def model(self, **fields: Any) -> Any:
        raise NotImplementedError

    def plain(self) -> str:
        return self.model().invoke(c.CAPITAL).text

    def stream(self) -> list[str]:
        return [piece.text for piece in self.model().stream(c.CAPITAL)]

    async def asynchronous(self) -> str:
        return (await self.model().ainvoke(c.CAPITAL)).text

    async def asynchronous_stream(self) -> list[str]:
        return [piece.text async for piece in self.model().astream(c.CAPITAL)]

    def batch(self) -> list[str]:
        return [answer.text for answer in self.model().batch([c.CAPITAL, c.CAPITAL])]

    def system(self) -> str:
        return self.model().invoke([SystemMessage(c.PIRATE), HumanMessage(c.CAPITAL)]).text

    def history(self) -> str:
        return self.model().invoke(c.HISTORY).text

    def usage(self) -> tuple[int, int]:
        usage = self.model().invoke(c.CAPITAL).usage_metadata
        return usage["input_tokens"], usage["output_tokens"]

    def stream_usage(self) -> tuple[int, int]:
        whole: Any = None
        for piece in self.model().stream(c.CAPITAL):
            whole = piece if whole is None else whole + piece
        return whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]

    def stop(self) -> str:
        return self.model().invoke(c.COUNT, stop=["4"]).text

    def tool(self) -> list[Any]:
        return calls(self.model().bind_tools([weather]).invoke(c.PARIS))

    def tool_stream(self) -> list[Any]:
        whole: Any = None
        for piece in self.model().bind_tools([weather]).stream(c.PARIS):
            whole = piece if whole is None else whole + piece
        return calls(whole)

    def two_tools(self) -> list[Any]:
        return calls(self.model().bind_tools([weather]).invoke(c.TWO))

    def two_tools_stream(self) -> list[Any]:
        whole: Any = None
        for piece in self.model().bind_tools([weather]).stream(c.TWO):
            whole = piece if whole is None else whole + piece
        return calls(whole)

    def tool_loop(self) -> str:
        model = self.model().bind_tools([weather])
        messages: list[Any] = [HumanMessage(c.PARIS)]
        answer: AIMessage = model.invoke(messages)
        messages += [answer, *(ToolMessage(c.RESULT, tool_call_id=call["id"]) for call in answer.tool_calls)]
        return model.invoke(messages).text

    def structured(self) -> Any:
        return self.model().with_structured_output(Person, method="json_schema").invoke(c.PERSON)

    def check_structured_by_a_call(self) -> None:
        """Without tool_choice on Ollama's API, so the model has to call by itself."""
        schema = c.WEATHER_TOOL["function"]
        found = self.model().with_structured_output(schema, method="function_calling").invoke(c.PARIS)
        assert found == {"city": "Paris"}, found

    def structured_stream(self) -> Any:
        return list(self.model().with_structured_output(Person, method="json_schema").stream(c.PERSON))[-1]

    def cancel(self) -> str:
        for _ in range(5):
            c.first(self.model().stream(c.LONG))
        return self.plain()


class Ollama(Chat):
    name = "langchain-ollama"

    def model(self, **fields: Any) -> ChatOllama:
        return ChatOllama(**{"model": c.MODEL, "base_url": c.URL, "temperature": 0, "repeat_penalty": 1.0} | fields)

    def completion(self) -> str:
        return OllamaLLM(model=c.MODEL, base_url=c.URL, temperature=0).invoke("What is the capital of France?")

    def thinking(self) -> tuple[str, str]:
        answer = self.model(reasoning=True).invoke(c.CAPITAL)
        return answer.additional_kwargs["reasoning_content"].strip(), answer.text

    def thinking_stream(self) -> tuple[str, str]:
        pieces = list(self.model(reasoning=True).stream(c.CAPITAL))
        thought = "".join(piece.additional_kwargs.get("reasoning_content", "") for piece in pieces)
        return thought.strip(), "".join(piece.text for piece in pieces)

    def no_thinking(self) -> tuple[Any, str]:
        answer = self.model(reasoning=False).invoke(c.CAPITAL)
        return answer.additional_kwargs.get("reasoning_content"), answer.text

    def max_tokens(self) -> str:
        return self.model(num_predict=5).invoke(c.COUNT).response_metadata["done_reason"]

    def seed(self) -> list[str]:
        return [self.model(temperature=2, seed=seed).invoke(c.STORY).text for seed in (1, 1, 2)]

    def logprobs(self) -> list[Any]:
        answer = self.model(logprobs=True, top_logprobs=2).invoke(c.CAPITAL)
        return [(e["token"], e["logprob"]) for e in answer.response_metadata["logprobs"]]

    def json(self) -> Any:
        return c.arguments(self.model(format="json", reasoning=False).invoke(c.PERSON).text)

    def structured_prompted(self) -> Any:
        return self.model().with_structured_output(Person, method="json_mode").invoke(c.PERSON)

    def embed(self) -> list[float]:
        return OllamaEmbeddings(model=c.EMBEDDER, base_url=c.URL).embed_query("a")

    def embed_batch(self) -> list[list[float]]:
        return OllamaEmbeddings(model=c.EMBEDDER, base_url=c.URL).embed_documents(["a", "b"])

    async def embed_asynchronous(self) -> list[list[float]]:
        return await OllamaEmbeddings(model=c.EMBEDDER, base_url=c.URL).aembed_documents(["a", "b"])

    def unknown_model(self) -> str:
        return c.caught(Exception, lambda: self.model(model="nosuch").invoke("x"))

    def check_validated_at_start(self) -> None:
        self.model(validate_model_on_init=True)
        c.caught(ValueError, lambda: self.model(model="nosuch", validate_model_on_init=True))


class OpenAICompatible(Chat):
    name = "langchain-openai"

    def model(self, **fields: Any) -> ChatOpenAI:
        own = {"model": c.MODEL, "base_url": f"{c.URL}/v1", "api_key": "any", "temperature": 0, "max_retries": 0}
        return ChatOpenAI(**own | {"stream_usage": True} | fields)

    def completion(self) -> str:
        model = OpenAI(model=c.MODEL, base_url=f"{c.URL}/v1", api_key="any", temperature=0)
        return model.invoke("The capital of France is")

    def max_tokens(self) -> str:
        return self.model(max_tokens=5).invoke(c.COUNT).response_metadata["finish_reason"]

    def seed(self) -> list[str]:
        return [self.model(temperature=2, seed=seed).invoke(c.STORY).text for seed in (1, 1, 2)]

    def logprobs(self) -> list[Any]:
        answer = self.model(logprobs=True, top_logprobs=2).invoke(c.CAPITAL)
        return [(e["token"], e["logprob"]) for e in answer.response_metadata["logprobs"]["content"]]

    def structured_tool(self) -> Any:
        return self.model().with_structured_output(Person, method="function_calling").invoke(c.PERSON)

    def no_tool(self) -> list[Any]:
        return calls(self.model().bind_tools([weather], tool_choice="none").invoke(c.PARIS))

    def required_tool(self) -> list[Any]:
        return calls(self.model().bind_tools([weather], tool_choice="required").invoke("Hello!"))

    def named_tool(self) -> list[Any]:
        return calls(self.model().bind_tools([weather], tool_choice=c.WEATHER, strict=True).invoke("Hello!"))

    def structured_prompted(self) -> Any:
        return self.model().with_structured_output(Person, method="json_mode").invoke(c.PERSON)

    def embed_batch(self) -> list[list[float]]:
        embeddings = OpenAIEmbeddings(
            model=c.EMBEDDER, base_url=f"{c.URL}/v1", api_key="any", check_embedding_ctx_length=False
        )
        return embeddings.embed_documents(["a", "b"])

    def unknown_model(self) -> str:
        return c.caught(Exception, lambda: self.model(model="nosuch").invoke("x"))

    def bad_request(self) -> str:
        return c.caught(Exception, lambda: self.model(temperature=-3).invoke("x"))


class Responses(OpenAICompatible):
    name = "langchain-openai (responses)"
    seed = stop = logprobs = embed_batch = completion = None  # not in this API, or not again

    def model(self, **fields: Any) -> ChatOpenAI:
        return super().model(use_responses_api=True, **fields)

    def max_tokens(self) -> str:
        answer = self.model(max_tokens=5).invoke(c.COUNT)
        assert answer.response_metadata["incomplete_details"]["reason"] == "max_output_tokens"
        return "length"


class Anthropic(Chat):
    name = "langchain-anthropic"

    def model(self, **fields: Any) -> ChatAnthropic:
        own = {"model": c.MODEL, "base_url": c.URL, "api_key": "any", "temperature": 0, "max_retries": 0}
        return ChatAnthropic(**own | {"max_tokens": 200} | fields)

    def max_tokens(self) -> str:
        answer = self.model(max_tokens=5, thinking={"type": "disabled"}).invoke(c.COUNT)
        return {"max_tokens": "length"}[answer.response_metadata["stop_reason"]]

    def structured_tool(self) -> Any:
        return self.model().with_structured_output(Person, method="function_calling").invoke(c.PERSON)

    def required_tool(self) -> list[Any]:
        return calls(self.model().bind_tools([weather], tool_choice="any").invoke("Hello!"))

    def named_tool(self) -> list[Any]:
        return calls(self.model().bind_tools([weather], tool_choice=c.WEATHER).invoke("Hello!"))

    def thinking(self) -> tuple[str, str]:
        budget = {"type": "enabled", "budget_tokens": 1024}
        answer = self.model(thinking=budget, temperature=None, max_tokens=2000).invoke(c.CAPITAL)
        return answer.content[0]["thinking"].strip(), answer.text

    def unknown_model(self) -> str:
        return c.caught(Exception, lambda: self.model(model="nosuch").invoke("x"))


if __name__ == "__main__":
    c.run(Ollama(), OpenAICompatible(), Responses(), Anthropic())
