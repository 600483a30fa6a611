"""The tokenizer metadata of a model: vocabulary (SentencePiece, BPE), special tokens, chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.pretokenizer import recognise
from modelfile.convert.sentencepiece import NO_PREFIX, TOKENIZER_MODEL, sentencepiece_vocabulary
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, TokenizerJson, read_tokenizer_json, steps, token_text
from modelfile.convert.vocabulary import Token, TokenizerVocabulary, TokenType, added_token, placed, vocabulary_size
from modelfile.convert.writer import Metadata


def tokenizer_metadata(files: Files, config: Config) -> Metadata:
    """Vocabulary, special tokens and chat template. Raises ConvertError."""
    tokenizer = read_tokenizer_json(files)
    vocabulary = _vocabulary(files, config, tokenizer)
    ids = {} if tokenizer is None else {added.text: added.id for added in reversed(tokenizer.added)}
    settings = files.object_if_there(TOKENIZER_CONFIG)
    special = special_tokens(settings, tokenizer, config, ids, len(vocabulary.tokens))
    return vocabulary.metadata() | special | chat_template(files)


def _vocabulary(files: Files, config: Config, tokenizer: TokenizerJson | None) -> TokenizerVocabulary:
    if TOKENIZER_MODEL in files:
        return sentencepiece_vocabulary(files, config, tokenizer)
    if tokenizer is None:
        raise ConvertError("unknown tokenizer format")
    if tokenizer.kind != "BPE":
        raise ConvertError(f"a tokenizer of the type {tokenizer.kind} is not supported")
    if tokenizer.model.get("byte_fallback"):
        return byte_fallback_vocabulary(tokenizer, config)
    return bpe_vocabulary(tokenizer, config)


_BPE_BLANK = "\u0120"  # a blank in a byte-level vocabulary; a literal blank separates the halves of a merge


def bpe_vocabulary(tokenizer: TokenizerJson, config: Config) -> TokenizerVocabulary:
    """Byte-level BPE from tokenizer.json (llama.cpp's `gpt2`). Raises ConvertError."""
    tokens = {token_id: Token(text) for text, token_id in tokenizer.vocabulary.items()}
    tokens |= {added.id: added_token(added.text, special=added.special) for added in tokenizer.added}
    size = vocabulary_size(config, max(tokens, default=0) + 1)
    merges = [" ".join(half.replace(" ", _BPE_BLANK) for half in merge) for merge in tokenizer.merges]
    return TokenizerVocabulary(
        model="gpt2",
        pre=recognise(tokenizer),
        tokens=placed(size, tokens),
        extra={"tokenizer.ggml.merges": merges},
    )


_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def byte_fallback_vocabulary(tokenizer: TokenizerJson, config: Config) -> TokenizerVocabulary:
    """A SentencePiece vocabulary in tokenizer.json's form: BPE over characters with byte fallback.

    That form has merges instead of scores: the negated rank of the merge that makes a token is an equivalent score.
    Raises ConvertError.
    """
    merges = tokenizer.merges
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(merges):
        scores.setdefault(left + right, float(-rank))
    unknown = tokenizer.model.get("unk_token")
    tokens = {
        token_id: Token(text, _token_type(text, unknown), scores.get(text, float(-len(merges))))
        for text, token_id in tokenizer.vocabulary.items()
    }
    tokens |= {added.id: added_token(added.text, special=added.special) for added in tokenizer.added}
    size = vocabulary_size(config, max(tokens, default=0) + 1)
    extra = {} if _prefixes(tokenizer) else NO_PREFIX
    return TokenizerVocabulary("llama", "default", placed(size, tokens), scored=True, extra=extra)


def _token_type(text: str, unknown: Any) -> TokenType:
    if text == unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if _BYTE.fullmatch(text) else TokenType.NORMAL


def _prefixes(tokenizer: TokenizerJson) -> bool:
    """Whether text gets a leading blank: from the normalizer in older files, the pre-tokenizer in newer ones."""
    return any(step.get("type") == "Prepend" for step in steps(tokenizer.normalizer)) or any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never"
        for step in steps(tokenizer.pre_tokenizer)
    )


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
    special = _read_special(settings, tokenizer)
    metadata: Metadata = {}
    for kind, key in _KEYS.items():
        named = ids.get(special.texts.get(kind, ""))
        token_id = config.get(f"{kind}_token_id") if named is None else named
        if isinstance(token_id, int) and 0 <= token_id < size:
            metadata[key] = token_id
    return metadata | {f"tokenizer.ggml.add_{kind}_token": added for kind, added in special.added.items()}


def _read_special(settings: Mapping[str, Any], tokenizer: TokenizerJson | None) -> _Special:
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
