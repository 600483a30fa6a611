"""Haystack: its Ollama integration and its OpenAI generator."""

from typing import Any

from haystack.components.agents import Agent
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, Document
from haystack.tools import Tool
from haystack.utils import Secret
from haystack_integrations.components.embedders.ollama import OllamaDocumentEmbedder, OllamaTextEmbedder
from haystack_integrations.components.generators.ollama import OllamaChatGenerator

from . import common as c

weather = Tool(c.WEATHER, "Get the current weather for a city", c.WEATHER_SCHEMA, c.get_current_weather)


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage.from_user(text)]


def calls(message: ChatMessage) -> list[Any]:
    return [(call.tool_name, call.arguments) for call in message.tool_calls]


class Chat:
    def generator(self, model: str = c.MODEL, options: dict[str, Any] | None = None, **fields: Any) -> Any:
        raise NotImplementedError

    def ask(self, messages: list[ChatMessage], **fields: Any) -> ChatMessage:
        return self.generator(**fields).run(messages)["replies"][0]

    def plain(self) -> str:
        return self.ask(user(c.CAPITAL)).text

    def stream(self) -> list[str]:
        pieces: list[str] = []
        self.ask(user(c.CAPITAL), streaming_callback=lambda piece: pieces.append(piece.content))
        return pieces

    async def asynchronous(self) -> str:
        return (await self.generator().run_async(user(c.CAPITAL)))["replies"][0].text

    def system(self) -> str:
        return self.ask([ChatMessage.from_system(c.PIRATE), *user(c.CAPITAL)]).text

    def history(self) -> str:
        (_, asked), (_, said), (_, question) = c.HISTORY
        return self.ask([*user(asked), ChatMessage.from_assistant(said), *user(question)]).text

    def usage(self) -> tuple[int, int]:
        usage = self.ask(user(c.CAPITAL)).meta["usage"]
        return usage["prompt_tokens"], usage["completion_tokens"]

    def tool(self) -> list[Any]:
        return calls(self.ask(user(c.PARIS), tools=[weather]))

    def two_tools(self) -> list[Any]:
        return calls(self.ask(user(c.TWO), tools=[weather]))

    def two_tools_stream(self) -> list[Any]:
        return calls(self.ask(user(c.TWO), tools=[weather], streaming_callback=lambda piece: None))

    def tool_loop(self) -> str:
        answer = self.ask(user(c.PARIS), tools=[weather])
        result = ChatMessage.from_tool(c.RESULT, origin=answer.tool_calls[0])
        return self.ask([*user(c.PARIS), answer, result], tools=[weather]).text

    def check_agent(self) -> None:
        answer = Agent(chat_generator=self.generator(), tools=[weather]).run(messages=user(c.PARIS))
        assert "22" in answer["messages"][-1].text

    def unknown_model(self) -> str:
        return c.caught(Exception, lambda: self.ask(user("x"), model="nosuch"))


class Ollama(Chat):
    name = "haystack ollama"

    def generator(self, model: str = c.MODEL, options: dict[str, Any] | None = None, **fields: Any) -> Any:
        options = {"temperature": 0, "repeat_penalty": 1.0} | (options or {})
        return OllamaChatGenerator(model=model, url=c.URL, generation_kwargs=options, **fields)

    def thinking(self) -> tuple[str, str]:
        answer = self.ask(user(c.CAPITAL), think=True)
        return answer.reasoning.reasoning_text.strip(), answer.text

    def json_schema(self) -> Any:
        return c.arguments(self.ask(user(c.PERSON), response_format=c.PERSON_SCHEMA).text)

    def json(self) -> Any:
        return c.arguments(self.ask(user(c.PERSON), response_format="json").text)

    def embed(self) -> list[float]:
        return OllamaTextEmbedder(model=c.EMBEDDER, url=c.URL).run("a")["embedding"]

    def embed_batch(self) -> list[list[float]]:
        documents = [Document(content="a"), Document(content="b")]
        embedder = OllamaDocumentEmbedder(model=c.EMBEDDER, url=c.URL, progress_bar=False)
        return [document.embedding for document in embedder.run(documents)["documents"]]


class OpenAI(Chat):
    name = "haystack openai"
    key = Secret.from_token("any")

    def generator(self, model: str = c.MODEL, options: dict[str, Any] | None = None, **fields: Any) -> Any:
        options = {"temperature": 0} | (options or {})
        return OpenAIChatGenerator(
            model=model,
            api_key=self.key,
            api_base_url=f"{c.URL}/v1",
            generation_kwargs=options,
            max_retries=0,
            **fields,
        )

    def json_schema(self) -> Any:
        schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": c.PERSON_SCHEMA, "strict": True}}
        return c.arguments(self.ask(user(c.PERSON), options={"response_format": schema}).text)

    def max_tokens(self) -> str:
        return self.ask(user(c.COUNT), options={"max_completion_tokens": 5}).meta["finish_reason"]

    def embed(self) -> list[float]:
        return OpenAITextEmbedder(model=c.EMBEDDER, api_key=self.key, api_base_url=f"{c.URL}/v1").run("a")["embedding"]


if __name__ == "__main__":
    c.run(Ollama(), OpenAI())
