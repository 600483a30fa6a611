"""How much memory a model needs, and how many sequences it can run at once in what there is. Bytes throughout."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from engine.loading.devices import Device
from engine.messages import EmbeddingSizes
from registry.gguf import GGUFArray, GGUFHeader

# What a file says about vectors: how long a text may be, what it takes, whether vectors have length one. Pure.

LONGEST_BESIDE = 8192  # tokens of a text of a model that also generates: its cache is a second one
BATCH, GPU_BATCH = 512, 2048  # tokens of one pass, where the vocabulary is small
LEAST_BATCH = 128  # tokens; with fewer, a pass costs as much as it does for more
OUTPUT_SHARE, GPU_OUTPUT_SHARE = 32 << 20, 256 << 20  # bytes of a pass' outputs: llama.cpp keeps a row for each token
ENCODERS = frozenset(
    ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "eurobert", "modern-bert")
) | {"gemma-embedding"}
"""Architectures whose tokens all see each other: they cannot write, and keep no cache."""
NOT_POOLING = (None, 0, 4)  # no wish, every token for itself, the score of a pair


def embedding_sizes(header: GGUFHeader, n_ctx: int, *, generates: bool, on_gpu: bool) -> EmbeddingSizes:
    """How texts are embedded by a model that was loaded for a context of `n_ctx` tokens.

    `generates` says that it also answers prompts.
    """
    most, share = (GPU_BATCH, GPU_OUTPUT_SHARE) if on_gpu else (BATCH, OUTPUT_SHARE)
    batch = max(LEAST_BATCH, min(most, share // _row(header)))
    return EmbeddingSizes(
        longest=min(n_ctx, LONGEST_BESIDE) if generates else n_ctx,
        batch=batch,
        mean=header.field("pooling_type") in NOT_POOLING,
    )


def embedding_bytes(header: GGUFHeader, sizes: EmbeddingSizes, cache_per_token: int) -> int:
    """What embedding takes on top of the weights: its own cache, the outputs of a pass, and the numbers on the way."""
    if header.architecture in ENCODERS:
        tokens = max(sizes.batch, sizes.longest)
        return tokens * (_row(header) + _between(header))
    cells = sizes.longest + sizes.batch
    return cells * cache_per_token + sizes.batch * (2 * _row(header) + _between(header))


def normalizes(header: GGUFHeader) -> bool:
    """Whether the vectors of this model have length one where nobody asks for that."""
    wish = header.field("normalize_embeddings")
    match header.architecture:
        case "bert":
            return wish is not False and header.metadata.get("tokenizer.ggml.model") == "bert"
        case "nomic-bert" | "nomic-bert-moe":
            return wish is True
        case _:
            return True


def _row(header: GGUFHeader) -> int:
    """Bytes of one token's outputs: its state and a score for each word, whether there are any or not."""
    words = header.metadata.get("tokenizer.ggml.tokens")
    return 4 * (header.size("embedding_length") + (len(words) if isinstance(words, GGUFArray) else 1))


def _between(header: GGUFHeader) -> int:
    """Bytes that one token takes in the layers while they are computed."""
    return 4 * (2 * header.size("feed_forward_length") + 4 * header.size("embedding_length"))


CACHE_SHARE = 0.25  # of the free host memory that a model's cache may take beyond one full context
GPU_CACHE_SHARE = 0.8  # of the free GPU memory that weights leave
COMPUTE_OVERHEAD = 0.1  # of the weights, for compute buffers
COMPUTE_FLOOR = 52 << 20  # the process itself and its smallest buffers
TYPICAL_LENGTH = 2048  # tokens that a running sequence should find room for; who needs more may have to wait
MAX_PARALLEL_CPU = 8
MAX_PARALLEL_GPU = 32
MAX_PARALLEL = 128  # whoever asks for more; llama.cpp knows 256 sequences, of which some only remember
BYTES_PER_VALUE = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32}
BYTES_PER_VALUE |= {"q4_1": 20 / 32, "q4_0": 18 / 32}
TOKENS, OUTPUT = "token_embd.weight", "output.weight"
PADDING = 256  # llama.cpp rounds contexts up to a multiple of this


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a model will be loaded. `n_cells` is the shared cache in tokens; the others are bytes.

    `weights` are resident with the copies that the processor's own layout needs; `total` includes them and `cache`.
    `beside` are the bytes that embedding adds to the total once it is asked for.
    """

    n_parallel: int
    n_cells: int
    weights: int
    cache: int
    total: int
    gpu_layers: int
    embedding: EmbeddingSizes
    beside: int


def cache_bytes_per_token(header: GGUFHeader, cache_type: str) -> int:
    """Bytes of K and V that one token takes over all layers."""
    heads = header.size("attention.head_count", 1)
    width = header.size("embedding_length")
    key = header.size("attention.key_length", width // max(heads, 1))
    value = header.size("attention.value_length", key)
    per_value = BYTES_PER_VALUE.get(cache_type, 2.0)
    return max(1, int(_kv_heads(header, heads) * (key + value) * per_value))


def copied_bytes(header: GGUFHeader, types: Container[str], *, mapped: bool, generates: bool) -> int:
    """Bytes of weights that will be in memory twice at most, when weights of `types` are copied.

    The copies of what is multiplied stand beside the `mapped` file. Without a file, only the one matrix is there twice
    that both reads tokens and writes them.
    """
    writes = generates and all(tensor.name != OUTPUT for tensor in header.tensors)
    twice = [tensor for tensor in header.tensors if len(tensor.shape) > 1 and tensor.type in types]
    return sum(tensor.size for tensor in twice if (writes if tensor.name == TOKENS else mapped))


def plan(
    header: GGUFHeader,
    *,
    weights: int,
    num_ctx: int,
    cache_type: str,
    parallel_limit: int | None,
    host: Device,
    gpus: list[Device],
    num_gpu: int,
    copied: int = 0,
    generates: bool = True,
) -> MemoryPlan:
    """Choose cache size and number of sequences from the memory there is.

    One sequence of `num_ctx` always gets its cells; more are added while they fit. `parallel_limit` caps the
    number of sequences; `num_gpu` is the wish for layers on the GPU, -1 for as many as fit; `copied` are
    the bytes of weights that are in memory twice as far as they are the processor's. What never generates gets no more
    of all this than a process needs to start.
    """
    n_ctx = -(-num_ctx // PADDING) * PADDING
    per_token = cache_bytes_per_token(header, cache_type)
    on_gpu = bool(gpus) and num_gpu != 0
    embedding = embedding_sizes(header, n_ctx, generates=generates, on_gpu=on_gpu)
    beside = embedding_bytes(header, embedding, per_token)
    if not generates:
        cache = 0 if header.architecture in ENCODERS else PADDING * per_token
        layers = _gpu_layers(header, weights + cache, beside, gpus, num_gpu) if on_gpu else 0
        weights += _on_processor(header, copied, layers)
        return MemoryPlan(
            1, PADDING, weights, cache, weights + cache + beside + COMPUTE_FLOOR, layers, embedding, beside=0
        )
    overhead = COMPUTE_FLOOR + int(weights * COMPUTE_OVERHEAD)
    if on_gpu:
        free = sum(gpu.free for gpu in gpus)
        budget = int((free - weights - overhead) * GPU_CACHE_SHARE)
    else:
        budget = int((host.free - weights - copied - overhead) * CACHE_SHARE)
    most = min(parallel_limit or (MAX_PARALLEL_GPU if on_gpu else MAX_PARALLEL_CPU), MAX_PARALLEL)
    cells = max(n_ctx, min(n_ctx * most, budget // per_token // PADDING * PADDING))
    cache = cells * per_token
    layers = _gpu_layers(header, weights + cache, overhead, gpus, num_gpu) if on_gpu else 0
    weights += _on_processor(header, copied, layers)
    # A pool smaller than `most` full contexts still serves as many short ones: who outgrows it is preempted.
    n_parallel = max(1, min(most, cells // min(n_ctx, TYPICAL_LENGTH)))
    return MemoryPlan(n_parallel, cells, weights, cache, weights + cache + overhead, layers, embedding, beside)


def _gpu_layers(header: GGUFHeader, needed: int, overhead: int, gpus: list[Device], wish: int) -> int:
    layers = header.size("block_count", 1) + 1
    if wish > 0:
        return min(wish, layers)
    free = sum(gpu.free for gpu in gpus) - overhead
    return -1 if needed <= free else max(0, int(layers * free / needed))


def _on_processor(header: GGUFHeader, copied: int, gpu_layers: int) -> int:
    """What is copied of the layers that are not on a GPU."""
    layers = header.size("block_count", 1) + 1
    return 0 if gpu_layers < 0 else copied * max(0, layers - gpu_layers) // layers


def _kv_heads(header: GGUFHeader, heads: int) -> int:
    """KV heads summed over the layers; a list gives one number per layer, 0 where there is no attention."""
    found = header.sizes("attention.head_count_kv")
    if isinstance(header.field("attention.head_count_kv"), GGUFArray):
        return sum(found)
    return (found[0] if found else heads) * header.size("block_count", 1)
