"""Memory planning: how many bytes a model needs, and how many sequences can run in the memory that is free.

Pure functions of a GGUF header and of the devices' memory. Sizes are bytes unless they say tokens.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import msgspec

from engine.capabilities import ENCODERS
from engine.loading.devices import Device
from engine.messages import CONTEXT_PADDING, EmbeddingSizes, padded
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
COMPUTE_OVERHEAD = 0.1  # of the weights, for compute buffers
COMPUTE_FLOOR = 52 << 20  # bytes of the process itself and its smallest buffers
PROMPT_CACHE_SHARE = 0.05  # of the free host memory: what states of finished sequences may take
PROMPT_CACHE_CONTEXTS = 16  # full contexts that they may take at most
PROJECTOR_FACTOR, PROJECTOR_OVERHEAD = 1.1, 64 << 20  # of its file; bytes beside it
BYTES_OF_MASK = 6  # for each pair of patches
TYPICAL_LENGTH = 2048  # tokens that a running sequence should find room for; a longer one may have to wait
MAX_PARALLEL_CPU = 8
MAX_PARALLEL_GPU = 32
MAX_PARALLEL = 128  # whatever is asked for: llama.cpp has 256 sequence ids, and some of them only hold prefixes
BYTES_PER_VALUE = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32}
BYTES_PER_VALUE |= {"q4_1": 20 / 32, "q4_0": 18 / 32}
TOKENS, OUTPUT = "token_embd.weight", "output.weight"


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a model will be loaded.

    `n_parallel` sequences share a KV cache of `n_cells` tokens, which is `cache` bytes. Where a model never `generates`
    these are what its longest text to embed takes. States of finished ones take `prompt_cache` bytes of this machine's
    memory beside it. `gpu_layers` are on a GPU (-1: all). `weights` are the bytes of the weights with the copies that
    the CPU's own layout needs. `total` is what the load takes, `weights`, `cache`, `prompt_cache` and `row_cache` (rows
    of pictures) included; the first text to embed adds `embedding_bytes` to it.
    """

    n_parallel: int
    n_cells: int
    weights: int
    cache: int
    total: int
    gpu_layers: int
    embedding: EmbeddingSizes
    embedding_bytes: int
    prompt_cache: int = 0
    row_cache: int = 0
    generates: bool = True

    @property
    def bytes_per_cell(self) -> int:
        """What each cell takes."""
        return self.cache // self.n_cells

    def with_cells(self, cells: int) -> MemoryPlan:
        """The same with another number of cells."""
        cache = cells * self.bytes_per_cell
        longest = self.embedding.longest if self.generates else cells
        embedding = msgspec.structs.replace(self.embedding, longest=longest)
        total = self.total + cache - self.cache
        return replace(self, n_cells=cells, cache=cache, total=total, embedding=embedding)


def projector_bytes(size: int, masked_patches: int) -> int:
    """Bytes that a projector of `size` bytes takes with its buffers.

    An encoder with attention in windows has a mask of all patches of a picture by all, `masked_patches` at most.
    """
    return int(size * PROJECTOR_FACTOR) + PROJECTOR_OVERHEAD + masked_patches**2 * BYTES_OF_MASK


def row_bytes(header: GGUFHeader) -> int:
    """Bytes of one row of a picture: an embedding, and one more for each layer that is shown it (deepstack)."""
    return 4 * header.size("embedding_length") * (1 + header.size("n_deepstack_layers"))


def cache_bytes_per_token(header: GGUFHeader, cache_type: str) -> int:
    """Bytes of K and V of one token over all layers. `cache_type` is a ggml type name such as "q8_0"."""
    heads = header.size("attention.head_count", 1)
    width = header.size("embedding_length")
    key = header.size("attention.key_length", width // max(heads, 1))
    value = header.size("attention.value_length", key)
    per_value = BYTES_PER_VALUE.get(cache_type, 2.0)
    return max(1, int(_kv_heads(header, heads) * (key + value) * per_value))


def copied_bytes(header: GGUFHeader, types: Container[str], *, mapped: bool, generates: bool) -> int:
    """Upper bound on the bytes of weights that are in memory twice when the library repacks matrices of these `types`.

    A `mapped` file stays in memory beside the repacked copies. Otherwise only token embeddings that are the output
    matrix too are there twice.
    """
    tied = generates and all(tensor.name != OUTPUT for tensor in header.tensors)
    repacked = [tensor for tensor in header.tensors if len(tensor.shape) > 1 and tensor.type in types]
    return sum(tensor.size for tensor in repacked if (tied if tensor.name == TOKENS else mapped))


def plan(
    header: GGUFHeader,
    *,
    weights: int,
    num_ctx: int,
    cache_type: str,
    parallel_limit: int | None,
    host: Device,
    gpus: Sequence[Device],
    num_gpu: int,
    copied: int = 0,
    generates: bool = True,
    prompt_cache: int | None = None,
    projector: int = 0,
    row_cache: int = 0,
) -> MemoryPlan:
    """Choose the size of the KV cache and the number of sequences by the memory that is free.

    One sequence of `num_ctx` tokens always gets its cells; more are added while they fit, `parallel_limit` at most.
    `num_gpu` asks for that many layers on the GPU, -1 for as many as fit. `weights` is the size of the file, `copied`
    the result of `copied_bytes` for a model that is wholly on the CPU. `prompt_cache`: bytes for states of finished
    sequences; None: by the memory. `projector`: bytes with which it sees or hears, `row_cache` the most for rows of its
    pictures, which has room for no more rows than the KV cache has cells. A model that never generates gets the
    smallest KV cache that a process can have beside that for its texts. Raises GGUFError if the header's sizes are not
    numbers.
    """
    n_ctx = padded(num_ctx)
    per_token = cache_bytes_per_token(header, cache_type)
    on_gpu = bool(gpus) and num_gpu != 0
    embedding = embedding_sizes(header, n_ctx, generates=generates, on_gpu=on_gpu)
    for_embedding = embedding_bytes(header, embedding, per_token)
    if not generates:
        smallest = 0 if header.architecture in ENCODERS else CONTEXT_PADDING * per_token
        layers = _gpu_layers(header, weights + smallest, for_embedding, gpus, num_gpu) if on_gpu else 0
        weights += _copied_on_cpu(header, copied, layers)
        total = weights + smallest + for_embedding + COMPUTE_FLOOR
        cache = n_ctx * (_text_bytes_per_token(header) if header.architecture in ENCODERS else per_token)
        return MemoryPlan(1, n_ctx, weights, cache, total, layers, embedding, embedding_bytes=0, generates=False)
    overhead = COMPUTE_FLOOR + int(weights * COMPUTE_OVERHEAD) + projector
    if on_gpu:
        free = sum(gpu.free for gpu in gpus)
        budget = int((free - weights - overhead) * GPU_CACHE_SHARE)
    else:
        budget = int((host.free - weights - copied - overhead) * CACHE_SHARE)
    limit = min(parallel_limit or (MAX_PARALLEL_GPU if on_gpu else MAX_PARALLEL_CPU), MAX_PARALLEL)
    cells = max(n_ctx, min(n_ctx * limit, budget // per_token // CONTEXT_PADDING * CONTEXT_PADDING))
    cache = cells * per_token
    layers = _gpu_layers(header, weights + cache, overhead, gpus, num_gpu) if on_gpu else 0
    weights += _copied_on_cpu(header, copied, layers)
    # A cache of less than `limit` full contexts still serves as many short ones: what outgrows it is preempted.
    n_parallel = max(1, min(limit, cells // min(n_ctx, TYPICAL_LENGTH)))
    if prompt_cache is None:
        prompt_cache = max(0, min(int(host.free * PROMPT_CACHE_SHARE), PROMPT_CACHE_CONTEXTS * n_ctx * per_token))
    row_cache = min(row_cache, cells * row_bytes(header))
    total = weights + cache + overhead + prompt_cache + row_cache
    sizes = embedding, for_embedding, prompt_cache, row_cache
    return MemoryPlan(n_parallel, cells, weights, cache, total, layers, *sizes)


def with_context(
    plan: MemoryPlan,
    num_ctx: int,
    cells: int,
    *,
    host: Device,
    gpus: Sequence[Device],
    gpu_share: float,
) -> tuple[int, MemoryPlan]:
    """The plan of a loaded model for a longer context of `num_ctx` tokens, or of as many as there is memory for.

    It has `cells` for all sequences together if they take no more of the memory than they may at a load. Devices are as
    they are now, the model's own bytes not free; `gpu_share` of its cells are on GPUs. While the cells are changed, the
    states of what runs are in this machine's memory. All else stays as it is.
    """
    spare = math.inf
    if gpu_share:
        spare = min(spare, sum(gpu.free for gpu in gpus) * FREE_SHARE / gpu_share)
    if gpu_share < 1:
        spare = min(spare, host.free * FREE_SHARE / (1 - gpu_share) - plan.cache)
    most = plan.n_cells + max(0, int(spare // plan.bytes_per_cell)) // CONTEXT_PADDING * CONTEXT_PADDING
    num_ctx = min(num_ctx, most)
    ample = int(most * (GPU_CACHE_SHARE if gpu_share else CACHE_SHARE)) // CONTEXT_PADDING * CONTEXT_PADDING
    return num_ctx, plan.with_cells(max(plan.n_cells, padded(num_ctx), min(padded(cells), ample)))


def _gpu_layers(header: GGUFHeader, needed: int, overhead: int, gpus: Sequence[Device], num_gpu: int) -> int:
    layers = header.size("block_count", 1) + 1
    if num_gpu > 0:
        return min(num_gpu, layers)
    free = sum(gpu.free for gpu in gpus) - overhead
    return -1 if needed <= free else max(0, int(layers * free / needed))


def _copied_on_cpu(header: GGUFHeader, copied: int, gpu_layers: int) -> int:
    """The share of `copied` for the layers that stay on the CPU."""
    layers = header.size("block_count", 1) + 1
    return 0 if gpu_layers < 0 else copied * max(0, layers - gpu_layers) // layers


def _kv_heads(header: GGUFHeader, heads: int) -> int:
    """KV heads of all layers together. If each layer has a number of its own (0: no attention), the file is read."""
    sizes = header.sizes("attention.head_count_kv")
    if isinstance(header.field("attention.head_count_kv"), GGUFArray):
        return sum(sizes)
    return (sizes[0] if sizes else heads) * header.size("block_count", 1)
