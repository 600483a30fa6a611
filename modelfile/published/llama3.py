"""Llama 3, in files that do not say how texts are split or where a turn ends."""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import pre_unless_known
from registry.gguf import GGUFArray, GGUFHeader

_END_OF_TEXT, _START_OF_HEADER, _END_OF_TURN = 128001, 128006, 128009
_MARKS = {_START_OF_HEADER: "<|start_header_id|>", _END_OF_TURN: "<|eot_id|>"}
_pre = pre_unless_known("llama-bpe")


def _marks(header: GGUFHeader) -> bool:
    lacks_something = _pre(header) is not None or header.metadata.get("tokenizer.ggml.eos_token_id") == _END_OF_TEXT
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if header.architecture != "llama" or not lacks_something or not isinstance(tokens, GGUFArray):
        return False
    return tokens.texts_at(_MARKS) == _MARKS


def _end(header: GGUFHeader, key: str) -> int | None:
    """The end of a turn, where a file names the end of all text or nothing."""
    return _END_OF_TURN if header.metadata.get(key, _END_OF_TEXT) == _END_OF_TEXT else None


LAYOUT = Layout(
    name="llama3",
    version=1,
    marks=_marks,
    text=Rewrite(
        architecture="llama",
        values={
            "tokenizer.ggml.pre": _pre,
            "tokenizer.ggml.eos_token_id": lambda header: _end(header, "tokenizer.ggml.eos_token_id"),
            "tokenizer.ggml.eot_token_id": lambda header: _end(header, "tokenizer.ggml.eot_token_id"),
        },
    ),
)
