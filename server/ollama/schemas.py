"""Requests and answers of `/api/*`. `name` is accepted for `model` everywhere; `model` wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from engine.api import ChatRequest, DetokenizeRequest, GenerateRequest, Message, PlanRequest, TokenizeRequest
from server.http.body import FIRST_ERROR, Body, go_list
from server.http.openapi import AnswerObject, Responses, errors
from server.ollama.fields import Choice, Format, Images, Int, KeepAlive, Messages, Options, ThinkValue, Tools


class Named(Body):
    """A body that names a model."""

    model: str = ""
    name: str = ""

    @property
    def model_name(self) -> str:
        """The name as it was sent."""
        return self.model or self.name


class InferenceBody(Named):
    """The fields that generate and chat share."""

    stream: bool = True
    format: Format = None
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)
    think: ThinkValue = None
    truncate: bool = True
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: Int = 0
    progress: bool = False
    debug_render_only: bool = Field(default=False, alias="_debug_render_only")

    def shared(self) -> dict[str, Any]:
        """The fields that GenerateRequest and ChatRequest share."""
        return {
            "model": self.model_name,
            "options": dict(self.options),
            "keep_alive": self.keep_alive,
            "think": self.think,
            "format": self.format,
            "truncate": self.truncate,
            "shift": self.shift,
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
            "progress": self.progress and self.stream,
        }


Context = Annotated[list[Int], FIRST_ERROR, go_list("[]int", 0)]


class GenerateBody(InferenceBody):
    """`POST /api/generate`."""

    go: ClassVar[str] = "api.GenerateRequest"

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: Context | None = None
    raw: bool = False
    images: Images = ()

    def request(self) -> GenerateRequest:
        """The request for the engine."""
        return GenerateRequest(
            **self.shared(),
            prompt=self.prompt,
            suffix=self.suffix,
            system=self.system,
            template=self.template,
            raw=self.raw,
            context=self.context,
            images=self.images,
        )


class ChatBody(InferenceBody):
    """`POST /api/chat`."""

    go: ClassVar[str] = "api.ChatRequest"

    messages: Messages = Field(default_factory=list)
    tools: Tools = Field(default_factory=list)
    tool_choice: Choice = "auto"

    def request(self) -> ChatRequest:
        """The request for the engine."""
        return ChatRequest(
            **self.shared(),
            messages=[message.message() for message in self.messages],
            tools=tuple(tool.tool for tool in self.tools),
            tool_choice=self.tool_choice,
        )


class RenderBody(GenerateBody):
    """`POST /api/render`: the fields of chat, or those of generate."""

    go: ClassVar[str] = "api.RenderRequest"

    messages: Messages = Field(default_factory=list)
    tools: Tools = Field(default_factory=list)
    tool_choice: Choice = "auto"

    def any_request(self, model: str) -> GenerateRequest | ChatRequest:
        """The request for the engine: a chat if there are messages."""
        if not self.messages:
            return replace(self.request(), model=model)
        return ChatRequest(
            **self.shared() | {"model": model},
            messages=[message.message() for message in self.messages],
            tools=tuple(tool.tool for tool in self.tools),
            tool_choice=self.tool_choice,
        )


class TextBody(Named):
    """A text to tokenise, or a conversation. The text has three names, and the first that is sent counts."""

    go: ClassVar[str] = "api.TokenizeRequest"

    content: str | None = None
    text: str | None = None
    prompt: str | None = None
    tools: Tools = Field(default_factory=list)
    think: ThinkValue = None
    add_special: bool | None = None
    add_special_tokens: bool | None = None
    parse_special: bool = True
    with_pieces: bool = False
    return_token_strs: bool = False
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)

    @property
    def plain_text(self) -> str | None:
        """The text, None if there is none."""
        return next((text for text in (self.content, self.text, self.prompt) if text is not None), None)

    def conversation(self, model: str, messages: list[Message]) -> ChatRequest:
        """A conversation for the engine, which leaves none of its messages out."""
        return ChatRequest(
            model=model,
            options=dict(self.options),
            keep_alive=self.keep_alive,
            think=self.think,
            truncate=False,
            messages=messages,
            tools=tuple(tool.tool for tool in self.tools),
        )

    def request(self, model: str, text: str, *, add_special: bool) -> TokenizeRequest:
        """The request for the engine; `add_special` counts if the body does not say."""
        special = self.add_special_tokens if self.add_special is None else self.add_special
        return TokenizeRequest(
            model=model,
            options=dict(self.options),
            keep_alive=self.keep_alive,
            text=text,
            add_special=add_special if special is None else special,
            parse_special=self.parse_special,
            pieces=self.with_pieces or self.return_token_strs,
        )


class TokenizeBody(TextBody):
    """`POST /api/tokenize`: a text, or messages."""

    messages: Messages | None = None

    def chat(self, model: str) -> ChatRequest | None:
        """The conversation for the engine, None if there is none."""
        if self.messages is None:
            return None
        return self.conversation(model, [message.message() for message in self.messages])


class PlanBody(Named):
    """`POST /api/plan`."""

    go: ClassVar[str] = "api.PlanRequest"

    options: Options = Field(default_factory=dict)

    def request(self, model: str) -> PlanRequest:
        """The request for the engine."""
        return PlanRequest(model=model, options=dict(self.options))


class DetokenizeBody(Named):
    """`POST /api/detokenize`."""

    go: ClassVar[str] = "api.DetokenizeRequest"

    tokens: Context | None = None
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)

    def request(self, model: str, tokens: list[int]) -> DetokenizeRequest:
        """The request for the engine."""
        return DetokenizeRequest(model=model, options=dict(self.options), keep_alive=self.keep_alive, tokens=tokens)


class EmbedBody(Named):
    """`POST /api/embed`."""

    go: ClassVar[str] = "api.EmbedRequest"

    input: Any = None
    truncate: bool = True
    dimensions: Int = 0
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)


class EmbeddingsBody(Named):
    """`POST /api/embeddings`."""

    go: ClassVar[str] = "api.EmbeddingRequest"

    prompt: str = ""
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)


class ShowBody(Named):
    """`POST /api/show`."""

    go: ClassVar[str] = "api.ShowRequest"

    system: str = ""
    template: str = ""
    verbose: bool = False
    options: Options = Field(default_factory=dict)


class CopyBody(Body):
    """`POST /api/copy`."""

    go: ClassVar[str] = "api.CopyRequest"

    source: str = ""
    destination: str = ""


class DeleteBody(Named):
    """`DELETE /api/delete`."""

    go: ClassVar[str] = "api.DeleteRequest"


class PullBody(Named):
    """`POST /api/pull`."""

    go: ClassVar[str] = "api.PullRequest"

    insecure: bool = False
    stream: bool = True


class PushBody(PullBody):
    """`POST /api/push`."""

    go: ClassVar[str] = "api.PushRequest"


# Answers. Writers encode them by hand; these models only describe them in the OpenAPI document.


class Details(AnswerObject):
    """Format, family, size and quantization of a model."""

    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str


class ListedDetails(Details):
    """The same, with the context length in tokens and the length of vectors."""

    context_length: int = 0
    embedding_length: int = 0


class ListedModel(AnswerObject):
    """A stored model."""

    name: str
    model: str
    modified_at: datetime
    size: int
    digest: str
    details: ListedDetails
    capabilities: list[str] = Field(default_factory=list)


class TagsAnswer(AnswerObject):
    """The stored models, newest first."""

    models: list[ListedModel]


class PsDevice(AnswerObject):
    """What a model takes on one device: bytes, and the layers that are computed there."""

    name: str
    id: str
    kind: str
    size: int
    layers: int


class PsModel(AnswerObject):
    """A loaded model. Sizes are in bytes, `context_length` is in tokens.

    Not Ollama's are `other_names`, further names of the same weights that were asked for, the `devices`, the bytes that
    its `prompt_cache` may take with time, beyond `size`, and those that lie on disk (`prompt_cache_disk`).
    """

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: datetime
    size_vram: int
    context_length: int
    prompt_cache: int = 0
    prompt_cache_disk: int = 0
    other_names: list[str] = Field(default_factory=list)
    devices: list[PsDevice] = Field(default_factory=list)


class PsLoading(AnswerObject):
    """A model that is being loaded, and the bytes that it will take, once they are planned."""

    name: str
    size: int = 0
    context_length: int


class PsAnswer(AnswerObject):
    """The loaded models, the last to expire first; beyond Ollama, those that are being loaded, if there are any."""

    models: list[PsModel]
    loading: list[PsLoading] = Field(default_factory=list)


class PlanDevice(PsDevice):
    """The bytes of one device, those that are free there, and what takes them."""

    total: int
    free: int
    weights: int
    cache: int
    compute: int
    other: int
    prompt_cache: int


class PlanAnswer(AnswerObject):
    """What a load would take, in bytes; of a model that is `loaded` as asked for, what it takes.

    It `fits` if each device has that free, after the models in `evicts` have gone. Else it is loaded all the same,
    unless it is `refused`, because the machine has less memory in all. `reloads` names the loaded model of the same
    weights that would be loaded anew; where only its context `grows`, it is not. `parallel` requests share a cache of
    `cells` tokens, each has at most `context_length`; `context_requested` were asked for. The output is one of the
    `layers`. The experts of the first `cpu_experts` layers are computed on the processor. The machine has so many
    `gpus`. The first text to embed adds `embedding_size`, and a `prompt_cache` takes up to so many bytes with time.
    """

    model: str
    loaded: bool
    fits: bool
    refused: bool
    context_length: int
    context_requested: int | None
    parallel: int
    cells: int
    size: int
    size_vram: int
    prompt_cache: int
    embedding_size: int
    layers: int
    gpu_layers: int
    cpu_experts: int
    gpus: int
    devices: list[PlanDevice]
    evicts: list[str]
    grows: bool
    reloads: str | None


class VersionAnswer(AnswerObject):
    """The version that clients check features against."""

    version: str


class Cloud(AnswerObject):
    """Whether cloud models can be used."""

    disabled: bool
    source: Literal["none", "env", "config", "both"]


class StatusAnswer(AnswerObject):
    """The status of the cloud."""

    cloud: Cloud


class Recommendations(AnswerObject):
    """Models that a cloud recommends: none."""

    recommendations: list[Any]


class ShownMessage(AnswerObject):
    """A message that every conversation with the model begins with."""

    role: str
    content: str


class Tensor(AnswerObject):
    """A tensor of the weights."""

    name: str
    type: str
    shape: list[int]


class ShowAnswer(AnswerObject):
    """The description of a model."""

    license: str = ""
    modelfile: str
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: Details
    messages: list[ShownMessage] = Field(default_factory=list)
    model_info: dict[str, Any]
    projector_info: dict[str, Any] = Field(default_factory=dict)
    tensors: list[Tensor] = Field(default_factory=list)
    capabilities: list[str] = Field(default_factory=list)
    modified_at: datetime
    requires: str = ""


class AnswerFunction(AnswerObject):
    """The function that the model calls."""

    index: int
    name: str
    arguments: dict[str, Any]


class AnswerCall(AnswerObject):
    """A tool call."""

    id: str = ""
    function: AnswerFunction


class AnswerMessage(AnswerObject):
    """A message of the model."""

    role: str
    content: str
    thinking: str = ""
    tool_calls: list[AnswerCall] = Field(default_factory=list)


class Logprob(AnswerObject):
    """A token and the natural logarithm of its probability. `bytes` are those of the token, absent if it has none."""

    token: str
    logprob: float
    bytes: list[int] = Field(default_factory=list)


class TokenLogprob(Logprob):
    """A token of the answer, beside the likeliest ones in its place, the best first."""

    top_logprobs: list[Logprob] = Field(default_factory=list)


class DebugInfo(AnswerObject):
    """The rendered prompt."""

    rendered_template: str
    image_count: int = 0


class PromptTruncation(AnswerObject):
    """What was left out of a prompt that was too long: the oldest messages, and how many tokens in all."""

    messages: int = 0
    tokens: int = 0


class RequestProgress(AnswerObject):
    """What a request that asked for `progress` waits for: its place in a queue, the model's load, or its prompt.

    `queued` has the `position`, from 1. `completed` of `total` are parts of a load (the total is 1), or tokens of the
    prompt, of which `cached` needed no computing.
    """

    stage: Literal["queued", "loading", "prompt"]
    position: int = 0
    completed: float = 0
    total: int = 0
    cached: int = 0


class _Generated(AnswerObject):
    """An answer, or a line of it. Only the last line has counts and durations (nanoseconds)."""

    model: str
    created_at: datetime
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] = "stop"
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_cached_count: int = 0
    prompt_eval_cached: int = 0
    prompt_truncated: PromptTruncation = Field(default_factory=PromptTruncation)
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    progress: RequestProgress | None = None
    logprobs: list[TokenLogprob] = Field(default_factory=list)
    debug_info: DebugInfo = Field(default_factory=lambda: DebugInfo(rendered_template=""), alias="_debug_info")


class GenerateAnswer(_Generated):
    """A completion, or a line of it. `context` is for the next request."""

    response: str
    thinking: str = ""
    context: list[int] = Field(default_factory=list)
    tool_calls: list[AnswerCall] = Field(default_factory=list)


class ChatAnswer(_Generated):
    """An answer of the model, or a line of it."""

    message: AnswerMessage


class EmbedAnswer(AnswerObject):
    """A vector for each text, in their order. Durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class EmbeddingsAnswer(AnswerObject):
    """The vector of one text."""

    embedding: list[float]


class Piece(AnswerObject):
    """A token and its text; bytes that are no UTF-8 are listed."""

    id: int
    piece: str | list[int]


class TokenizeAnswer(AnswerObject):
    """The tokens of a text. Durations are in nanoseconds, `max_model_len` is the context in tokens."""

    model: str
    tokens: list[int] | list[Piece]
    count: int
    max_model_len: int
    token_strs: list[str] = Field(default_factory=list)
    total_duration: int
    load_duration: int


class DetokenizeAnswer(AnswerObject):
    """The text of tokens, under the three names that clients know. Durations are in nanoseconds."""

    model: str
    content: str
    text: str
    prompt: str
    total_duration: int
    load_duration: int


class RenderAnswer(AnswerObject):
    """The prompt that a request would run. `token_count` includes images if the model sees."""

    model: str
    prompt: str
    image_count: int
    token_count: int


class ProgressAnswer(AnswerObject):
    """A step of a pull, push or creation, or its error. Sizes are in bytes."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


class ErrorAnswer(AnswerObject):
    """An error."""

    error: str


ERRORS: Responses = errors(ErrorAnswer)
