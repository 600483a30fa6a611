"""What a file says it can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.capabilities import ENCODERS, TemplateTraits, all_capabilities
from registry.gguf import GGUFArray, GGUFHeader
from registry.gguf.header import TensorInfo
from registry.gguf.types import STRING
from registry.manifest import ModelConfig


def capabilities(architecture: str, *tensors: str, **metadata: Any) -> frozenset[str]:
    """Of a file with nothing but these values and tensors, the architecture's own without its name."""
    own = {f"{architecture}.{key}": value for key, value in metadata.items()}
    named = tuple(TensorInfo(name, "F32", (1,), 0, 4) for name in tensors)
    header = GGUFHeader(3, {"general.architecture": architecture, **own}, named, 0)
    return all_capabilities(ModelConfig(), header, (), TemplateTraits())


@pytest.mark.parametrize("pooling", [None, 0, 1, 4])
@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_an_encoder_embeds_whether_or_not_it_says_how(architecture: str, pooling: int | None) -> None:
    assert capabilities(architecture, **({} if pooling is None else {"pooling_type": pooling})) == {"embedding"}


@pytest.mark.parametrize(("pooling", "capability"), [({}, "completion"), ({"pooling_type": 3}, "embedding")])
def test_any_other_model_writes_unless_it_says_how_it_pools(pooling: dict[str, int], capability: str) -> None:
    assert capabilities("qwen3", **pooling) == {capability}


def labels(count: int) -> GGUFArray:
    return GGUFArray(Path(), STRING, count, 0, 0)


@pytest.mark.parametrize(
    ("architecture", "tensors", "metadata", "ranks"),
    [
        ("bert", ["cls.weight", "cls.output.weight"], {"pooling_type": 4}, True),
        ("bert", ["cls.output.weight"], {}, True),
        ("bert", ["cls.output.weight"], {"classifier.output_labels": labels(1)}, True),
        ("bert", ["cls.output.weight"], {"classifier.output_labels": labels(2)}, False),
        ("bert", ["cls.output.weight"], {"classifier.output_labels": labels(2), "pooling_type": 4}, True),
        ("bert", ["cls.output.weight"], {"pooling_type": 1}, False),
        ("bert", ["token_embd.weight"], {"pooling_type": 4}, False),
        ("jina-bert-v2", ["cls.weight"], {"pooling_type": 0}, True),
        ("qwen3", ["cls.output.weight"], {"pooling_type": 4}, True),
        ("qwen3", ["cls.output.weight"], {}, False),
        ("qwen3", [], {"pooling_type": 4}, False),
    ],
)
def test_a_model_with_a_classifier_ranks(
    architecture: str, tensors: list[str], metadata: dict[str, Any], ranks: bool
) -> None:
    assert ("rerank" in capabilities(architecture, *tensors, **metadata)) is ranks
