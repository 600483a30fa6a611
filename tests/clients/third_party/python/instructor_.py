"""Instructor: its modes over OpenAI's and Anthropic's clients."""

from collections.abc import Callable
from typing import Any

import anthropic
import instructor
import openai
from instructor import Mode
from pydantic import BaseModel

from . import common as c


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int
    city: str


MESSAGES = [{"role": "user", "content": c.PERSON}]


class InMode:
    """A mode: whole, streamed piece by piece, several, asynchronous."""

    def __init__(self, name: str, mode: Mode, make: Callable[[Mode, bool], Any], **fields: Any) -> None:
        self.name = f"instructor {name} {mode.name}"
        self.mode, self.make = mode, make
        self.fields = {"model": c.MODEL, "messages": MESSAGES, "max_retries": 0} | fields

    def structured(self) -> Any:
        return self.make(self.mode, False).create(response_model=Person, **self.fields)

    def structured_stream(self) -> Any:
        return list(self.make(self.mode, False).create_partial(response_model=Person, **self.fields))[-1]

    async def check_asynchronous(self) -> None:
        assert c.EXPECTED["structured"](await self.make(self.mode, True).create(response_model=Person, **self.fields))

    def check_completion(self) -> None:
        person, answer = self.make(self.mode, False).create_with_completion(response_model=Person, **self.fields)
        assert c.EXPECTED["structured"](person)
        assert answer.usage

    def unknown_model(self) -> str:
        fields = self.fields | {"model": "nosuch"}
        return c.caught(Exception, lambda: self.make(self.mode, False).create(response_model=Person, **fields))


def over_openai(mode: Mode, asynchronous: bool) -> Any:
    kind = openai.AsyncOpenAI if asynchronous else openai.OpenAI
    return instructor.from_openai(kind(base_url=f"{c.URL}/v1", api_key="any", max_retries=0), mode=mode)


def over_anthropic(mode: Mode, asynchronous: bool) -> Any:
    kind = anthropic.AsyncAnthropic if asynchronous else anthropic.Anthropic
    return instructor.from_anthropic(kind(base_url=c.URL, api_key="any", max_retries=0), mode=mode)


class Provider:
    """`from_provider`, as its documentation on Ollama says."""

    name = "instructor from_provider"

    def structured(self) -> Any:
        client = instructor.from_provider(f"ollama/{c.MODEL}", base_url=f"{c.URL}/v1", mode=Mode.TOOLS)
        return client.create(response_model=Person, messages=MESSAGES, max_retries=0, temperature=0)


if __name__ == "__main__":
    modes = [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON_SCHEMA]  # the others only put a schema into the prompt
    c.run(
        *(InMode("openai", mode, over_openai, max_tokens=200, temperature=0) for mode in modes),
        InMode("anthropic", Mode.ANTHROPIC_TOOLS, over_anthropic, max_tokens=200, extra_body={"temperature": 0}),
        Provider(),
    )
