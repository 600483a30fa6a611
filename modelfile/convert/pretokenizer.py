"""Finds llama.cpp's pre-tokenizer that splits text as tokenizer.json does: by exact match, never by a guess.

A wrong pre-tokenizer would not fail, only make answers slightly worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from modelfile.convert.errors import ConvertError
from modelfile.convert.tokenizer_json import TokenizerJson, steps

_BY_EXPRESSIONS = {
    "d98f9631be1e9607a9848c26c1f9eac1aa9fc21ac6ba82a2fc0741af9780a48f": "llama-bpe",
    "1ff7f41064896984db5d1bb6ff64fa4bc29007d08c1b439e505b7392777a319e": "qwen2",
    "00431aed57e696b747435f734d1e3b9b1bfd931a121fb5cac7129e97c181e9ba": "qwen35",
    "03df5c5863ad70781dcfdef491ead25140f895fe8010964be0daefe27be32b02": "deepseek-llm",
    "21cde974d587f0d54dc8d56b183cc1e6239600172035c68fbd6d4b9f8da0576e": "deepseek-coder",
    "b92c0824a58e1d8dc3221cf3e12c433c3a86f57e46d57229993489f0798e7702": "laguna",
    "1d64a9a8eaf9f1bd80331984d81fdd514e7feafe8df83a525dd31472f275699a": "tekken",
    "2d1b8dc11e89af71459b36004f698ab3693f59fd84f63e8ec2b49564ab857420": "gpt-4o",
}
"""By SHA-256 of the concatenated regular expressions of all splits."""

_BY_STEPS = {("words",): "gpt-2", ("digits", "words"): "smollm"}
_SURROUNDINGS = {("bytes",), ("digits", "bytes")}
"""Steps allowed beside the splits."""

_SAME_BUT_MERGED = {"llama-bpe": "dbrx"}
"""The same splits without `ignore_merges`."""


def recognise(tokenizer: TokenizerJson) -> str:
    """The name of llama.cpp's pre-tokenizer. Raises ConvertError with a description if there is none."""
    descriptions = [_describe(step) for step in steps(tokenizer.pre_tokenizer)]
    expressions = [text.removeprefix("split ") for text in descriptions if text.startswith("split ")]
    others = tuple(text for text in descriptions if not text.startswith("split "))
    name = None if expressions else _BY_STEPS.get(others)
    if expressions and others in _SURROUNDINGS:
        name = _BY_EXPRESSIONS.get(hashlib.sha256("".join(expressions).encode()).hexdigest())
    if name is None:
        raise ConvertError(f"unknown pre-tokenizer: {', '.join(descriptions) or 'none'}")
    return name if tokenizer.model.get("ignore_merges") else _SAME_BUT_MERGED.get(name, name)


def _describe(step: Mapping[str, Any]) -> str:
    """A short description of a step; an unknown step is shown verbatim."""
    match step:
        case {"type": "Split", "pattern": {"Regex": str(expression)}} if _keeps_matches(step):
            return f"split {expression}"
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "words" if step.get("use_regex", True) else "bytes"
        case {"type": "Digits"}:
            return "digits"
    return str(dict(step))


def _keeps_matches(step: Mapping[str, Any]) -> bool:
    """Whether matches become pieces: there are two ways to say so."""
    return (step.get("behavior"), step.get("invert", False)) in (("Isolated", False), ("Removed", True))
