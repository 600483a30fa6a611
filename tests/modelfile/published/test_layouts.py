"""Each published layout becomes what llama.cpp wants, to the last byte, and llama.cpp computes the same with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from modelfile.published import OllamaLayout, layout_of, plan
from modelfile.published.layouts import LAYOUTS
from modelfile.published.writing import contents
from registry.gguf import GGUFArray, read_header
from tests.modelfile.convert.llamacpp import cosine, embedding, last_logits
from tests.modelfile.published.models import Model
from tests.modelfile.published.pairs import PAIRS, VISION
from tests.modelfile.published.vision import sees

IDS = [5, 70, 12, 200, 33, 99, 101, 7, 140, 18, 61, 250]
ELSEWHERE = {"bert", "llama3"}
"""Layouts that have their own tests."""


def derive(source: Path) -> dict[str, Path]:
    """The files that are made of a published one, by what they are."""
    header = read_header(source)
    layout = layout_of(header)
    assert isinstance(layout, OllamaLayout)
    made = {}
    for form, rewrite in layout.forms(header).items():
        planned = plan(rewrite, source, header)
        assert planned.overrides() is None
        path = source.with_name(f"{form}.gguf")
        path.write_bytes(b"".join(contents(planned)))
        assert path.stat().st_size == planned.size
        made[form.rpartition("-")[2]] = path
    return made


def metadata(path: Path) -> dict[str, Any]:
    found = read_header(path).metadata
    return {key: value.values() if isinstance(value, GGUFArray) else value for key, value in found.items()}


def check_same(made: Path, expected: Path) -> None:
    """The same metadata of the same types, and the same tensors."""
    assert metadata(made) == metadata(expected)
    mine, theirs = ({tensor.name: tensor for tensor in GGUFReader(path).tensors} for path in (made, expected))
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert mine[name].tensor_type == tensor.tensor_type, name
        assert np.array_equal(mine[name].data, tensor.data), name


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_made(name: str, tmp_path: Path) -> None:
    pair = PAIRS[name]()
    made = derive(pair.published.write(tmp_path / "published.gguf"))
    check_same(made["text"], pair.expected.write(tmp_path / "expected.gguf"))
    assert ("projector" in made) == (pair.projector is not None)
    if pair.projector is not None:
        check_same(made["projector"], pair.projector.write(tmp_path / "projector.gguf"))


@pytest.mark.parametrize("name", PAIRS)
def test_llama_cpp_computes_the_same(name: str, tmp_path: Path) -> None:
    pair = PAIRS[name]()
    source = pair.published.write(tmp_path / "published.gguf")
    made, expected = derive(source)["text"], pair.expected.write(tmp_path / "expected.gguf")
    compute = embedding if name == "embeddinggemma" else last_logits
    assert cosine(compute(made, IDS), compute(expected, IDS)) > 0.9999
    with pytest.raises(AssertionError):
        compute(source, IDS)


@pytest.mark.parametrize("name", VISION)
def test_llama_cpp_could_see(name: str, tmp_path: Path) -> None:
    made = derive(VISION[name]().published.write(tmp_path / "published.gguf"))
    assert sees(made["text"], made["projector"])


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_made_needs_no_more(name: str, tmp_path: Path) -> None:
    pair = PAIRS[name]()
    for made in derive(pair.published.write(tmp_path / "published.gguf")).values():
        header = read_header(made)
        match layout_of(header):
            case OllamaLayout(text=text):
                assert plan(text, made, header).overrides() == {}
            case layout:
                assert layout is None


def test_there_is_a_pair_for_each_layout() -> None:
    assert {layout.name for layout in LAYOUTS} - ELSEWHERE == set(PAIRS)


def test_a_layout_that_differs_in_what_it_says_only(tmp_path: Path) -> None:
    pair = PAIRS["mistral3"]()
    weights = pair.expected.weights
    source = Model("mistral3", pair.published.metadata, weights).write(tmp_path / "published.gguf")
    header = read_header(source)
    layout = layout_of(header)
    assert isinstance(layout, OllamaLayout)
    assert plan(layout.text, source, header).overrides() == {
        "mistral3.rope.scaling.yarn_beta_fast": 32.0,
        "mistral3.rope.scaling.yarn_beta_slow": 2.0,
        "mistral3.rope.scaling.yarn_log_multiplier": 0.5,
        "mistral3.attention.temperature_scale": pytest.approx(0.1),
        "tokenizer.ggml.pre": "tekken",
    }
