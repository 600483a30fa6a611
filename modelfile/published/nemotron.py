"""Nemotron 3, with older names around its experts, and with models that see, hear or guess ahead in the same file.

Only the language model is made of it so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from modelfile.published.layout import GGUFRewrite, OllamaLayout
from modelfile.published.reading import has_tensor, is_of, rows
from registry.gguf import GGUFHeader

_FURTHER: Final = r"(a|v|mm|mtp)\."
_NARROWING: Final = re.compile(r"blk\.\d+\.ffn_latent_in\.weight$")
_OMNI: Final = is_of("nemotron_h_omni")


def _width(header: GGUFHeader) -> int | None:
    """How many numbers the experts work on, where those are fewer than the layers have."""
    narrowing = next((tensor.name for tensor in header.tensors if _NARROWING.match(tensor.name)), "")
    return rows(narrowing)(header)


def _has_experts(header: GGUFHeader) -> bool:
    return any(header.field(key) for key in ("expert_count", "expert_used_count"))


def _is_old(header: GGUFHeader) -> bool:
    has_old = has_tensor(header, rf"{_FURTHER}|blk\.\d+\.ffn_latent_(in|out)\.")
    return header.architecture == "nemotron_h_moe" and has_old


def _layout(name: str, matches: Callable[[GGUFHeader], bool], architecture: str) -> OllamaLayout:
    return OllamaLayout(
        name=name,
        version=1,
        matches=matches,
        text=GGUFRewrite(
            architecture=architecture,
            without_tensors=_FURTHER,
            renamed={r"\.ffn_latent_in\.": ".ffn_latent_down.", r"\.ffn_latent_out\.": ".ffn_latent_up."},
            defaults={f"{architecture}.moe_latent_size": _width},
        ),
    )


WITH_EXPERTS = _layout("nemotron_h_moe", _is_old, "nemotron_h_moe")
OMNI_WITH_EXPERTS = _layout(
    "nemotron_h_omni_moe", lambda header: _OMNI(header) and _has_experts(header), "nemotron_h_moe"
)
OMNI = _layout("nemotron_h_omni", lambda header: _OMNI(header) and not _has_experts(header), "nemotron_h")
