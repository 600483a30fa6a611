"""Earlier reasoning in tool loops: the next prompt begins with all that the model has read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.api import ChatRequest, Delta, Final, Message, ToolCall
from tests.engine.running import collect, running
from tests.tools import tool_of

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = tool_of({"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}})
LIKELIEST = {"temperature": 0, "repeat_penalty": 1.0}
QUESTION = Message("user", "What is the weather in Paris?")


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(
        model="tinychat", messages=list(messages), tools=(WEATHER,), think=True, options=LIKELIEST, **fields
    )


async def test_the_prompt_of_the_next_step_continues_the_answer(tmp_path: Path) -> None:
    async with running(tmp_path / "models") as engine:
        thinking, calls, first = "", list[ToolCall](), None
        async for event in engine.chat(ask(QUESTION)):
            if isinstance(event, Delta):
                thinking += event.thinking
                calls += event.tool_calls
            elif isinstance(event, Final):
                first = event
        assert first is not None
        assert thinking
        assert [call.name for call in calls] == ["get_weather"]
        called = Message("assistant", thinking=thinking, tool_calls=tuple(calls))
        step = ask(QUESTION, called, Message("tool", "18 degrees"))

        prompt, continued = (await engine.render(ask(QUESTION))).prompt, (await engine.render(step)).prompt
        assert continued.startswith(f"{prompt}<think>\n{thinking.strip()}\n</think>\n\n<tool_call>")
        _, _, second = await collect(engine.chat(step))
        assert second.prompt_eval_cached >= first.prompt_eval_count + first.eval_count - 1  # without the end token

        later = (await engine.render(ask(*step.messages, Message("assistant", "18."), QUESTION))).prompt
        assert thinking.strip() not in later  # by the model's own template
