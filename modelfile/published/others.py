"""GLM-4.7-Flash, which llama.cpp knows as a DeepSeek 2: with what its attention keeps in place of keys and values."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

from modelfile.published.layout import GGUFRewrite, OllamaLayout
from modelfile.published.reading import has_key, has_tensor, is_of, numbers, rows, tensor, texts
from registry.gguf import GGUFError, GGUFHeader

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


GLM4_MOE_LITE = OllamaLayout(
    name="glm4moelite",
    version=1,
    matches=is_of("glm4moelite"),
    text=GGUFRewrite(
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


# gpt-oss without the hyphen.

GPT_OSS = OllamaLayout(
    name="gptoss",
    version=1,
    matches=is_of("gptoss"),
    text=GGUFRewrite(
        architecture="gpt-oss",
        renamed={
            r"\.attn_out\.": ".attn_output.",
            r"\.attn_sinks$": ".attn_sinks.weight",
            r"\.ffn_norm\.": ".post_attention_norm.",
        },
        defaults={
            "gpt-oss.expert_feed_forward_length": rows("blk.0.ffn_gate_exps.weight"),
            "gpt-oss.rope.scaling.type": "yarn",
        },
        values={"tokenizer.ggml.pre": "gpt-4o"},
    ),
)


# Laguna, with older names for the gate of its attention and for the positions in its window.

_MOVED = {
    "laguna.rope.dimension_count_swa": "laguna.rope.swa.dimension_count",
    "laguna.rope.freq_base_swa": "laguna.rope.swa.freq_base",
}


def _is_laguna(header: GGUFHeader) -> bool:
    is_old = has_tensor(header, r"blk\.\d+\.attn_g\.") or has_key(header, *_MOVED.values())
    return header.architecture == "laguna" and is_old


LAGUNA = OllamaLayout(
    name="laguna",
    version=1,
    matches=_is_laguna,
    text=GGUFRewrite(architecture="laguna", renamed={r"\.attn_g\.": ".attn_gate."}, moved=_MOVED),
)


# LFM2, whose last norm has the name that it has in other models.


def _is_lfm2(header: GGUFHeader) -> bool:
    is_lfm2 = header.architecture == "lfm2"
    return (
        is_lfm2
        and tensor(header, "token_embd_norm.weight") is None
        and tensor(header, "output_norm.weight") is not None
    )


LFM2 = OllamaLayout(
    name="lfm2",
    version=1,
    matches=_is_lfm2,
    text=GGUFRewrite(
        architecture="lfm2",
        renamed={r"^output_norm\.": "token_embd_norm."},
        values={
            "lfm2.feed_forward_length": rows("blk.0.ffn_gate.weight"),
            "tokenizer.ggml.pre": "lfm2",
        },
    ),
)


# OLMo 3, which llama.cpp knows as OLMo 2 with a window.

OLMO3 = OllamaLayout(name="olmo3", version=1, matches=is_of("olmo3"), text=GGUFRewrite(architecture="olmo2"))


# Snowflake Arctic Embed 2, a BERT with a tokenizer whose table for normalising is written as text.

_TABLE: Final = "tokenizer.ggml.precompiled_charsmap"


def _is_bert(header: GGUFHeader) -> bool:
    is_used = header.architecture == "bert" and header.metadata.get("tokenizer.ggml.model") == "t5"
    return is_used and bool(texts(header, _TABLE))


def _table(header: GGUFHeader) -> bytes:
    """The table's bytes, of which each text is a digit in base 64. Raises GGUFError if they are something else."""
    try:
        return base64.b64decode("".join(texts(header, _TABLE)), validate=True)
    except ValueError:
        raise GGUFError("the table by which texts are normalised is not in base 64") from None


BERT = OllamaLayout(
    name="bert",
    version=1,
    matches=_is_bert,
    text=GGUFRewrite(architecture="bert", values={_TABLE: _table}),
)
