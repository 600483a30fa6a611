"""The request of `POST /v1/responses`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from engine.api import ChatRequest, Message
from server.http.body import Body
from server.http.errors import HTTPError
from server.ollama.fields import Int, Texts
from server.ollama.inference import check_images, check_logprobs
from server.openai.reasoning import EffortName, parse_effort
from server.openai.responses_items import Input
from server.openai.responses_tools import ResponsesTools, ToolsValue
from server.openai.sampling import DEFAULTS, OptionFields
from server.openai.structured import ANY_OBJECT, Schema, StructureFields
from server.openai.tools import FlatRuleValue, ToolRule

_LOGPROBS = "message.output_text.logprobs"
_NAMES = {"messages": "input", "prompt": "input", "images": "input", "think": "reasoning.effort"}
_NOT_STORED = "responses are not stored: send the whole conversation as input"


class TextFormat(Body):
    """What the answer looks like. Answers are always held to a schema, `strict` or not."""

    go: ClassVar[str] = "openai.ResponsesTextFormat"

    type: str = "text"
    name: str = ""
    description: str | None = None
    strict: bool | None = None
    schema_: Schema = Field(default=None, alias="schema")

    @property
    def format(self) -> Any:
        """The engine's format, None for free text. Raises HTTPError."""
        match self.type:
            case "text":
                return None
            case "json_object":
                return ANY_OBJECT
            case "json_schema" if self.schema_ is None:
                raise HTTPError("text.format of type json_schema needs a schema", "text.format.schema")
            case "json_schema":
                return self.schema_
        raise HTTPError('invalid text.format.type (must be "text", "json_object" or "json_schema")', "text.format.type")

    @property
    def echo(self) -> dict[str, Any]:
        """The format as the response repeats it."""
        if self.type != "json_schema":
            return {"type": self.type}
        keys = {"name": self.name, "description": self.description, "strict": self.strict, "schema": self.schema_}
        return {"type": self.type, **keys}


class TextConfig(Body):
    """How text is written; `verbosity` is only repeated."""

    go: ClassVar[str] = "openai.ResponsesText"

    format: TextFormat = Field(default_factory=TextFormat)
    verbosity: str | None = None

    @property
    def echo(self) -> dict[str, Any]:
        """The object as the response repeats it."""
        verbosity = {} if self.verbosity is None else {"verbosity": self.verbosity}
        return {"format": self.format.echo, **verbosity}


def _known_effort(value: str) -> str:
    parse_effort(value)
    return value


class ReasoningConfig(Body):
    """How much the model is to think; `summary` is only repeated: all of the reasoning is shown."""

    go: ClassVar[str] = "openai.ResponsesReasoning"

    effort: Annotated[
        str | None, AfterValidator(_known_effort), Field(json_schema_extra={"enum": [*EffortName.__args__]})
    ] = None
    summary: str | None = None

    @property
    def echo(self) -> dict[str, Any] | None:
        """The keys that were sent, None without any."""
        sent = {"effort": self.effort, "summary": self.summary}
        return {key: value for key, value in sent.items() if value is not None} or None


class ResponsesBody(OptionFields, StructureFields):
    """`POST /v1/responses`. Nothing is stored: `store` counts as false."""

    go: ClassVar[str] = "openai.ResponsesRequest"

    model: str = ""
    input: Input = ()
    instructions: str | None = None
    max_output_tokens: Int | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning: ReasoningConfig = Field(default_factory=ReasoningConfig)
    text: TextConfig = Field(default_factory=TextConfig)
    tools: ToolsValue = Field(default_factory=ResponsesTools)
    tool_choice: FlatRuleValue = None
    parallel_tool_calls: bool = True
    max_tool_calls: Int | None = None
    truncation: str | None = None
    truncate: bool = False
    include: Texts = Field(default_factory=list)
    top_logprobs: Int = 0
    stream: bool = False
    background: bool = False
    metadata: dict[str, Any] = Field(default_factory=dict)
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None

    @property
    def rule(self) -> ToolRule:
        """Which tools may or must be called."""
        return self.tool_choice or ToolRule()

    @property
    def formats(self) -> dict[str, Any]:
        """The engine's format by the field that asks for it, None where it is not given. Raises HTTPError."""
        return {"text.format": self.text.format.format, **super().formats}

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests."""
        return _NAMES.get(field) or super().name_of(field)

    def request(self) -> ChatRequest:
        """The request for the engine. Raises HTTPError."""
        self._check()
        options = self.options_with(
            {"temperature": self.temperature, "top_p": self.top_p, "num_predict": self.max_output_tokens}
        )
        system = [Message("system", self.instructions)] if self.instructions else []
        return ChatRequest(
            model=self.model,
            messages=[*system, *self.input],
            tools=self.rule.among(self.tools.for_engine),
            tool_choice=self.rule.choice,
            parallel_tool_calls=self.parallel_tool_calls,
            options={"temperature": 1.0, **options},
            defaults=DEFAULTS,
            keep_alive=self.keep_alive,
            think=parse_effort(self.reasoning.effort or ""),
            format=self.format,
            truncate=self.truncate or self.truncation == "auto",
            logprobs=_LOGPROBS in self.include,
            top_logprobs=self.top_logprobs,
        )

    def _check(self) -> None:
        if not self.model.strip():
            raise HTTPError("model is required", "model")
        for name in ("previous_response_id", "conversation"):
            if getattr(self, name) is not None:
                raise HTTPError(f"{name} is not supported: {_NOT_STORED}", name)
        if self.prompt is not None:
            raise HTTPError("prompt is not supported: no prompts are stored; use instructions and input", "prompt")
        if self.truncation not in (None, "auto", "disabled"):
            raise HTTPError('invalid truncation (must be "auto" or "disabled")', "truncation")
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            raise HTTPError("max_output_tokens must be at least 1", "max_output_tokens")
        check_logprobs(self.top_logprobs)
        check_images(image for message in self.input for image in message.images)


Truncation = Literal["auto", "disabled"]
