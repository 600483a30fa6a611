"""What a file says about vectors: how long a text may be, what it takes, whether vectors have length one. Pure."""

from __future__ import annotations

from engine.messages import EmbeddingSizes
from registry.gguf import GGUFArray, GGUFHeader

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
