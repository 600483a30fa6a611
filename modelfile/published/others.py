"""GLM-4.7-Flash, gpt-oss, Laguna, LFM2, OLMo 3, Snowflake Arctic Embed 2 and Nemotron 3."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final

from modelfile.published.layout import (
    GGUFRewrite,
    OllamaLayout,
    has_key,
    has_tensor,
    is_of,
    numbers,
    rows,
    tensor,
    texts,
)
from registry.gguf import GGUFError, GGUFHeader

# GLM-4.7-Flash: DeepSeek 2 in llama.cpp, with multi-head latent attention (MLA).

_ENDS = "tokenizer.ggml.eos_token_ids"


def _sum_of(*keys: str) -> Callable[[GGUFHeader], int | None]:
    """A function that returns the sum of these fields, None if one is missing."""

    def read(header: GGUFHeader) -> int | None:
        sizes = [header.field(key) for key in keys]
        return sum(sizes) if all(isinstance(size, int) for size in sizes) else None

    return read


def _end(place: int) -> Callable[[GGUFHeader], int | None]:
    """A function that reads one of the end-of-generation tokens."""
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
            "deepseek2.attention.key_length": _sum_of("attention.kv_lora_rank", "rope.dimension_count"),
            "deepseek2.attention.value_length": _sum_of("attention.kv_lora_rank"),
            "deepseek2.attention.key_length_mla": _sum_of("attention.key_length"),
            "deepseek2.attention.value_length_mla": _sum_of("attention.key_length"),
            "tokenizer.ggml.pre": "glm4",
        },
    ),
)


# gpt-oss: its architecture is named without the hyphen.

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


# Laguna: older names for the attention gate and the sliding window's RoPE settings.

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


# LFM2: its last norm has the name usual in other models.


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


# OLMo 3: OLMo 2 with a sliding window in llama.cpp.

OLMO3 = OllamaLayout(name="olmo3", version=1, matches=is_of("olmo3"), text=GGUFRewrite(architecture="olmo2"))


# Snowflake Arctic Embed 2: a BERT whose tokenizer has its normalization table in base64.

_TABLE: Final = "tokenizer.ggml.precompiled_charsmap"


def _is_bert(header: GGUFHeader) -> bool:
    is_used = header.architecture == "bert" and header.metadata.get("tokenizer.ggml.model") == "t5"
    return is_used and bool(texts(header, _TABLE))


def _table(header: GGUFHeader) -> bytes:
    """The precompiled charsmap, decoded: its strings are base64 digits, one each. Raises GGUFError for other texts."""
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


# Nemotron 3: older names around its experts; vision, audio and MTP models are in the same file.
# Only the language model is extracted.

_NEMOTRON_EXTRAS: Final = r"(a|v|mm|mtp)\."
_NARROWING: Final = re.compile(r"blk\.\d+\.ffn_latent_in\.weight$")
_is_omni: Final = is_of("nemotron_h_omni")


def _latent_width(header: GGUFHeader) -> int | None:
    """The experts' latent width, if it is narrower than the layers'."""
    narrowing = next((tensor.name for tensor in header.tensors if _NARROWING.match(tensor.name)), "")
    return rows(narrowing)(header)


def _has_experts(header: GGUFHeader) -> bool:
    return any(header.field(key) for key in ("expert_count", "expert_used_count"))


def _is_old_nemotron(header: GGUFHeader) -> bool:
    has_old = has_tensor(header, rf"{_NEMOTRON_EXTRAS}|blk\.\d+\.ffn_latent_(in|out)\.")
    return header.architecture == "nemotron_h_moe" and has_old


def _nemotron(name: str, matches: Callable[[GGUFHeader], bool], architecture: str) -> OllamaLayout:
    return OllamaLayout(
        name=name,
        version=1,
        matches=matches,
        text=GGUFRewrite(
            architecture=architecture,
            without_tensors=_NEMOTRON_EXTRAS,
            renamed={r"\.ffn_latent_in\.": ".ffn_latent_down.", r"\.ffn_latent_out\.": ".ffn_latent_up."},
            defaults={f"{architecture}.moe_latent_size": _latent_width},
        ),
    )


NEMOTRON_MOE = _nemotron("nemotron_h_moe", _is_old_nemotron, "nemotron_h_moe")
NEMOTRON_OMNI_MOE = _nemotron(
    "nemotron_h_omni_moe", lambda header: _is_omni(header) and _has_experts(header), "nemotron_h_moe"
)
NEMOTRON_OMNI = _nemotron("nemotron_h_omni", lambda header: _is_omni(header) and not _has_experts(header), "nemotron_h")
