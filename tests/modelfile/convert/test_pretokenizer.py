"""Pre-tokenizers by what they do."""

from typing import Any

import pytest

from modelfile.convert import ConvertError
from modelfile.convert.pretokenizer import recognise
from modelfile.convert.tokenizer_json import TokenizerJson
from tests.modelfile.convert.checkpoints import QWEN2_SPLIT

ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
UPPER_LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
WORDS = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(expression: str, **changes: Any) -> dict[str, Any]:
    """A step that splits by an expression."""
    step = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return step | changes


def named(*steps: dict[str, Any], **model: Any) -> str:
    """What a tokenizer with these steps is called."""
    return recognise(TokenizerJson(model, [], {}, {"type": "Sequence", "pretokenizers": list(steps)}, {}))


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([split(QWEN2_SPLIT), BYTES], "qwen2"),
        ([split(LLAMA3), BYTES], "llama-bpe"),
        ([split(LLAMA3, behavior="Removed", invert=True), BYTES], "llama-bpe"),
        ([split(f"{UPPER_LOWER}|{UPPER}|\\p{{N}}|{OTHERS}"), BYTES], "tekken"),
        ([split(f"{UPPER_LOWER}{ENDINGS}?|{UPPER}{ENDINGS}?|\\p{{N}}{{1,3}}|{OTHERS}"), BYTES], "gpt-4o"),
        (
            [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), DIGITS, BYTES],
            "deepseek-coder",
        ),
        ([WORDS], "gpt-2"),
        ([DIGITS, WORDS], "smollm"),
    ],
)
def test_known_ones(steps: list[dict[str, Any]], name: str) -> None:
    assert named(*steps, ignore_merges=True) == name


def test_the_same_splits_with_words_that_are_merged() -> None:
    assert named(split(LLAMA3), BYTES) == "dbrx"
    assert named(split(QWEN2_SPLIT), BYTES) == "qwen2"


def test_a_single_step_is_no_sequence() -> None:
    assert recognise(TokenizerJson({}, [], {}, WORDS, {})) == "gpt-2"


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([split(r"\w+"), BYTES], r"split \w+, bytes"),
        ([split(QWEN2_SPLIT)], f"split {QWEN2_SPLIT}"),
        ([split(QWEN2_SPLIT), WORDS], f"split {QWEN2_SPLIT}, words"),
        ([split("x", behavior="MergedWithNext"), BYTES], "'behavior': 'MergedWithNext'"),
        ([{"type": "Whitespace"}], "{'type': 'Whitespace'}"),
        ([{"type": "ByteLevel", "add_prefix_space": True}], "'add_prefix_space': True"),
        ([], "none"),
    ],
)
def test_unknown_ones_are_named(steps: list[dict[str, Any]], found: str) -> None:
    with pytest.raises(ConvertError) as error:
        named(*steps)
    assert str(error.value).startswith("unknown pre-tokenizer: ")
    assert found in str(error.value)
