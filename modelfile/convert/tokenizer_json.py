"""tokenizer.json of Hugging Face's tokenizers, and tokenizer_config.json beside it, as far as conversion needs them."""

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
    """A token that was added to the trained ones."""

    id: int
    text: str
    special: bool


@dataclass(frozen=True, slots=True)
class TokenizerJson:
    """A parsed tokenizer.json: the model, what was added to it, and what stands before and after it."""

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
        """Trained tokens with their ids. Raises ConvertError if it has another form."""
        found = self.model.get("vocab")
        if not isinstance(found, dict) or not all(isinstance(id, int) for id in found.values()):
            raise ConvertError(f"parse {TOKENIZER_JSON}: no vocabulary")
        return found

    @property
    def merges(self) -> list[tuple[str, str]]:
        """Pairs in order of their rank, from either form. Raises ConvertError for a third."""
        found = self.model.get("merges")
        if not isinstance(found, list):
            raise ConvertError(f"parse {TOKENIZER_JSON}: no merges")
        return [_pair(merge) for merge in found]


def read_tokenizer_json(files: Files) -> TokenizerJson | None:
    """The file, checked in its outlines, None without it. Raises ConvertError."""
    if TOKENIZER_JSON not in files:
        return None
    found = files.object(TOKENIZER_JSON)
    model = _object(found, "model")
    entries = found.get("added_tokens")
    added = [_added(entry) for entry in entries] if isinstance(entries, list) else []
    outside = [_object(found, key) for key in ("normalizer", "pre_tokenizer", "post_processor")]
    return TokenizerJson(model, added, *outside)


def added_in_config(settings: Mapping[str, Any]) -> list[Added]:
    """The added tokens that a tokenizer_config.json lists. Raises ConvertError."""
    entries = _object(settings, "added_tokens_decoder")
    return [
        _added({**entry, "id": int(id)})
        for id, entry in entries.items()
        if _ID.fullmatch(id) and isinstance(entry, dict)
    ]


def added_by_text(found: Mapping[str, Any]) -> list[Added]:
    """The added tokens of an added_tokens.json. Raises ConvertError."""
    return [_added({"content": text, "id": id}) for text, id in found.items()]


def steps(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps of a normalizer, a pre-tokenizer or a post-processor, which is a sequence or one itself."""
    if not found:
        return []
    if found.get("type") != "Sequence":
        return [found]
    inner = next((found[key] for key in _SEQUENCES if key in found), None)
    return [step for step in inner if isinstance(step, dict)] if isinstance(inner, list) else []


def token_text(settings: Mapping[str, Any], name: str) -> str | None:
    """The text of a token that tokenizer_config.json names, such as `eos_token`; None if it does not."""
    entry = settings.get(name)
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else None


def _object(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def _added(entry: Any) -> Added:
    match entry:
        case {"content": str(text), "id": int(id)}:
            return Added(id, text, bool(entry.get("special")))
    raise ConvertError("an added token has no text or no id")


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ConvertError(f"parse {TOKENIZER_JSON}: a merge is no pair")
    return parts[0], parts[1]
