"""Names of renderers."""

from __future__ import annotations

import pytest

from engine.chat.renderers import NAMES, renderer, resolved
from engine.errors import InvalidRequest


def test_all_names() -> None:
    assert len(NAMES) == 26
    assert renderer("gemma4").bos == "<bos>"


@pytest.mark.parametrize(("name", "shown"), [("x", '"x"'), ("", '""'), ("Qwen3.5", '"Qwen3.5"'), ('a"\n', r'"a\"\n"')])
def test_unknown_name(name: str, shown: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        renderer(name)
    assert str(caught.value) == f"unknown renderer {shown}"


@pytest.mark.parametrize(
    ("model", "model_type", "size"),
    [
        ("gemma4:latest", "", "small"),
        ("gemma4:E4B-it", "25.2B", "small"),
        ("gemma4:26b-a4b", "4.3B", "large"),
        ("mine", "4.3B", "small"),
        ("mine", "12B", "large"),
        ("mine", "11999.9M", "small"),
        ("mine", "12000M", "large"),
        ("mine", "huge", "small"),
        ("mine", "12", "small"),
    ],
)
def test_gemma4_by_name_and_size(model: str, model_type: str, size: str) -> None:
    assert resolved("gemma4", model, model_type) == f"gemma4-{size}"


def test_other_names_mean_themselves() -> None:
    assert resolved("gemma4-small", "gemma4:31b", "31B") == "gemma4-small"
