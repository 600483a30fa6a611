"""Qwen3-VL, dense and with experts, with its vision model in the same file. Only the language model is made so far."""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import VISION, has_key, has_tensor, numbers
from registry.gguf import GGUFHeader

_SECTIONS = [24, 20, 20, 0]
"""How many pairs of a head's numbers turn with the time, the height and the width of an image's parts."""


def _layout(name: str) -> Layout:
    """The layout of the architecture of this name."""
    sections = f"{name}.rope.dimension_sections"

    def marks(header: GGUFHeader) -> bool:
        return header.architecture == name and (has_tensor(header, VISION) or not has_key(header, sections))

    def levels(header: GGUFHeader) -> int:
        """How many layers take something from the vision model."""
        return len(numbers(header, f"{name}.vision.deepstack_visual_indexes"))

    return Layout(
        name=name,
        version=1,
        marks=marks,
        text=Rewrite(
            architecture=name,
            without_tensors=VISION,
            defaults={sections: _SECTIONS, f"{name}.n_deepstack_layers": levels},
        ),
    )


DENSE, WITH_EXPERTS = _layout("qwen3vl"), _layout("qwen3vlmoe")
