"""Memory planning: how many bytes a model needs, and how many sequences can run in the memory that is free.

Pure functions of a GGUF header and of the devices' memory. Sizes are bytes unless they say tokens.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import msgspec

from engine.capabilities import ENCODERS
from engine.embed_messages import EmbeddingSizes
from engine.loading.devices import Device
from engine.loading.placement import Demand, Placement, Share, Wish, place
from engine.loading.sizes import OUTPUT, TOKENS, CacheTypes, ModelSizes, Pass
from engine.loading.state import LoadOptions
from engine.loading.windows import window_cells
from engine.messages import CONTEXT_PADDING, MICRO_BATCH, padded
from registry.gguf import GGUFArray, GGUFHeader

# Embedding

LONGEST_BESIDE = 8192  # tokens of a text where the model also generates: embedding then has a second KV cache
BATCH, GPU_BATCH = 512, 2048  # tokens of one forward pass, where the vocabulary is small
LEAST_BATCH = 128  # tokens; a smaller forward pass takes as long
OUTPUT_SHARE, GPU_OUTPUT_SHARE = 32 << 20, 256 << 20  # bytes of a pass' outputs: llama.cpp keeps a row for each token
NOT_POOLING = (None, 0, 4)  # `llama_pooling_type`: unset, none, rank


def embedding_sizes(header: GGUFHeader, n_ctx: int, *, generates: bool, on_gpu: bool) -> EmbeddingSizes:
    """How a model loaded for a context of `n_ctx` tokens embeds texts; `generates`: it also answers prompts."""
    largest, share = (GPU_BATCH, GPU_OUTPUT_SHARE) if on_gpu else (BATCH, OUTPUT_SHARE)
    batch = max(LEAST_BATCH, min(largest, share // _output_bytes(header)))
    return EmbeddingSizes(
        longest=min(n_ctx, LONGEST_BESIDE) if generates else n_ctx,
        batch=batch,
        mean=header.field("pooling_type") in NOT_POOLING,
    )


def embedding_bytes(header: GGUFHeader, sizes: EmbeddingSizes, cache_per_token: int) -> int:
    """Bytes that embedding adds to the weights: its own KV cache, the outputs of a pass, and its activations."""
    if header.architecture in ENCODERS:
        return max(sizes.batch, sizes.longest) * _text_bytes_per_token(header)
    cells = sizes.longest + sizes.batch
    return cells * cache_per_token + sizes.batch * (2 * _output_bytes(header) + _activation_bytes(header))


def normalizes(header: GGUFHeader) -> bool:
    """Whether the model itself makes the length of its vectors 1, even if a request does not ask for that."""
    flag = header.field("normalize_embeddings")
    match header.architecture:
        case "bert":
            return flag is not False and header.metadata.get("tokenizer.ggml.model") == "bert"
        case "nomic-bert" | "nomic-bert-moe":
            return flag is True
        case _:
            return True


def _output_bytes(header: GGUFHeader) -> int:
    """Bytes of one token's outputs: hidden state and logits, for which llama.cpp has room even if it computes none."""
    vocabulary = header.metadata.get("tokenizer.ggml.tokens")
    return 4 * (header.size("embedding_length") + (len(vocabulary) if isinstance(vocabulary, GGUFArray) else 1))


def _text_bytes_per_token(header: GGUFHeader) -> int:
    """Bytes that one token takes where a whole text is computed at once."""
    return _output_bytes(header) + _activation_bytes(header)


def _activation_bytes(header: GGUFHeader) -> int:
    """Bytes that one token takes in the layers while they are computed."""
    return 4 * (2 * header.size("feed_forward_length") + 4 * header.size("embedding_length"))


# The plan of a load

CACHE_SHARE = 0.25  # of the free host memory: what the KV cache may take beyond one full context
GPU_CACHE_SHARE = 0.8  # of the free GPU memory that the weights leave
FREE_SHARE = 0.9  # of the free memory: what a longer context may take
PROCESS = 24 << 20  # bytes of a process with a small model, besides the model
TEXTS = 4 << 20  # bytes of what embeds and ranks
BYTES_PER_NODE = 800  # of a graph, in all copies of it
LONG_GRAPHS = frozenset({"qwen3next", "qwen35", "qwen35moe", "kimi-linear", "bailingmoe3", "minimax-01", "deepseek4"})
"""Architectures for which llama.cpp has room for NODES_PER_TOKEN nodes."""
NODES_PER_TOKEN, NODES_PER_TENSOR = 40, 8
BYTES_PER_TOKEN = 300  # of the vocabulary: its text and what finds it
WORK_FACTOR = 1.1  # of the widest network's rows: what the CPU's threads compute in
PROMPT_CACHE_SHARE = 0.05  # of the free host memory: what states of finished sequences may take
PROMPT_CACHE_CONTEXTS = 16  # full contexts that they may take at most
PROJECTOR_FACTOR, PROJECTOR_OVERHEAD = 1.1, 64 << 20  # of its file; bytes beside it
BYTES_OF_MASK = 6  # for each pair of patches
TYPICAL_LENGTH = 2048  # tokens that a running sequence should find room for; a longer one may have to wait
MAX_PARALLEL_CPU = 16  # a pass of so many rows takes hardly longer than one of half as many
FULL_CONTEXTS_CPU = 8  # that the KV cache has cells for, at most
MAX_PARALLEL_GPU = 32
MAX_PARALLEL = 128  # whatever is asked for: llama.cpp has 256 sequence ids, and some of them only hold prefixes
MOST_SCORED = 8  # rows of logits that a pass has room for, at least
F16 = CacheTypes()
SMALLER_CONTEXTS = (32_768, 4096)  # tokens: what an automatic context is lowered to where it does not fit on GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the configuration says of memory, in bytes unless it says otherwise.

    `parallel` sequences at most and `prompt_cache` for states of finished ones; None: by the memory. `row_cache`: the
    most for rows of pictures. On each GPU `overhead` stays free, and one of the `margins`
    (the last one for all further GPUs) for the driver and what no plan knows.
    Unless it `fits`, layers go to GPUs whatever they have free. An automatic context is lowered to no less than
    `least_context` tokens. `flash_attention`: None lets llama.cpp choose. `swa_full`: layers with a sliding window have
    caches as large as the others.
    """

    types: CacheTypes = F16
    parallel: int | None = None
    prompt_cache: int | None = None
    row_cache: int = 0
    overhead: int = 0
    margins: tuple[int, ...] = (1 << 30,)
    spread: bool = False
    fits: bool = True
    least_context: int = 4096
    flash_attention: bool | None = None
    swa_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """How a model will be loaded, with a context of `num_ctx` tokens.

    `n_parallel` sequences share a KV cache of `n_cells` tokens, whose K and V have these `types`. Where a model never
    `generates` the cells are what its longest text to embed takes, `bytes_per_cell` each. States of finished sequences
    take `prompt_cache` bytes of this machine's memory, rows of pictures `row_cache`, both of which are in the
    `placement`; the first text to embed adds `embedding_bytes` to that.
    """

    num_ctx: int
    n_parallel: int
    n_cells: int
    placement: Placement
    embedding: EmbeddingSizes
    embedding_bytes: int = 0
    bytes_per_cell: int
    types: CacheTypes = F16
    prompt_cache: int = 0
    row_cache: int = 0
    generates: bool = True

    @property
    def size(self) -> int:
        """What the load takes on all devices together."""
        return self.placement.size

    @property
    def total(self) -> int:
        """What it may take with its prompt cache, which is empty at first."""
        return self.placement.total

    @property
    def cache(self) -> int:
        """What the KV cache takes, or all texts of a model that never generates."""
        if not self.generates:
            return self.n_cells * self.bytes_per_cell
        return sum(share.cache for share in self.placement.shares)

    @property
    def gpu_layers(self) -> int:
        """Layers on GPUs, the output as one of them; -1: all."""
        return -1 if self.placement.gpu_layers == self.placement.layers else self.placement.gpu_layers

    @property
    def swa_full(self) -> bool:
        """Whether layers with a sliding window, if there are any, have caches as large as the others."""
        return not self.placement.window

    def embedding_for(self, header: GGUFHeader, num_ctx: int) -> int:
        """What texts to embed add where the context has grown to `num_ctx` tokens; 0 where it is counted already."""
        if not self.generates or num_ctx <= self.num_ctx:
            return self.embedding_bytes
        longest = min(padded(num_ctx), LONGEST_BESIDE)
        sizes = msgspec.structs.replace(self.embedding, longest=max(longest, self.embedding.longest))
        return embedding_bytes(header, sizes, max(1, ModelSizes.of(header).cell(self.types)))

    def with_cells(self, cells: int) -> MemoryPlan:
        """The same with another number of cells."""
        if self.generates:
            return replace(self, n_cells=cells, placement=self.placement.with_cells(cells))
        more = (cells - self.n_cells) * self.bytes_per_cell
        placement = self.placement.with_texts(self.placement.computing.compute + more)
        embedding = msgspec.structs.replace(self.embedding, longest=cells)
        return replace(self, n_cells=cells, placement=placement, embedding=embedding)


def projector_bytes(size: int, masked_patches: int) -> int:
    """Bytes that a projector of `size` bytes takes with its buffers.

    An encoder with attention in windows has a mask of all patches of a picture by all, `masked_patches` at most.
    """
    return int(size * PROJECTOR_FACTOR) + PROJECTOR_OVERHEAD + masked_patches**2 * BYTES_OF_MASK


def row_bytes(header: GGUFHeader) -> int:
    """Bytes of one row of a picture: an embedding, and one more for each layer that is shown it (deepstack)."""
    return 4 * header.size("embedding_length") * (1 + header.size("n_deepstack_layers"))


def copied_bytes(header: GGUFHeader, types: Container[str], *, mapped: bool, generates: bool) -> int:
    """Upper bound on the bytes of weights that are in memory twice when the library repacks matrices of these `types`.

    A `mapped` file stays in memory beside the repacked copies. Otherwise only token embeddings that are the output
    matrix too are there twice.
    """
    tied = generates and all(tensor.name != OUTPUT for tensor in header.tensors)
    repacked = [tensor for tensor in header.tensors if len(tensor.shape) > 1 and tensor.type in types]
    return sum(tensor.size for tensor in repacked if (tied if tensor.name == TOKENS else mapped))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be loaded, with these `options`; the context is that of each sequence.

    `copied` is the result of `copied_bytes`, as if all were on the CPU. `projector` and `adapters` are bytes. `mapped`:
    the file is mapped, not read. `generates`: whether it answers prompts.
    """

    options: LoadOptions
    copied: int = 0
    projector: int = 0
    adapters: int = 0
    mapped: bool = True
    generates: bool = True


def plan(header: GGUFHeader, request: Request, limits: Limits, host: Device, gpus: Sequence[Device]) -> MemoryPlan:
    """Choose where a model goes, the size of its KV cache, and the number of sequences, by the memory that is free.

    One sequence of `num_ctx` tokens always gets its cells; more are added while they fit. An automatic context is
    lowered before layers leave the GPUs. Raises GGUFError if the header's sizes are not numbers.
    """
    planner = _Planner(header, request, limits, host, gpus)
    if not request.generates:
        return planner.for_texts()
    options = request.options
    contexts = [options.num_ctx]
    if options.num_ctx_auto and gpus and options.num_gpu:
        contexts += [size for size in SMALLER_CONTEXTS if limits.least_context <= size < options.num_ctx]
    for num_ctx in contexts:
        found = planner.for_answers(num_ctx)
        if found.placement.complete:
            break
    return found


class _Planner:
    """The plans of one load for several contexts."""

    def __init__(
        self, header: GGUFHeader, request: Request, limits: Limits, host: Device, gpus: Sequence[Device]
    ) -> None:
        self._header = header
        self._request = request
        self._limits = limits
        self._host = host
        self._gpus = gpus if request.options.num_gpu else ()
        self._sizes = ModelSizes.of(header)
        margins = limits.margins or (0,)
        self._margins = [limits.overhead + margins[min(index, len(margins) - 1)] for index in range(len(self._gpus))]
        self._types = self._sizes.usable(limits.types)
        self._cell = max(1, self._sizes.cell(self._types))
        self._window = 0 if limits.swa_full else self._sizes.window

    def for_answers(self, num_ctx: int) -> MemoryPlan:
        """A model that answers prompts."""
        request, limits = self._request, self._limits
        n_ctx = padded(num_ctx)
        most, contexts = (MAX_PARALLEL_GPU,) * 2 if self._gpus else (MAX_PARALLEL_CPU, FULL_CONTEXTS_CPU)
        limit = min(limits.parallel or most, MAX_PARALLEL)
        contexts = min(limits.parallel or contexts, limit)
        prompt_cache = limits.prompt_cache
        if prompt_cache is None:
            seen, windowed = self._sizes.cells(self._types)
            state = n_ctx * seen + min(n_ctx, self._sizes.window) * windowed + self._sizes.state
            most_bytes = PROMPT_CACHE_CONTEXTS * max(state, n_ctx)
            prompt_cache = max(0, min(int(self._host.free * PROMPT_CACHE_SHARE), most_bytes))
        beside = n_ctx * row_bytes(self._header) if request.projector else 0
        smallest = self._place(n_ctx, n_ctx, 1, limit, beside, prompt_cache)
        cells, n_parallel = self._cells(smallest, n_ctx, contexts, limit)
        row_cache = min(limits.row_cache, cells * row_bytes(self._header)) if request.projector else 0
        placement = self._place(n_ctx, cells, n_parallel, n_parallel, row_cache, prompt_cache)
        if smallest.complete and not placement.complete:  # states of sequences that do not fit
            n_parallel, cells = 1, n_ctx
            placement = self._place(n_ctx, cells, 1, 1, row_cache, prompt_cache)
        sizes = embedding_sizes(self._header, n_ctx, generates=True, on_gpu=bool(placement.gpus))
        return MemoryPlan(
            num_ctx=num_ctx,
            n_parallel=n_parallel,
            n_cells=cells,
            placement=placement,
            embedding=sizes,
            embedding_bytes=embedding_bytes(self._header, sizes, self._cell),
            bytes_per_cell=max(1, round(sum(share.per_cell for share in placement.shares))),
            types=self._types,
            prompt_cache=prompt_cache,
            row_cache=row_cache,
        )

    def for_texts(self) -> MemoryPlan:
        """A model that only embeds or ranks: it gets the smallest KV cache that there is beside that for its texts."""
        n_ctx = padded(self._request.options.num_ctx)
        encoder = self._header.architecture in ENCODERS
        sizes = embedding_sizes(self._header, n_ctx, generates=False, on_gpu=bool(self._gpus))
        placement = self._place(CONTEXT_PADDING, 0 if encoder else CONTEXT_PADDING, 1, 1, TEXTS, tokens=1)
        texts = embedding_bytes(self._header, sizes, self._cell)
        return MemoryPlan(
            num_ctx=self._request.options.num_ctx,
            n_parallel=1,
            n_cells=n_ctx,
            placement=placement.with_texts(texts),
            embedding=sizes,
            bytes_per_cell=_text_bytes_per_token(self._header) if encoder else self._cell,
            types=self._types,
            generates=False,
        )

    def _place(
        self,
        n_ctx: int,
        cells: int,
        streams: int,
        outputs: int,
        beside: int,
        prompt_cache: int = 0,
        tokens: int = MICRO_BATCH,
    ) -> Placement:
        """`beside`: bytes of the process's own caches but the prompt cache."""
        request, limits = self._request, self._limits
        run = Pass(
            tokens=max(min(tokens, cells), streams, 1),
            cells=min(n_ctx, max(cells, CONTEXT_PADDING)),
            outputs=max(outputs, MOST_SCORED),
            streams=streams,
            flash_attention=limits.flash_attention is not False,
            window=window_cells(cells, streams, self._window) // streams if self._window else 0,
        )
        work = int(max(run.tokens, MICRO_BATCH) * max(self._sizes.inner, self._sizes.width) * WORK_FACTOR)
        nodes = NODES_PER_TENSOR * len(self._header.tensors)
        if self._header.architecture in LONG_GRAPHS:
            nodes = max(nodes, NODES_PER_TOKEN * run.tokens)
        own = PROCESS + BYTES_PER_TOKEN * self._sizes.vocabulary + nodes * BYTES_PER_NODE + work + beside
        copied, projector, adapters = request.copied, request.projector, request.adapters
        demand = Demand(
            self._sizes, self._types, cells, run, copied, projector, adapters, own, prompt_cache, request.mapped
        )
        options = request.options
        wish = Wish(options.num_gpu, options.main_gpu, limits.spread, self._margins, limits.fits)
        return place(demand, wish, self._host, self._gpus)

    def _cells(self, smallest: Placement, n_ctx: int, contexts: int, limit: int) -> tuple[int, int]:
        """Cells for up to so many full contexts, and for how many sequences.

        They are as many as the devices have room for beside one context of `n_ctx`. Fewer than `limit` full contexts
        still serve as many short ones: what outgrows the cache is preempted.
        """
        budgets = self._budgets(smallest)

        def streams(cells: int) -> int:
            return max(1, min(limit, cells // min(n_ctx, TYPICAL_LENGTH)))

        def fits(cells: int, streams: int) -> bool:
            shares = smallest.with_cells(cells, streams).shares
            return all(share.caches <= budget for share, budget in zip(shares, budgets, strict=True))

        sizes = range(n_ctx, n_ctx * contexts + 1, CONTEXT_PADDING)
        cells = sizes[max(0, bisect_left(sizes, True, key=lambda cells: not fits(cells, streams(cells))) - 1)]
        counts = range(1, streams(cells) + 1)
        if self._window:  # each stream has windows of its own
            counts = counts[: max(1, bisect_left(counts, True, key=lambda count: not fits(cells, count)))]
        return cells, counts[-1]

    def _budgets(self, smallest: Placement) -> list[float]:
        """What the KV caches may take on each device, where those of one context are as in `smallest`."""
        margins = {gpu.handle: margin for gpu, margin in zip(self._gpus, self._margins, strict=True)}
        budgets = []
        for share in smallest.shares:
            spare = share.device.free - share.total
            if not self._sizes.caches or not share.caches:
                budgets.append(math.inf)
            elif share is smallest.host:
                budgets.append((spare + share.cache) * CACHE_SHARE)
            else:
                budgets.append(share.caches + (spare - margins[share.device.handle]) * GPU_CACHE_SHARE)
        return budgets


def with_context(
    plan: MemoryPlan, num_ctx: int, cells: int, host: Device, gpus: Sequence[Device]
) -> tuple[int, MemoryPlan]:
    """The plan of a loaded model for a longer context of `num_ctx` tokens, or of as many as there is memory for.

    It has `cells` for all sequences together if they take no more of the memory than they may at a load. Devices are as
    they are now, the model's own bytes not free. While the cells are changed, the states of what runs are in this
    machine's memory. All else stays as it is.
    """
    spare, on_gpu = math.inf, False
    now = {gpu.handle: gpu.free for gpu in gpus}
    for share in plan.placement.gpus:
        if _growth(plan, share):
            spare, on_gpu = min(spare, now.get(share.device.handle, 0) * FREE_SHARE / _growth(plan, share)), True
    last = plan.placement.host
    per_cell = _growth(plan, last) if plan.generates or on_gpu else float(plan.bytes_per_cell)
    if per_cell:
        spare = min(spare, (host.free * FREE_SHARE - (last.cache if plan.generates else plan.cache)) / per_cell)
    more = 0 if math.isinf(spare) else max(0, int(spare)) // CONTEXT_PADDING * CONTEXT_PADDING
    most = max(num_ctx, cells, plan.n_cells) if math.isinf(spare) else plan.n_cells + more
    num_ctx = min(num_ctx, most)
    ample = int(most * (GPU_CACHE_SHARE if on_gpu else CACHE_SHARE)) // CONTEXT_PADDING * CONTEXT_PADDING
    return num_ctx, plan.with_cells(max(plan.n_cells, padded(num_ctx), min(padded(cells), ample)))


def _growth(plan: MemoryPlan, share: Share) -> float:
    """What a token more in the KV cache takes on a device, at most."""
    return share.per_cell + (share.per_window_cell if plan.placement.windows_grow else 0)
