"""llm, with its plugin for Ollama, and its own models over OpenAI's API."""

import json
from typing import Any

import llm
from llm.default_plugins.openai_models import Chat as OpenAIChat

from . import common as c

OPTIONS = {"temperature": 0}


class Ollama:
    name = "llm-ollama"

    def model(self, name: str = c.MODEL) -> Any:
        return llm.get_model(f"ollama/{name}:latest")

    def plain(self) -> str:
        return self.model().prompt(c.CAPITAL, **OPTIONS).text()

    def stream(self) -> list[str]:
        return list(self.model().prompt(c.CAPITAL, stream=True, **OPTIONS))

    async def asynchronous(self) -> str:
        return await llm.get_async_model(f"ollama/{c.MODEL}:latest").prompt(c.CAPITAL, **OPTIONS).text()

    def system(self) -> str:
        return self.model().prompt(c.CAPITAL, system=c.PIRATE, **OPTIONS).text()

    def history(self) -> str:
        conversation = self.model().conversation()
        conversation.prompt(c.HISTORY[0][1], **OPTIONS).text()
        return conversation.prompt(c.HISTORY[2][1], **OPTIONS).text()

    def usage(self) -> tuple[int, int]:
        usage = (answer := self.model().prompt(c.CAPITAL, **OPTIONS)).text() and answer.usage()
        return usage.input, usage.output

    def json_schema(self) -> Any:
        return json.loads(self.model().prompt(c.PERSON, schema=c.PERSON_SCHEMA, **OPTIONS).text())

    def tool(self) -> list[Any]:
        answer = self.model().prompt(c.PARIS, tools=[c.get_current_weather], **OPTIONS)
        return [(call.name, call.arguments) for call in answer.tool_calls()]

    def two_tools(self) -> list[Any]:
        answer = self.model().prompt(c.TWO, tools=[c.get_current_weather], **OPTIONS)
        return [(call.name, call.arguments) for call in answer.tool_calls()]

    def tool_loop(self) -> str:
        return self.model().chain(c.PARIS, tools=[c.get_current_weather], options=OPTIONS).text()

    def cancel(self) -> str:
        for _ in range(5):
            c.first(self.model().prompt(c.LONG, **OPTIONS))
        return self.plain()

    def models(self) -> list[str]:
        return [model.model_id.removeprefix("ollama/") for model in llm.get_models()]

    def stop(self) -> str:
        return self.model().prompt(c.COUNT, stop=["4"], **OPTIONS).text()

    def embed_batch(self) -> list[list[float]]:
        return list(llm.get_embedding_model(f"ollama/{c.EMBEDDER}:latest").embed_multi(["a", "b"]))


class OpenAI(Ollama):
    name = "llm openai"
    models = stop = embed_batch = asynchronous = None

    def model(self, name: str = c.MODEL) -> Any:
        model = OpenAIChat("here", model_name=name, api_base=f"{c.URL}/v1", supports_tools=True, supports_schema=True)
        model.key = "any"
        return model

    def unknown_model(self) -> str:
        return c.caught(Exception, lambda: self.model("nosuch").prompt("x").text())


if __name__ == "__main__":
    c.run(Ollama(), OpenAI())
