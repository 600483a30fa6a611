"""Answers of `/v1/responses`, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from server.http.openapi import AnswerObject
from server.openai.chat_schemas import TokenLogprobObject


class OutputText(AnswerObject):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprobObject]


class OutputMessage(AnswerObject):
    """What the model says."""

    id: str
    type: Literal["message"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


class ReasoningSummary(AnswerObject):
    """The text of a reasoning."""

    type: Literal["summary_text"]
    text: str


class OutputReasoning(AnswerObject):
    """What the model thought, to be sent back with the next request. `encrypted_content` is plain text."""

    id: str
    type: Literal["reasoning"]
    summary: list[ReasoningSummary]
    encrypted_content: str = ""


class OutputCall(AnswerObject):
    """A call of a function. `arguments` is a JSON object as text."""

    id: str
    type: Literal["function_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    call_id: str
    namespace: str = ""
    name: str
    arguments: str


class OutputCustomCall(AnswerObject):
    """A call of a custom tool."""

    id: str
    type: Literal["custom_tool_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    call_id: str
    namespace: str = ""
    name: str
    input: str


AnyOutput = OutputMessage | OutputReasoning | OutputCall | OutputCustomCall


class IncompleteDetails(AnswerObject):
    """Why an answer was cut short."""

    reason: Literal["max_output_tokens"]


class ResponseFailure(AnswerObject):
    """Why an answer broke off."""

    code: str
    message: str


class EchoedReasoning(AnswerObject):
    """How much the model was to think."""

    effort: str | None = None
    summary: str | None = None


class EchoedText(AnswerObject):
    """How text was to be written."""

    format: dict[str, Any]
    verbosity: str = ""


class InputDetails(AnswerObject):
    """Of the input, the tokens whose computation was kept from earlier requests."""

    cached_tokens: int


class OutputDetails(AnswerObject):
    """Of the output, the tokens of reasoning."""

    reasoning_tokens: int


class ResponsesUsage(AnswerObject):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseObject(AnswerObject):
    """An answer, with the fields of its request. Times are in Unix seconds."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    incomplete_details: IncompleteDetails | None
    model: str
    previous_response_id: None
    instructions: str | None
    output: list[AnyOutput]
    error: ResponseFailure | None
    tools: list[dict[str, Any]]
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any]
    truncation: Literal["auto", "disabled"]
    parallel_tool_calls: bool
    text: EchoedText
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: float
    reasoning: EchoedReasoning | None
    usage: ResponsesUsage | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: Literal[False]
    background: bool
    service_tier: Literal["default"]
    metadata: dict[str, Any]
    safety_identifier: str | None
    prompt_cache_key: str | None
    user: str = ""


class ResponsesEvent(AnswerObject):
    """An event of a stream. The last has the whole response."""

    type: str
    sequence_number: int
    response: ResponseObject | None = None
    output_index: int = 0
    item: AnyOutput | None = None
    item_id: str = ""
    content_index: int = 0
    summary_index: int = 0
    part: OutputText | None = None
    delta: str = ""
    text: str = ""
    logprobs: list[TokenLogprobObject] = Field(default_factory=list)
    arguments: str = ""
    input: str = ""
    code: str | None = None
    message: str = ""
    param: str | None = None
    error: dict[str, Any] = Field(default_factory=dict)
