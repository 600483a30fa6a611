"""Which tokens begin, end, pad … a text, whether they are added, and the chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.metadata import Metadata
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, TokenizerJson, steps, token_text

_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "eot": "tokenizer.ggml.eot_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",  # the key is spelt so
    "pad": "tokenizer.ggml.padding_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
}


@dataclass(slots=True)
class _Special:
    """Texts of special tokens by kind, and which kinds are added to a text."""

    texts: dict[str, str]
    added: dict[str, bool] = field(default_factory=dict)

    def frame(self, first: str | None, last: str | None) -> None:
        """Learn from the template of a text what stands before and after it."""
        if first is not None:
            beginning = self.texts.setdefault("bos", first)
            self.added["bos"] = first in (beginning, self.texts.get("cls"))
        if last is not None:
            end = self.texts.get("eos")
            if end is not None and end != last:
                self.texts["eot"] = end  # a chat's turns end with another token than a text
            self.texts["eos"] = last
            self.added["eos"] = True


def special_tokens(
    settings: Mapping[str, Any], tokenizer: TokenizerJson | None, config: Config, ids: Mapping[str, int], size: int
) -> Metadata:
    """The keys of a GGUF for a vocabulary of `size` tokens, in which `ids` finds the added ones by their texts.

    What tokenizer_config.json, which is `settings`, and tokenizer.json say comes before what config.json says.
    """
    special = _read(settings, tokenizer)
    found: Metadata = {}
    for kind, key in _KEYS.items():
        named = ids.get(special.texts.get(kind, ""))
        id = config.get(f"{kind}_token_id") if named is None else named
        if isinstance(id, int) and 0 <= id < size:
            found[key] = id
    return found | {f"tokenizer.ggml.add_{kind}_token": added for kind, added in special.added.items()}


def _read(settings: Mapping[str, Any], tokenizer: TokenizerJson | None) -> _Special:
    named = {kind: token_text(settings, f"{kind}_token") for kind in (*_KEYS, "cls")}
    texts = {kind: text for kind, text in named.items() if text is not None}
    for kind, stand_in in (("bos", "cls"), ("eos", "sep")):
        if stand_in in texts:
            texts.setdefault(kind, texts[stand_in])
    special = _Special(texts)
    if tokenizer is not None:
        _post_process(special, tokenizer.post_processor)
    for kind in ("bos", "eos"):
        if isinstance(added := settings.get(f"add_{kind}_token"), bool):
            special.added.setdefault(kind, added)
    return special


def _post_process(special: _Special, processor: Mapping[str, Any]) -> None:
    for step in steps(processor):
        match step:
            case {"type": "ByteLevel"}:
                special.added = {"bos": False, "eos": False} | special.added
            case {"type": "TemplateProcessing", "single": [first, _, *_] as parts}:
                special.frame(_special_id(first), _special_id(parts[-1]))


def _special_id(part: Any) -> str | None:
    match part:
        case {"SpecialToken": {"id": str(text)}}:
            return text
    return None


def chat_template(files: Files) -> Metadata:
    """The chat template: a file of its own comes before the tokenizer's settings. Raises ConvertError."""
    if "chat_template.jinja" in files:
        return {"tokenizer.chat_template": files.text("chat_template.jinja")}
    found = files.object_if_there("chat_template.json").get("chat_template")
    found = found or files.object_if_there(TOKENIZER_CONFIG).get("chat_template")
    if isinstance(found, list):
        found = next((named.get("template") for named in found if _is_default(named)), None)
    if not found:
        return {}
    if not isinstance(found, str):
        raise ConvertError("the chat template is no text")
    return {"tokenizer.chat_template": found}


def _is_default(named: Any) -> bool:
    return isinstance(named, dict) and named.get("name") == "default"
