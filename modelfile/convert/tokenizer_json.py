"""Reads tokenizer.json and tokenizer_config.json of Hugging Face tokenizers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files

TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
_SEQUENCES = ("normalizers", "pretokenizers", "processors")
_ID = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Added:
    """A token added to the trained ones."""

    id: int
    text: str
    special: bool


@dataclass(frozen=True, slots=True)
class TokenizerJson:
    """A parsed tokenizer.json: model, added tokens, and processing steps."""

    model: Mapping[str, Any]
    added: list[Added]
    normalizer: Mapping[str, Any]
    pre_tokenizer: Mapping[str, Any]
    post_processor: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """`BPE`, `WordPiece`, `Unigram` …"""
        return str(self.model.get("type"))

    @property
    def vocabulary(self) -> dict[str, int]:
        """Trained tokens with their ids. Raises ConvertError for another form."""
        vocab = self.model.get("vocab")
        if not isinstance(vocab, dict) or not all(isinstance(token_id, int) for token_id in vocab.values()):
            raise ConvertError(f"parse {TOKENIZER_JSON}: no vocabulary")
        return vocab

    @property
    def merges(self) -> list[tuple[str, str]]:
        """Merges as pairs, in order of rank. Raises ConvertError for an unknown form."""
        merges = self.model.get("merges")
        if not isinstance(merges, list):
            raise ConvertError(f"parse {TOKENIZER_JSON}: no merges")
        return [_pair(merge) for merge in merges]


def read_tokenizer_json(files: Files) -> TokenizerJson | None:
    """Parse tokenizer.json; None without it. Raises ConvertError."""
    if TOKENIZER_JSON not in files:
        return None
    data = files.object(TOKENIZER_JSON)
    model = _object(data, "model")
    entries = data.get("added_tokens")
    added = [_added(entry) for entry in entries] if isinstance(entries, list) else []
    outside = [_object(data, key) for key in ("normalizer", "pre_tokenizer", "post_processor")]
    return TokenizerJson(model, added, *outside)


def added_in_config(settings: Mapping[str, Any]) -> list[Added]:
    """The added tokens in tokenizer_config.json. Raises ConvertError."""
    entries = _object(settings, "added_tokens_decoder")
    return [
        _added({**entry, "id": int(token_id)})
        for token_id, entry in entries.items()
        if _ID.fullmatch(token_id) and isinstance(entry, dict)
    ]


def added_by_text(ids: Mapping[str, Any]) -> list[Added]:
    """The added tokens in added_tokens.json. Raises ConvertError."""
    return [_added({"content": text, "id": token_id}) for text, token_id in ids.items()]


def steps(setting: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or post-processor: a sequence's, or the one itself."""
    if not setting:
        return []
    if setting.get("type") != "Sequence":
        return [setting]
    inner = next((setting[key] for key in _SEQUENCES if key in setting), None)
    return [step for step in inner if isinstance(step, dict)] if isinstance(inner, list) else []


def token_text(settings: Mapping[str, Any], name: str) -> str | None:
    """The text of a token in tokenizer_config.json, such as `eos_token`, or None."""
    entry = settings.get(name)
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else None


def _object(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _added(entry: Any) -> Added:
    match entry:
        case {"content": str(text), "id": int(token_id)}:
            return Added(token_id, text, bool(entry.get("special")))
    raise ConvertError("an added token has no text or no id")


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ConvertError(f"parse {TOKENIZER_JSON}: a merge is no pair")
    return parts[0], parts[1]
