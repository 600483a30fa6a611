"""GLM-4.7-Flash, which llama.cpp knows as a DeepSeek 2: with what its attention keeps in place of keys and values."""

from __future__ import annotations

from collections.abc import Callable

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import is_of, numbers
from registry.gguf import GGUFHeader

_ENDS = "tokenizer.ggml.eos_token_ids"


def _kept(*keys: str) -> Callable[[GGUFHeader], int | None]:
    """The sum of these sizes; None if one is missing."""

    def read(header: GGUFHeader) -> int | None:
        found = [header.field(key) for key in keys]
        return sum(found) if all(isinstance(size, int) for size in found) else None

    return read


def _end(place: int) -> Callable[[GGUFHeader], int | None]:
    """One of the tokens that end an answer."""
    return lambda header: dict(enumerate(numbers(header, _ENDS))).get(place)


LAYOUT = Layout(
    name="glm4moelite",
    version=1,
    marks=is_of("glm4moelite"),
    text=Rewrite(
        architecture="deepseek2",
        defaults={
            "deepseek2.expert_group_count": 1,
            "deepseek2.expert_group_used_count": 1,
            "tokenizer.ggml.eot_token_id": _end(1),
            "tokenizer.ggml.eom_token_id": _end(2),
        },
        values={
            "deepseek2.attention.head_count_kv": 1,
            "deepseek2.attention.key_length": _kept("attention.kv_lora_rank", "rope.dimension_count"),
            "deepseek2.attention.value_length": _kept("attention.kv_lora_rank"),
            "deepseek2.attention.key_length_mla": _kept("attention.key_length"),
            "deepseek2.attention.value_length_mla": _kept("attention.key_length"),
            "tokenizer.ggml.pre": "glm4",
        },
    ),
)
