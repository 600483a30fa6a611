"""Qwen3-Next and Qwen3.5, whose layers remember in a state: names of its tensors, and further models in the same file.

The vision model and the one that guesses ahead are left out so far.
"""

from __future__ import annotations

import re
from typing import Final

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import has_key, has_tensor, numbers
from registry.gguf import GGUFHeader

_FURTHER: Final = r"(v|mm|mtp)\."
_GUESSING: Final = r"mtp\."
_STEP: Final = r"blk\.\d+\.ssm_dt$"
_BLOCK: Final = re.compile(r"blk\.(\d+)\.")


def _blocks(header: GGUFHeader) -> int | None:
    """How many layers there are without those that guess ahead; None if none do."""
    found = [int(match[1]) for tensor in header.tensors if (match := _BLOCK.match(tensor.name))]
    return max(found) + 1 if found and has_tensor(header, _GUESSING) else None


def _layout(name: str, *, sections: bool) -> Layout:
    """The layout of the architecture of this name; `sections` says whether positions have several dimensions."""
    places, heads, ahead = (
        f"{name}.{key}" for key in ("rope.dimension_sections", "attention.head_count_kv", "nextn_predict_layers")
    )

    def marks(header: GGUFHeader) -> bool:
        if header.architecture != name:
            return False
        is_short = sections and len(numbers(header, places)) == len("thw")
        return is_short or 0 in numbers(header, heads) or has_tensor(header, rf"{_FURTHER}|{_STEP}")

    def four_sections(header: GGUFHeader) -> list[int] | None:
        found = numbers(header, places)
        return [*found, 0] if len(found) == len("thw") else None

    return Layout(
        name=name,
        version=1,
        marks=marks,
        text=Rewrite(
            architecture=name,
            without_tensors=_FURTHER,
            renamed={r"\.ssm_dt$": ".ssm_dt.bias"},
            values={
                f"{name}.block_count": _blocks,
                ahead: lambda header: 0 if _blocks(header) and has_key(header, ahead) else None,
                heads: lambda header: max(numbers(header, heads), default=0) or None,
                places: four_sections,
            },
        ),
    )


NEXT = _layout("qwen3next", sections=False)
DENSE = _layout("qwen35", sections=True)
WITH_EXPERTS = _layout("qwen35moe", sections=True)
