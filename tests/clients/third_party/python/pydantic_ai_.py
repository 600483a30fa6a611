"""Pydantic AI: its Ollama provider, OpenAI's two APIs and Anthropic's."""

from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ThinkingPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from . import common as c


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int
    city: str


class Pydantic:
    def __init__(self, name: str, kind: Any, provider: Any) -> None:
        self.name = f"pydantic-ai {name}"
        self.kind, self.provider = kind, provider

    def agent(self, model: str = c.MODEL, settings: dict[str, Any] | None = None, **fields: Any) -> Agent[Any, Any]:
        settings = {"temperature": 0, "max_tokens": 200} | (settings or {})
        return Agent(self.kind(model, provider=self.provider), model_settings=settings, retries=0, **fields)

    async def ask(self, prompt: str = c.CAPITAL, **fields: Any) -> Any:
        return await self.agent(**fields).run(prompt)

    async def plain(self) -> str:
        return (await self.ask()).output

    async def stream(self) -> list[str]:
        async with self.agent().run_stream(c.CAPITAL) as answer:
            return [text async for text in answer.stream_text(delta=True, debounce_by=None)]

    async def system(self) -> str:
        return (await self.ask(instructions=c.PIRATE)).output

    async def history(self) -> str:
        (_, asked), (_, said), (_, question) = c.HISTORY
        history = [ModelRequest([UserPromptPart(asked)]), ModelResponse([TextPart(said)])]
        return (await self.agent().run(question, message_history=history)).output

    async def usage(self) -> tuple[int, int]:
        usage = (await self.ask()).usage
        return usage.input_tokens, usage.output_tokens

    async def stream_usage(self) -> tuple[int, int]:
        async with self.agent().run_stream(c.CAPITAL) as answer:
            await answer.get_output()
            return answer.usage.input_tokens, answer.usage.output_tokens

    async def thinking(self) -> tuple[str, str]:
        budget = {"type": "enabled", "budget_tokens": 1024}
        settings = {"openai_reasoning_effort": "low", "anthropic_thinking": budget, "max_tokens": 2000}
        answer = await self.ask(settings=settings)
        thought = [part.content for part in answer.all_messages()[-1].parts if isinstance(part, ThinkingPart)]
        return "".join(thought).strip(), answer.output

    async def max_tokens(self) -> str:
        settings = {"max_tokens": 40, "openai_reasoning_effort": "none"}
        return (await self.ask(c.COUNT, settings=settings)).all_messages()[-1].finish_reason

    async def tool_loop(self) -> str:
        return (await self.ask(c.PARIS, tools=[c.get_current_weather])).output

    async def tool(self) -> list[Any]:
        messages = (await self.ask(c.PARIS, tools=[c.get_current_weather])).all_messages()
        return [(p.tool_name, p.args_as_dict()) for m in messages for p in m.parts if isinstance(p, ToolCallPart)]

    async def two_tools(self) -> list[Any]:
        messages = (await self.ask(c.TWO, tools=[c.get_current_weather])).all_messages()
        return [(p.tool_name, p.args_as_dict()) for m in messages for p in m.parts if isinstance(p, ToolCallPart)]

    async def tool_loop_stream(self) -> str:
        async with self.agent(tools=[c.get_current_weather]).run_stream(c.PARIS) as answer:
            return await answer.get_output()

    async def structured(self) -> Any:
        return (await self.ask(c.PERSON, output_type=NativeOutput(Person))).output

    async def structured_tool(self) -> Any:
        return (await self.ask(c.PERSON, output_type=ToolOutput(Person))).output

    async def structured_prompted(self) -> Any:
        return (await self.ask(c.PERSON, output_type=PromptedOutput(Person))).output

    async def structured_stream(self) -> Any:
        async with self.agent(output_type=ToolOutput(Person)).run_stream(c.PERSON) as answer:
            return await answer.get_output()

    async def unknown_model(self) -> str:
        return await c.caught_later(ModelHTTPError, self.ask(model="nosuch"))

    async def cancel(self) -> str:
        for _ in range(5):
            async with self.agent().run_stream(c.LONG) as answer:
                async for _ in answer.stream_text(delta=True, debounce_by=None):
                    break
        return await self.plain()


class OverAnthropic(Pydantic):
    structured = None  # the client knows by the names of models who can


if __name__ == "__main__":
    openai = OpenAIProvider(base_url=f"{c.URL}/v1", api_key="any")
    c.run(
        Pydantic("ollama", OllamaModel, OllamaProvider(base_url=f"{c.URL}/v1")),
        Pydantic("openai chat", OpenAIChatModel, openai),
        Pydantic("openai responses", OpenAIResponsesModel, openai),
        OverAnthropic("anthropic", AnthropicModel, AnthropicProvider(base_url=c.URL, api_key="any")),
    )
