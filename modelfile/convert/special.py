"""Special tokens (BOS, EOS, padding …), whether they are added to a text, and the chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, TokenizerJson, steps, token_text
from modelfile.convert.writer import Metadata

_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "eot": "tokenizer.ggml.eot_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",  # sic
    "pad": "tokenizer.ggml.padding_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
}


@dataclass(slots=True)
class _Special:
    """Special tokens' texts by kind, and which kinds are added to a text."""

    texts: dict[str, str]
    added: dict[str, bool] = field(default_factory=dict)

    def frame(self, first: str | None, last: str | None) -> None:
        """Apply the post-processor's template: the tokens before and after the text."""
        if first is not None:
            beginning = self.texts.setdefault("bos", first)
            self.added["bos"] = first in (beginning, self.texts.get("cls"))
        if last is not None:
            end = self.texts.get("eos")
            if end is not None and end != last:
                self.texts["eot"] = end  # turns end with another token than texts
            self.texts["eos"] = last
            self.added["eos"] = True


def special_tokens(
    settings: Mapping[str, Any], tokenizer: TokenizerJson | None, config: Config, ids: Mapping[str, int], size: int
) -> Metadata:
    """The GGUF's special tokens. `ids` are added tokens by text, `size` is the vocabulary's.

    tokenizer_config.json (`settings`) and tokenizer.json win over config.json.
    """
    special = _read(settings, tokenizer)
    metadata: Metadata = {}
    for kind, key in _KEYS.items():
        named = ids.get(special.texts.get(kind, ""))
        token_id = config.get(f"{kind}_token_id") if named is None else named
        if isinstance(token_id, int) and 0 <= token_id < size:
            metadata[key] = token_id
    return metadata | {f"tokenizer.ggml.add_{kind}_token": added for kind, added in special.added.items()}


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
    """The chat template, from its own file or from tokenizer_config.json. Raises ConvertError."""
    if "chat_template.jinja" in files:
        return {"tokenizer.chat_template": files.text("chat_template.jinja")}
    template = files.object_if_there("chat_template.json").get("chat_template")
    template = template or files.object_if_there(TOKENIZER_CONFIG).get("chat_template")
    if isinstance(template, list):
        template = next((named.get("template") for named in template if _is_default(named)), None)
    if not template:
        return {}
    if not isinstance(template, str):
        raise ConvertError("the chat template is no text")
    return {"tokenizer.chat_template": template}


def _is_default(named: Any) -> bool:
    return isinstance(named, dict) and named.get("name") == "default"
