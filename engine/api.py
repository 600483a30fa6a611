"""The engine's requests and results: plain data, the same for every API dialect."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.stats import NO_STATS, Stats
from modelfile.conversation import Message, Tool, ToolCall

__all__ = [
    "AnyRequest",
    "CallPart",
    "ChatRequest",
    "Delta",
    "DetokenizeRequest",
    "Detokenized",
    "DoneReason",
    "Event",
    "Final",
    "GenerateRequest",
    "InferenceRequest",
    "Message",
    "ModelLoading",
    "ModelRequest",
    "NamedTool",
    "Progress",
    "PromptRead",
    "Queued",
    "Ranked",
    "Rendered",
    "RerankRequest",
    "RunningModel",
    "Think",
    "TokenLogprob",
    "TokenizeRequest",
    "Tokenized",
    "Tool",
    "ToolCall",
    "ToolChoice",
]

Think = bool | Literal["low", "medium", "high", "max"]
DoneReason = Literal["stop", "length", "tool_calls"]


@dataclass(slots=True, frozen=True)
class NamedTool:
    """A `tool_choice` that forces a call of one function."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool
"""Tool calls: as the model decides, none, at least one, or a call of this function."""


@dataclass(slots=True, kw_only=True)
class ModelRequest:
    """The fields that all requests share.

    `model` is the name as the client sent it. `options` are as sent too; `modelfile.parameters.resolve_options` checks
    them. `defaults` are options that count where neither the request nor the model has a value. `keep_alive` is in
    seconds: None = as before, inf = forever, 0 = unload when idle.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None


@dataclass(slots=True, kw_only=True)
class InferenceRequest(ModelRequest):
    """The fields that generate and chat share.

    `format` is JSON text: `"json"`, a schema or another form of docs/structured-outputs.md; None for free text.
    `truncate`: an over-long prompt may be cut. `shift`: a full context may go on without its older half; None lets the
    model decide. `logprobs`: the answer has the log-probabilities of its tokens, each with those of the `top_logprobs`
    likeliest. `thinking_budget`: most tokens of reasoning, which then is ended; None: no limit. `progress`: before the
    first piece of the answer there are `Progress` events.
    """

    think: Think | None = None
    thinking_budget: int | None = None
    format: str | None = None
    truncate: bool = True
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    progress: bool = False


@dataclass(slots=True, kw_only=True)
class GenerateRequest(InferenceRequest):
    """One completion. `context` is None when absent (an empty list counts as present).

    `prompt_tokens` are token ids that the model gets as they are, if the request is `raw`; `prompt` is not looked at
    then. `prompt_logprobs`: the first delta has nothing but the log-probabilities of the prompt's tokens, with the
    `top_logprobs` likeliest; the number of the first token is NaN.
    """

    prompt: str = ""
    prompt_tokens: Sequence[int] = ()
    prompt_logprobs: bool = False
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    context: list[int] | None = None
    images: tuple[bytes, ...] = ()


@dataclass(slots=True, kw_only=True)
class ChatRequest(InferenceRequest):
    """The next answer in a conversation. Without `parallel_tool_calls` it has one tool call at most."""

    messages: list[Message] = field(default_factory=list)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True


@dataclass(slots=True, kw_only=True)
class EmbedRequest(ModelRequest):
    """Texts to embed.

    A text that is too long is cut if `truncate` allows it, else refused. 0 < `dimensions` < width keeps that many
    numbers of each vector. Without `normalize` vectors keep their lengths, unless the model itself makes them 1.
    """

    texts: list[str] = field(default_factory=list)
    truncate: bool = True
    dimensions: int = 0
    normalize: bool = True


@dataclass(slots=True, kw_only=True)
class RerankRequest(ModelRequest):
    """Documents to be ranked by how well they answer a query.

    A document that is too long is cut if `truncate` allows it, else refused. `document_limit` tokens of each count at
    most; 0: as many as fit.
    """

    query: str
    documents: list[str]
    truncate: bool = True
    document_limit: int = 0


@dataclass(slots=True, kw_only=True)
class TokenizeRequest(ModelRequest):
    """A text to divide into tokens.

    `add_special` adds what the model's tokenizer puts around a prompt, such as a start token. `parse_special`: the
    names of special tokens in the text are these tokens, not text. `pieces`: the answer has the bytes of each token.
    """

    text: str
    add_special: bool = False
    parse_special: bool = True
    pieces: bool = False


@dataclass(slots=True, kw_only=True)
class DetokenizeRequest(ModelRequest):
    """Token ids to write as text."""

    tokens: list[int]


@dataclass(slots=True, kw_only=True)
class PlanRequest(ModelRequest):
    """What would a load with these options take?"""


@dataclass(slots=True, kw_only=True)
class PreloadRequest(ModelRequest):
    """Load the model before anybody asks for it; no other is unloaded for that."""


AnyRequest = (
    GenerateRequest
    | ChatRequest
    | EmbedRequest
    | RerankRequest
    | TokenizeRequest
    | DetokenizeRequest
    | PlanRequest
    | PreloadRequest
)


@dataclass(slots=True, frozen=True, kw_only=True)
class Embeddings:
    """One float32 vector per text, in the texts' order. `load_duration` is in nanoseconds."""

    vectors: list[array[float]] = field(default_factory=list)
    prompt_eval_count: int = 0
    load_duration: int = 0


@dataclass(slots=True, frozen=True, kw_only=True)
class Ranked:
    """A score for each document, in the documents' order, as the model gives it; `cut` are the places of cut documents.

    `probabilities`: the scores are from 0 to 1; else they are logits. `load_duration` is in nanoseconds.
    """

    scores: list[float]
    probabilities: bool = False
    cut: frozenset[int] = frozenset()
    prompt_eval_count: int = 0
    load_duration: int = 0


@dataclass(slots=True, frozen=True, kw_only=True)
class Tokenized:
    """The token ids of a text, with their bytes if the request asks for `pieces`.

    `context_length` is the loaded model's context in tokens, `load_duration` in nanoseconds.
    """

    tokens: list[int]
    pieces: list[bytes] = field(default_factory=list)
    context_length: int = 0
    load_duration: int = 0


@dataclass(slots=True, frozen=True, kw_only=True)
class Detokenized:
    """The text of tokens, special ones written out; bytes that are no UTF-8 are U+FFFD. `load_duration` as above."""

    text: str
    load_duration: int = 0


@dataclass(slots=True, frozen=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability, before penalties, temperature and grammar.

    `data` are the token's bytes, which need not be whole characters. `top` are the likeliest tokens in its place, the
    best first, as many as the request asks for.
    """

    data: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """The bytes as text, with U+FFFD for what is none."""
        return self.data.decode("utf-8", "replace")


@dataclass(slots=True, frozen=True)
class CallPart:
    """A piece of a tool call that is still being written; `arguments` is a piece of a JSON text.

    The first part of a call has its `id` and `name`, and no arguments. All of its parts together have the arguments of
    the complete call, which follows with the same index and id, unless the end of the answer cuts the call.
    """

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


@dataclass(slots=True)
class Delta:
    """A piece of the answer. Any of the fields may be empty; parsers drop pieces in which all are.

    `tool_calls` are complete. `call_parts` announce some of them while they are written; who takes the complete calls
    ignores them. `logprobs` are those of the tokens that came since the last piece, markup included.
    """

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    call_parts: tuple[CallPart, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(slots=True, kw_only=True)
class Final:
    """The end of an answer. Durations are nanoseconds; `context` is None where the API shows none.

    `done_reason` is "tool_calls" for an answer that has some and was not cut short. `stop_text` is the stop text that
    ended the answer, "" if none did. `thinking_count` of the `eval_count` tokens are reasoning.
    `prompt_left_out` messages are not in the prompt, because it would have been too long; `prompt_cut` are the tokens
    that are not, those of the messages and those of the prompt's middle.
    """

    done_reason: DoneReason
    stop_text: str = ""
    thinking_count: int = 0
    context: list[int] | None = None
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_cached: int = 0
    prompt_left_out: int = 0
    prompt_cut: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


@dataclass(slots=True, frozen=True)
class Rendered:
    """The prompt that a request would run. `token_count` includes the tokenizer's own tokens, and those of images."""

    prompt: str
    image_count: int = 0
    token_count: int = 0


@dataclass(slots=True, frozen=True)
class Queued:
    """The request waits, for a load or for a place in its loaded model, as number `position` from 1.

    The number can go up: clients take turns.
    """

    position: int


@dataclass(slots=True, frozen=True)
class ModelLoading:
    """The request's model is being loaded; `fraction` of its weights are, from 0 to 1."""

    fraction: float


@dataclass(slots=True, frozen=True)
class PromptRead:
    """`processed` of the prompt's `total` tokens are read, `cached` of which needed no computing.

    That has taken `duration` nanoseconds since the first of them.
    """

    processed: int
    total: int
    cached: int
    duration: int


Progress = Queued | ModelLoading | PromptRead
Event = Delta | Final | Progress
"""`Progress` comes only for requests that ask for it, and before all others."""


@dataclass(slots=True, frozen=True, kw_only=True)
class DeviceShare:
    """What a model takes on one device, in bytes.

    `kind` is "cpu" or the backend of a GPU, `handle` llama.cpp's name for it, "" for the CPU. `layers` are computed
    there, the output is one of them. `cache` is KV cache and recurrent states; `compute` are the buffers of a pass.
    Beyond its `size` a `prompt_cache` may take up to so many bytes with time.
    """

    kind: str
    name: str
    handle: str
    total: int
    free: int
    layers: int
    weights: int
    cache: int
    compute: int
    other: int
    prompt_cache: int = 0

    @property
    def size(self) -> int:
        """What a load takes."""
        return self.weights + self.cache + self.compute + self.other


@dataclass(slots=True, frozen=True)
class RunningModel:
    """A loaded model, as /api/ps shows it. Sizes in bytes, `expires_at` in Unix seconds (inf = forever).

    Beyond its `size` its `prompt_cache` may take up to so many bytes with time; `prompt_cache_disk` are on disk.
    `stats` are at most a second old while it computes. `name` is the one last asked for; `others` are further names of
    the same weights that were, with their digests.
    """

    name: str
    digest: str
    size: int
    size_vram: int
    context_length: int
    expires_at: float
    stats: Stats = NO_STATS
    devices: tuple[DeviceShare, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    prompt_cache: int = 0
    prompt_cache_disk: int = 0


@dataclass(slots=True, frozen=True)
class LoadingModel:
    """A model that is being loaded: the bytes that it will take, None until that is planned, and its context."""

    name: str
    size: int | None
    context_length: int


@dataclass(slots=True, frozen=True, kw_only=True)
class LoadPlan:
    """What a load would take, or takes if the model is `loaded` that way. Sizes in bytes.

    It `fits` if each device has that free, when the models have gone that it `evicts`. Else it is loaded all the same,
    unless it is `refused`: the machine has less memory than that in all. `reloads` is the loaded model of the same
    weights that would be loaded anew, "" if there is none; where only its context `grows`, it is not. `parallel`
    requests share `cells` tokens of cache, one has `context_length` at most; `context_requested` tokens were asked for,
    0 if none were. `gpu_layers` of the `layers` are on GPUs, of which the machine has `gpus`; the experts of the first
    `cpu_experts` are not. The first text to embed adds `embedding_size`, and the prompt cache up to `prompt_cache` with
    time.
    """

    name: str
    loaded: bool
    fits: bool
    context_length: int
    parallel: int
    cells: int
    size: int
    size_vram: int
    embedding_size: int
    layers: int
    gpu_layers: int
    cpu_experts: int
    devices: tuple[DeviceShare, ...]
    evicts: tuple[str, ...] = ()
    prompt_cache: int = 0
    refused: bool = False
    reloads: str = ""
    grows: bool = False
    context_requested: int = 0
    gpus: int = 0
