"""What a file says it can do."""

from __future__ import annotations

from typing import Any

import pytest

from engine.capabilities import ENCODERS, TemplateTraits, all_capabilities
from registry.gguf import GGUFHeader
from registry.manifest import ModelConfig


def capabilities(architecture: str, **metadata: Any) -> frozenset[str]:
    """Of a file with nothing but these values, the architecture's own without its name."""
    own = {f"{architecture}.{key}": value for key, value in metadata.items()}
    header = GGUFHeader(3, {"general.architecture": architecture, **own}, (), 0)
    return all_capabilities(ModelConfig(), header, (), TemplateTraits())


@pytest.mark.parametrize("pooling", [None, 0, 1, 4])
@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_an_encoder_embeds_whether_or_not_it_says_how(architecture: str, pooling: int | None) -> None:
    assert capabilities(architecture, **({} if pooling is None else {"pooling_type": pooling})) == {"embedding"}


@pytest.mark.parametrize(("pooling", "capability"), [({}, "completion"), ({"pooling_type": 3}, "embedding")])
def test_any_other_model_writes_unless_it_says_how_it_pools(pooling: dict[str, int], capability: str) -> None:
    assert capabilities("qwen3", **pooling) == {capability}
