"""The messages between the server and a model's child process: typed msgpack, no pickle, no logic.

Every frame on the socket is a little-endian u32 length and a msgpack body. The parent sends one `ToRunner` per
frame. The child sends a list of `FromRunner` per frame: all that one step produced travels in one message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal

import msgspec

from engine.client import NOBODY, Client
from engine.embed_messages import Embed, Embedded, EmbeddingSizes, Rerank, Reranked
from engine.stats import Stats

FRAME_HEADER = struct.Struct("<I")
MAX_FRAME = 256 << 20  # bytes; a frame beyond this is a broken peer, not data
MICRO_BATCH = 512  # tokens that llama.cpp computes at once
CONTEXT_PADDING = 256  # llama.cpp rounds a context up to a multiple of this many tokens
NO_LIMIT = (1 << 31) - 1


def padded(tokens: int) -> int:
    """The cells that llama.cpp makes for so many tokens."""
    return -(-tokens // CONTEXT_PADDING) * CONTEXT_PADDING


class Sampling(msgspec.Struct, array_like=True, frozen=True):
    """How the next token is chosen. Names, ranges and defaults are those of `modelfile.parameters`."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalize_newline: bool = True
    seed: int = -1
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    top_n_sigma: float = -1.0
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    logit_bias: tuple[tuple[int, float], ...] = ()


RowKernels = Literal["alike", "lone", "counted"]
"""How the CPU multiplies a row of a pass: alike beside any others, in another way if it is alone, or depending on the
number of rows."""


DraftMode = Literal["off", "auto", "always"]
"""Whether the next tokens of an answer are drafted: where it pays by what was measured or, for tests, always."""

HOST = ""
"""The name of this machine's memory in `DeviceBuffers`."""


class DeviceBuffers(msgspec.Struct, array_like=True, frozen=True):
    """What llama.cpp has allocated on a device, in bytes: `cache` is KV cache and recurrent states.

    `device` is llama.cpp's name of a GPU, or HOST. `compute` are the buffers of a pass and its outputs.
    """

    device: str
    weights: int = 0
    cache: int = 0
    compute: int = 0


class StateFiles(msgspec.Struct, array_like=True, frozen=True):
    """Where a model's states are on disk: a folder that its process reads and the server writes.

    A file of more than `limit` bytes is not kept.
    """

    folder: str
    limit: int


class LoadModel(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Load one model. `n_ctx` is the largest context of one sequence, `n_cells` the size of the cache they share.

    States of finished sequences take at most `prompt_cache` bytes beside it. `rows`: on what the sums of one row of a
    pass on the CPU depend.
    `cache_type` is a ggml type name for K and V ("f16", "q8_0", …), `cache_type_v` that for V if it is another;
    `flash_attention` -1 lets llama.cpp choose; `overrides` replace entries of the file's metadata
    (`llama_model_kv_override`).

    The last `n_gpu_layers` (-1: all; the output is one) are on the `devices`, by llama.cpp's names: as many on each as
    `tensor_split` says. Without names, llama.cpp chooses. The experts of the first `cpu_experts` layers are on the CPU.

    `projector` is the file of a model that sees or hears, "" for none. A picture has at least `image_min_tokens` rows
    and at most `image_max_tokens`; -1: as the projector says. Rows of pictures that are not wanted any more take at
    most `row_cache` bytes.

    `swa_full`: layers with a sliding window have caches as large as the others, not only for their windows.

    `disk_cache`: where states of finished sequences are kept beyond the process's life, None for nowhere. `lookup`:
    whether an answer's next tokens are drafted from what the text holds already.
    """

    path: str
    n_ctx: int
    n_cells: int
    n_parallel: int
    n_batch: int
    n_threads: int
    n_gpu_layers: int
    devices: tuple[str, ...] = ()
    tensor_split: tuple[int, ...] = ()
    cpu_experts: int = 0
    use_mmap: bool | None = None
    adapters: tuple[str, ...] = ()
    cache_type: str = "f16"
    cache_type_v: str = ""
    flash_attention: int = -1
    embedding: EmbeddingSizes = EmbeddingSizes()
    overrides: tuple[tuple[str, bool | int | float | str], ...] = ()
    prompt_cache: int = 0
    rows: RowKernels = "alike"
    projector: str = ""
    image_min_tokens: int = -1
    image_max_tokens: int = -1
    row_cache: int = 0
    swa_full: bool = False
    disk_cache: StateFiles | None = None
    lookup: DraftMode = "auto"


class BackendDevice(msgspec.Struct, frozen=True):
    """A device of llama.cpp, as `engine.runner.probe` lists it; `total` and `free` are bytes.

    `name` is llama.cpp's own ("CUDA0"), `backend` that of its backend ("CUDA"), `description` the product's. `kind` is
    "cpu", "gpu", "igpu" (it uses the machine's memory), "accel" or "meta". `address` is that on the PCI bus, or "".
    """

    name: str
    description: str
    backend: str
    kind: str
    total: int
    free: int
    address: str = ""


class Triggers(msgspec.Struct, array_like=True, frozen=True):
    """Where in an answer a grammar begins to hold: at each of the `tags`, or where the answer begins with a start.

    Text between the two tags `thinking` triggers nothing; with `begun` the answer begins inside of it. The grammar
    describes the text from the trigger on and, once it is complete, the answer is free again or, if `once`, ends.
    """

    tags: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    thinking: tuple[str, str] = ("", "")
    begun: bool = False
    once: bool = False


class Grammar(msgspec.Struct, array_like=True, frozen=True):
    """What an answer must look like: `rules` in llguidance's dialect of Lark, which may use names that the runner adds.

    The `marks` are texts that may be control tokens of the model. For mark N the runner defines `mark_N`, the mark
    itself, and `until_N`, any text without marks and then mark N. A terminal that ends with the mark is written
    `… MARK_N` and followed by the rule `tail_N`: the mark is in MARK_N if it is plain text, in `tail_N` if it is a
    token. There are also `GAP`, up to four characters of whitespace, and `TEXT`, any text.

    A `user_grammar` is a whole grammar of its own, with names of its own; to the rules it is `@user`.

    For answers that must end early, `closings` are texts that end open lists and values, and `examples` are strings
    that match the patterns of a schema. Unless `is_json`, brackets and quotes in the answer are characters like others.
    A grammar that is not for `whole` answers describes the text from a trigger on (see `Triggers`), and forces nothing
    to an end.
    """

    rules: str
    marks: tuple[str, ...] = ()
    closings: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    user_grammar: str = ""
    is_json: bool = True
    whole: bool = True


class ValidateGrammar(msgspec.Struct, array_like=True, frozen=True):
    """Ask whether a grammar can be used, spending at most `seconds` of CPU time. Answered by `GrammarVerdict`."""

    id: int
    seconds: float
    grammar: Grammar


class GrammarVerdict(msgspec.Struct, array_like=True, frozen=True):
    """`reason`: why a grammar cannot be used, "" if it can. Unless `in_time` the time was too short to know."""

    id: int
    in_time: bool
    reason: str


class ThinkingLimit(msgspec.Struct, array_like=True, frozen=True):
    """Most tokens of an answer's reasoning, and the tags around it. `begun`: the prompt ends inside of it."""

    tokens: int
    opening: str
    closing: str
    begun: bool


class PlacedFile(msgspec.Struct, array_like=True, frozen=True):
    """A picture or a sound, as it was sent, that stands in a prompt before its character `at`."""

    at: int
    data: bytes


class Submit(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Generate from a prompt. Answered by `Chunk`s and `Done`, or by `Failed`.

    `media` stand in the `prompt`, in the order of their places.

    `num_ctx` is the request's context in tokens; `overflow`: whether a longer prompt is cut or rejected. `preserved`
    are special tokens that the answer's reader must see as text. With `triggers` a `Constrain` follows; the answer
    begins before it comes, and waits for it only at a trigger. `num_thread` applies to a pass if all requests in it ask
    for the same number; `num_batch` limits the tokens of the prompt in one pass; 0: the default. `trace_id` is the id
    of the HTTP request, for the log. `thinking`: where the reasoning must end, if it must. `tokens`: the prompt's ids,
    instead of `prompt`. Only requests with the same `cache_owner` begin with each other's cells, and use
    what is kept of each other's media.

    With `logprobs` the text comes in `ScoredChunk`s, whose tokens have the `top_logprobs` likeliest ones beside them;
    with `prompt_logprobs` the first one, which has no text and counts no token, has those of the prompt.

    A prompt behind which fewer than `room` tokens of `num_ctx` are free is refused, whatever `overflow` says, before
    anything else is. At most `most_drafted` of its tokens are drafted for one pass. An answer that `grows` asks with
    `NeedsRoom` before its context is full, and goes on behind it only after an `Extend`.

    With `progress` it is told its `QueuePlace` while it waits, and `PromptProgress` until its answer begins.
    """

    id: int
    prompt: str
    num_ctx: int
    num_predict: int
    num_keep: int
    shift: bool
    overflow: Literal["cut", "reject"]
    stop: tuple[str, ...]
    sampling: Sampling
    preserved: tuple[str, ...] = ()
    grammar: Grammar | None = None
    num_thread: int = 0
    num_batch: int = 0
    trace_id: str = ""
    logprobs: bool = False
    top_logprobs: int = 0
    prompt_logprobs: bool = False
    tokens: tuple[int, ...] = ()
    thinking: ThinkingLimit | None = None
    triggers: Triggers | None = None
    media: tuple[PlacedFile, ...] = ()
    room: int = 0
    most_drafted: int = NO_LIMIT
    grows: bool = False
    client: Client = NOBODY
    cache_owner: str = ""
    progress: bool = False


class Cancel(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Stop working on the request `id`, whose answer nobody reads."""

    id: int


class Constrain(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """The grammar for the answer `id`, which was submitted with triggers; None: it stays free after all.

    An answer that has ended is ignored.
    """

    id: int
    grammar: Grammar | None
    trace_id: str = ""
    client: Client = NOBODY


class Resize(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Change the size of the KV cache, on the same weights. Answered by `Resized`.

    `n_ctx` and `n_cells` are as in `LoadModel`. What runs goes on, what is cached stays if it fits. Without `n_cells`
    only texts to embed or to rank may have another length: `n_ctx` tokens.
    """

    id: int
    n_ctx: int
    n_cells: int


class Extend(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """The answer `id` may fill `num_ctx` tokens of context; no more than before if it cannot grow.

    An answer that has ended is ignored.
    """

    id: int
    num_ctx: int


class Pause(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """Let the answer `id` rest, or go on: its client reads too slowly. An answer that has ended is ignored."""

    id: int
    paused: bool


class WriteStates(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """Write what finished sequences left to the disk, as the model will be unloaded. Answered by `StatesWritten`."""

    id: int


class Tokenize(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Ask for a text's tokens; more than `limit` are only counted. Answered by `Tokens`.

    `add_special` adds the tokenizer's own around them, `parse_special` parses special tokens in the text, `pieces` asks
    for the bytes of each token too. A text in which `media` stand is a prompt: its tokens are only counted, with the
    rows of these. `cache_owner` is as in `Submit`.
    """

    id: int
    text: str
    add_special: bool = False
    parse_special: bool = True
    limit: int = NO_LIMIT
    pieces: bool = False
    media: tuple[PlacedFile, ...] = ()
    client: Client = NOBODY
    cache_owner: str = ""


class Detokenize(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Ask for the text of tokens, special tokens included. Answered by `Text`."""

    id: int
    tokens: list[int]
    client: Client = NOBODY


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Ask for a sign of life. Answered by `Report` from a thread that never waits for llama.cpp."""

    id: int


ToRunner = (
    LoadModel
    | Submit
    | Constrain
    | Cancel
    | Pause
    | Resize
    | Extend
    | WriteStates
    | Tokenize
    | Detokenize
    | Ping
    | Embed
    | Rerank
)


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=32):
    """The library is imported and the child waits for `LoadModel`.

    `copied` are the tensor types (GGUF names) whose weights llama.cpp repacks for this CPU. `holds` and `lacks` are as
    in `modelfile.containment.Containment`.
    """

    copied: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


class Loading(msgspec.Struct, array_like=True, frozen=True, tag=33):
    """Progress of a load, 0 to 1: a sign of life for the load timeout."""

    progress: float


class Loaded(msgspec.Struct, array_like=True, frozen=True, tag=34):
    """The model is ready. `buffers` are what it takes on each device.

    `n_ctx` is the largest context of one sequence in tokens. `adds_bos`: each prompt gets a start token in front. A
    forward pass takes at most `n_batch` tokens. `mapped` bytes of the weights are pages of the file; `host` bytes are
    in other memory of this machine (copies, where the file is mapped). `cpu_variant` names llama.cpp's CPU backend,
    empty if there is no choice. `sees`, `hears`: whether prompts may have pictures and sounds.
    """

    n_ctx: int
    adds_bos: bool
    n_batch: int
    mapped: int = 0
    host: int = 0
    cpu_variant: str = ""
    sees: bool = False
    hears: bool = False
    buffers: tuple[DeviceBuffers, ...] = ()


class LoadRefused(msgspec.Struct, array_like=True, frozen=True, tag=35):
    """The model cannot be loaded; the child exits after this. `memory`: there was not enough of it."""

    reason: str
    memory: bool = False


class Chunk(msgspec.Struct, array_like=True, frozen=True, tag=36):
    """More text of an answer, whole characters only. `tokens` is how many tokens the answer has by now.

    `held`: the last of them belongs to a call that is held to a grammar.
    """

    id: int
    text: str
    tokens: int
    held: bool = False


class ScoredToken(msgspec.Struct, array_like=True, frozen=True):
    """A token's bytes and log-probability. `top` are bytes and log-probabilities of the likeliest tokens in its place.

    The numbers are those of the model, before bias, penalties, grammar and temperature. All are finite, but for the
    first token of a prompt, before which the model has computed nothing: NaN.
    """

    data: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


class ScoredChunk(Chunk, array_like=True, frozen=True, tag=45):
    """A chunk of an answer with log-probabilities. Its text is empty if its tokens have none, or none yet.

    `scores` has an entry for each token of the answer, except the one that ends it and those of a stop text.
    """

    scores: tuple[ScoredToken, ...] = ()


class Done(msgspec.Struct, array_like=True, frozen=True, tag=37):
    """An answer has ended. Times are nanoseconds; `prompt_cached` of the `prompt_tokens` needed no evaluation.

    `stop` is the stop text that ended it, "" if none did. `prompt_cut` tokens more were cut out of the prompt.
    It waited `queued_ns` for its place. `tier` of the prompt cache had the cached tokens: "stream", "memory", "disk" or
    "".
    """

    id: int
    reason: Literal["stop", "length"]
    prompt_tokens: int
    prompt_cached: int
    prompt_ns: int
    tokens: int
    tokens_ns: int
    stop: str = ""
    prompt_cut: int = 0
    queued_ns: int = 0
    tier: str = ""


class Failed(msgspec.Struct, array_like=True, frozen=True, tag=38):
    """One request failed; the child lives on.

    `kind`: "context" for a prompt that is too long, "request" for another mistake of the caller, "internal" for a
    defect of ours. A prompt that is too long has `tokens` and may have `limit`; 0 if that is not known. A mistake may
    have the field of `engine.api` in which it is.
    """

    id: int
    kind: Literal["context", "request", "internal"]
    detail: str
    tokens: int = 0
    limit: int = 0
    field: str = ""


class Tokens(msgspec.Struct, array_like=True, frozen=True, tag=39):
    """Answer to `Tokenize`: the number of tokens, their ids as int32 in native byte order, the bytes of each.

    Ids and bytes are missing where only the number is told.
    """

    id: int
    count: int
    tokens: bytes = b""
    pieces: tuple[bytes, ...] = ()


class Text(msgspec.Struct, array_like=True, frozen=True, tag=40):
    """Answer to `Detokenize`. `invalid` is the place of the first number that is no token, -1 if all are tokens."""

    id: int
    text: str
    invalid: int = -1


class Report(msgspec.Struct, array_like=True, frozen=True, tag=41):
    """Answer to `Ping`. With the id 0 it comes unasked: each second while the child has requests, and once after."""

    id: int
    stats: Stats


class Crashed(msgspec.Struct, array_like=True, frozen=True, tag=42):
    """The child's last message: an unhandled error ends it, and with it every request in it.

    `memory`: there was not enough of it.
    """

    detail: str
    memory: bool = False


class LogLine(msgspec.Struct, array_like=True, frozen=True, tag=44):
    """A record of the child's log, which the parent writes. `created` is in Unix seconds, `exception` a traceback."""

    level: int
    logger: str
    message: str
    created: float
    fields: dict[str, str | int | float | bool]
    exception: str = ""


class NeedsRoom(msgspec.Struct, array_like=True, frozen=True, tag=47):
    """The context of an answer that `grows` will soon be full. `tokens`: prompt and answer so far."""

    id: int
    tokens: int


class QueuePlace(msgspec.Struct, array_like=True, frozen=True, tag=49):
    """A request that asked for its progress waits in the child, as number `place` from 1."""

    id: int
    place: int


class PromptProgress(msgspec.Struct, array_like=True, frozen=True, tag=50):
    """So many tokens of a prompt are in the KV cache, `cached` of them from the start; it began `ns` nanoseconds ago.

    The last one, which says that all of them are, comes before the answer.
    """

    id: int
    processed: int
    cached: int
    total: int
    ns: int


class Resized(msgspec.Struct, array_like=True, frozen=True, tag=48):
    """Answer to `Resize`. Unless `done` there was no memory, and all is as before."""

    id: int
    done: bool


class StatesWritten(msgspec.Struct, array_like=True, frozen=True, tag=60):
    """Answer to `WriteStates`: what could be written is."""

    id: int


FromRunner = (
    Hello
    | Loading
    | Loaded
    | LoadRefused
    | Chunk
    | ScoredChunk
    | Done
    | Failed
    | Tokens
    | Text
    | Report
    | Crashed
    | Embedded
    | Reranked
    | NeedsRoom
    | QueuePlace
    | PromptProgress
    | Resized
    | StatesWritten
    | LogLine
)

_encoder = msgspec.msgpack.Encoder()
to_runner_decoder = msgspec.msgpack.Decoder(ToRunner)
from_runner_decoder = msgspec.msgpack.Decoder(list[FromRunner])


def frames(events: list[FromRunner]) -> Iterator[bytes]:
    """Frames for events, as many as their size needs. An event too large for a frame fails its request instead."""
    frame = encode_frame(events)
    if len(frame) <= FRAME_HEADER.size + MAX_FRAME:
        yield frame
    elif len(events) > 1:
        middle = len(events) // 2
        yield from frames(events[:middle])
        yield from frames(events[middle:])
    else:
        request_id = getattr(events[0], "id", 0)
        yield encode_frame([Failed(request_id, "request", "what it asks for is too large")])


def take_events(buffer: bytearray) -> Iterator[FromRunner]:
    """Take all complete frames out of a buffer. Raises msgspec.DecodeError for an invalid one."""
    at = 0
    while len(buffer) - at >= FRAME_HEADER.size:
        (size,) = FRAME_HEADER.unpack_from(buffer, at)
        if size > MAX_FRAME:
            raise msgspec.DecodeError("a frame that is too large")
        start, at = at + FRAME_HEADER.size, at + FRAME_HEADER.size + size
        if len(buffer) < at:
            at = start - FRAME_HEADER.size
            break
        yield from from_runner_decoder.decode(bytes(buffer[start:at]))
    del buffer[:at]


def encode_frame(message: ToRunner | list[FromRunner]) -> bytes:
    """The bytes of one frame, header included."""
    body = _encoder.encode(message)
    return FRAME_HEADER.pack(len(body)) + body
