"""Requests and answers of `/v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from engine.api import ChatRequest, Tool, ToolChoice
from server.http.body import FIRST_ERROR, go_list
from server.http.openapi import AnswerObject
from server.ollama.fields import FunctionBody, Int, ToolBody, Tools, at_most
from server.openai.inference_body import InferenceBody
from server.openai.messages import ChatMessages, conversation_of
from server.openai.sampling import Stop
from server.openai.schemas import DebugInfo, Usage
from server.openai.tools import FunctionCallRule, RuleValue, ToolRule, check_functions

Functions = Annotated[list[FunctionBody], FIRST_ERROR, at_most("functions"), go_list("[]openai.Function", {})]

_OLD_NAMES = {"tools": "functions", "tool_choice": "function_call"}


def only_texts(value: Any) -> Any:
    """A list without what is no text, as in Ollama; other values as they are."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else value


class ChatCompletionBody(InferenceBody):
    """`POST /v1/chat/completions`.

    `max_completion_tokens` counts before `max_tokens`. `functions` and `function_call` are the old form of `tools` and
    `tool_choice`. A prompt that is too long is refused unless `truncate` allows to leave out old messages.
    """

    go: ClassVar[str] = "openai.ChatCompletionRequest"

    messages: ChatMessages = Field(default_factory=list)
    max_completion_tokens: Int | None = None
    stop: Annotated[Stop, BeforeValidator(only_texts)] = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool = False
    top_logprobs: Int = 0
    tools: Tools = Field(default_factory=list)
    tool_choice: RuleValue = None
    parallel_tool_calls: bool = True
    return_progress: bool = False
    functions: Functions = Field(default_factory=list)
    function_call: FunctionCallRule = None

    @property
    def has_functions(self) -> bool:
        """Whether calls are in the old form, in the body and so in the answer."""
        return bool(self.functions) and not self.tools

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests."""
        if field in ("prompt", "images"):
            return "messages"
        if self.has_functions and field in _OLD_NAMES:
            return _OLD_NAMES[field]
        return super().name_of(field)

    def request(self) -> ChatRequest:
        """The request for the engine. Raises HTTPError."""
        tools, choice = self._tools()
        return ChatRequest(
            **self.shared(),
            options=self._options(),
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs if self.logprobs else 0,
            messages=conversation_of(self.messages),
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=self.parallel_tool_calls and not self.has_functions,
            progress=self.return_progress and self.stream,
        )

    def _options(self) -> dict[str, Any]:
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return {"temperature": 1.0, "top_p": 1.0} | self.options_with({"num_predict": limit, "stop": self.stop})

    def _tools(self) -> tuple[tuple[Tool, ...], ToolChoice]:
        if self.has_functions:
            tools = [ToolBody(type="function", function=function).tool for function in self.functions]
            rule = self.function_call or ToolRule()
            check_functions(tools, "functions", "name")
        else:
            tools = [body.tool for body in self.tools]
            rule = self.tool_choice or ToolRule()
            check_functions(tools, "tools", "function.name")
        return rule.among(tools), rule.choice


# Answers. The writer encodes them by hand; these models only describe them in the OpenAPI document.


class TopLogprob(AnswerObject):
    """A token that could have come; `bytes` are those of its text."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobObject(TopLogprob):
    """A token of the answer, and the likeliest in its place."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(AnswerObject):
    """The tokens of an answer or of a piece of it, markup included."""

    content: list[TokenLogprobObject]


class CallFunction(AnswerObject):
    """A function and its arguments, JSON as text; in a stream a piece of it."""

    name: str = ""
    arguments: str


class CallObject(AnswerObject):
    """A tool call; in a stream perhaps a piece of one, the first with id, type and name."""

    index: int
    id: str = ""
    type: Literal["function"] = "function"
    function: CallFunction


class AssistantMessage(AnswerObject):
    """The answer. `reasoning` is also in `reasoning_content`."""

    role: str
    content: str
    reasoning: str = ""
    reasoning_content: str = ""
    tool_calls: list[CallObject] = Field(default_factory=list)
    function_call: CallFunction | None = None


class ChatChoice(AnswerObject):
    """One of the answers."""

    index: int
    message: AssistantMessage
    finish_reason: str | None
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(AnswerObject):
    """The answers, whole."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    debug_info: DebugInfo | None = Field(default=None, alias="_debug_info")


class ChatDelta(AnswerObject):
    """A piece of an answer."""

    role: str = ""
    content: str = ""
    reasoning: str = ""
    reasoning_content: str = ""
    tool_calls: list[CallObject] = Field(default_factory=list)
    function_call: CallFunction | None = None


class ChunkChoice(AnswerObject):
    """A piece of one of the answers."""

    index: int
    delta: ChatDelta
    finish_reason: str | None
    logprobs: ChoiceLogprobs | None = None


class ReadingProgress(AnswerObject):
    """`processed` of the prompt's `total` tokens are read, `cache` of them were before; in so many milliseconds."""

    total: int
    cache: int
    processed: int
    time_ms: float


class ChatCompletionChunk(AnswerObject):
    """A piece of an answer, or at the end of the stream the token counts; before it the progress of the prompt."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    prompt_progress: ReadingProgress | None = None
    usage: Usage | None = None
