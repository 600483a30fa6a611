"""Tokenizers: what a GGUF says about them, and what llama.cpp makes of a text then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelfile.convert import ConvertError, convert
from modelfile.convert.config import Config
from modelfile.convert.files import Files
from modelfile.convert.sentencepiece import sentencepiece_vocabulary
from modelfile.convert.tokenizer import tokenizer_metadata
from modelfile.convert.vocabulary import TokenType
from tests.modelfile.convert.checkpoints import (
    DATA,
    byte_alphabet,
    files_in,
    random_weights,
    write_byte_tokenizer,
    write_json,
    write_safetensors,
)
from tests.modelfile.convert.llamacpp import tokenize
from tests.modelfile.convert.shapes import decoder_shapes
from tests.modelfile.convert.test_families import SIZES
from tests.modelfile.convert.test_golden import quiet

TEXTS = ["hello world", "Why is the sky blue?", "  two  spaces", "été 你好 👩‍👩‍👧", "line\nbreak\ttab", "a1b22c333"]


def write_model(folder: Path, **settings: Any) -> Path:
    """A Llama around the tokenizer in a folder; the converted file."""
    config = SIZES | {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, **settings}
    write_json(folder / "config.json", config)
    write_safetensors(folder / "model.safetensors", random_weights(decoder_shapes(config)))
    convert(files_in(folder), folder / "out.gguf", quiet)
    return folder / "out.gguf"


def read(folder: Path, **settings: Any) -> dict[str, Any]:
    """The metadata of the tokenizer in a folder, keys without their beginning."""
    found = tokenizer_metadata(Files(files_in(folder)), Config(settings))
    return {key.removeprefix("tokenizer.").removeprefix("ggml."): value for key, value in found.items()}


def write_json_form(folder: Path, **settings: Any) -> None:
    """The tokenizer.json that Hugging Face makes of tokenizer.model: merges from pieces, the best first."""
    files = Files({"tokenizer.model": DATA / "gemma/ckpt/tokenizer.model"})
    pieces = sentencepiece_vocabulary(files, Config({}), None).tokens
    scores = {piece.text: piece.score for piece in pieces if piece.type is TokenType.NORMAL}
    merges = [
        (-score, [text[:cut], text[cut:]])
        for text, score in scores.items()
        for cut in range(1, len(text))
        if text[:cut] in scores and text[cut:] in scores
    ]
    merges.sort(key=lambda merge: merge[0])
    special = [{"id": id, "content": pieces[id].text, "special": True} for id in range(3)]
    tokenizer = {
        "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}]},
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {piece.text: id for id, piece in enumerate(pieces)},
            "merges": [pair for _, pair in merges],
        },
    }
    write_json(folder / "tokenizer.json", tokenizer | settings)


def test_byte_level_bpe_gives_the_ids_of_its_merges(tmp_path: Path) -> None:
    size = write_byte_tokenizer(tmp_path)
    model = write_model(tmp_path, vocab_size=size)
    alphabet = byte_alphabet()
    letters = {letter: alphabet.index(letter) for letter in "worldHi!"}
    hello, blank_w = 256 + 3, 256 + 4
    assert tokenize(model, "hello world") == [hello, blank_w, *(letters[letter] for letter in "orld")]
    assert tokenize(model, "Hi!<|end|>") == [letters["H"], letters["i"], letters["!"], size - 1]
    assert len(tokenize(model, "é")) == 2


def test_a_bpe_vocabulary(tmp_path: Path) -> None:
    size = write_byte_tokenizer(tmp_path)
    found = read(tmp_path, vocab_size=size + 2)
    assert (found["model"], found["pre"], found["eos_token_id"]) == ("gpt2", "qwen2", size - 1)
    assert found["tokens"][-3:] == ["<|end|>", f"[PAD{size}]", f"[PAD{size + 1}]"]
    assert found["token_type"][-3:] == [3, 5, 5]
    assert found["merges"] == ["h e", "l l", "he ll", "hell o", "\u0120 w"]
    assert "scores" not in found


def test_blanks_in_merges_and_merges_as_texts(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    for merges, wanted in ((["a b"], ["a b"]), ([["a", " b"]], ["a \u0120b"])):
        tokenizer["model"]["merges"] = merges
        write_json(tmp_path / "tokenizer.json", tokenizer)
        assert read(tmp_path)["merges"] == wanted
    for merges in ("a b", [["a"]], [["a", 1]], ["a b c"]):
        tokenizer["model"]["merges"] = merges
        write_json(tmp_path / "tokenizer.json", tokenizer)
        with pytest.raises(ConvertError, match=r"parse tokenizer\.json: "):
            read(tmp_path)


def test_both_forms_of_sentencepiece_give_the_same_tokens(tmp_path: Path) -> None:
    binary, text = tmp_path / "binary", tmp_path / "text"
    binary.mkdir()
    text.mkdir()
    shutil.copy(DATA / "gemma/ckpt/tokenizer.model", binary)
    write_json_form(text)
    models = [write_model(folder, vocab_size=600) for folder in (binary, text)]
    for sample in TEXTS:
        assert tokenize(models[0], sample, special=False) == tokenize(models[1], sample, special=False)
    assert len(tokenize(models[0], "the sky is blue", special=False)) < 12


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ({}, True),
        ({"normalizer": {"type": "Replace"}}, False),
        ({"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"}}, True),
        ({"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "never"}}, False),
    ],
)
def test_whether_a_blank_comes_first(settings: dict[str, Any], prefix: bool, tmp_path: Path) -> None:
    write_json_form(tmp_path, **settings)
    assert read(tmp_path).get("add_space_prefix", True) is prefix


def test_tokens_added_to_sentencepiece(tmp_path: Path) -> None:
    shutil.copy(DATA / "gemma/ckpt/tokenizer.model", tmp_path)
    write_json(tmp_path / "added_tokens.json", {"<extra>": 600, "<far>": 9000})
    decoder = {"601": {"content": "<|turn|>", "special": False}, "602": {"content": "▁▁", "special": False}}
    write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": decoder})
    found = read(tmp_path, vocab_size=604)
    assert found["tokens"][599:] == ["~", "<extra>", "<|turn|>", "  ", "[PAD603]"]
    assert found["token_type"][599:] == [1, 4, 3, 4, 5]
    assert found["scores"][600:] == [-1000.0, -1000.0, -1000.0, -10000.0]


@pytest.mark.parametrize("added", [{"<extra>": "600"}, {"<extra>": None}, {"<extra>": -1}])
def test_added_tokens_without_an_id(added: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(DATA / "gemma/ckpt/tokenizer.model", tmp_path)
    write_json(tmp_path / "added_tokens.json", added)
    with pytest.raises(ConvertError):
        read(tmp_path, vocab_size=604)


def test_trained_special_pieces_keep_their_types(tmp_path: Path) -> None:
    shutil.copy(DATA / "gemma/ckpt/tokenizer.model", tmp_path)
    write_json_form(tmp_path)
    assert read(tmp_path, vocab_size=600)["token_type"][:4] == [2, 3, 3, 6]


@pytest.mark.parametrize(
    "data", [b"", b"\x0a\x02\x0a\x00x", b"\x0a\x00", b"\x0a\x03\x0a\x01\xff", b"\x08\x01", b"<html>"]
)
def test_no_sentencepiece(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ConvertError, match=r"tokenizer\.model is no SentencePiece model"):
        read(tmp_path)


def test_a_token_that_is_there_twice(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 270, "content": "<|end|>", "special": True})
    write_json(tmp_path / "tokenizer.json", tokenizer)
    with pytest.raises(ConvertError, match=r"the vocabulary has the token '<\|end\|>' twice"):
        read(tmp_path)


def test_other_tokenizers(tmp_path: Path) -> None:
    write_json(tmp_path / "tokenizer.json", {"model": {"type": "Unigram", "vocab": [["a", 0.0]]}})
    with pytest.raises(ConvertError, match="a tokenizer of the type Unigram is not supported"):
        read(tmp_path)


def added_to(folder: Path, **settings: Any) -> dict[str, Any]:
    """Special tokens of a byte-level BPE with more in its files."""
    write_byte_tokenizer(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] += [
        {"id": 262 + n, "content": text, "special": True} for n, text in enumerate(["<s>", "</s>"])
    ]
    write_json(folder / "tokenizer.json", tokenizer | {"post_processor": settings.pop("post_processor", None)})
    write_json(folder / "tokenizer_config.json", settings.pop("tokenizer_config", {}))
    keys = ("bos_token_id", "eos_token_id", "eot_token_id", "add_bos_token", "add_eos_token", "chat_template")
    return {key: value for key, value in read(folder, **settings).items() if key in keys}


def template(*parts: str) -> dict[str, Any]:
    """What a tokenizer puts around a text, A."""
    pieces = [{"Sequence": {"id": part}} if part == "A" else {"SpecialToken": {"id": part}} for part in parts]
    return {"type": "TemplateProcessing", "single": pieces}


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"eos_token_id": 5, "bos_token_id": 4}, {"eos_token_id": 5, "bos_token_id": 4}),
        ({"eos_token_id": [5, 6]}, {}),
        ({"eos_token_id": 5, "tokenizer_config": {"eos_token": {"content": "<|end|>"}}}, {"eos_token_id": 261}),
        ({"eos_token_id": 99999}, {}),
        ({"tokenizer_config": {"add_bos_token": True, "add_eos_token": None}}, {"add_bos_token": True}),
        ({"post_processor": {"type": "ByteLevel"}}, {"add_bos_token": False, "add_eos_token": False}),
        ({"post_processor": template("<s>", "A")}, {"bos_token_id": 262, "add_bos_token": True}),
        (
            {
                "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template("<s>", "A")]},
                "tokenizer_config": {"bos_token": "<s>", "add_bos_token": False},
            },
            {"bos_token_id": 262, "add_bos_token": True, "add_eos_token": False},
        ),
        (
            {"post_processor": template("A", "</s>"), "tokenizer_config": {"eos_token": "<|end|>"}},
            {"eos_token_id": 263, "eot_token_id": 261, "add_eos_token": True},
        ),
    ],
)
def test_special_tokens(settings: dict[str, Any], found: dict[str, Any], tmp_path: Path) -> None:
    assert added_to(tmp_path, **settings) == found


def test_chat_templates(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert added_to(tmp_path, tokenizer_config={"chat_template": "C"}) == {"chat_template": "C"}
    assert added_to(tmp_path, tokenizer_config={"chat_template": named}) == {"chat_template": "D"}
    (tmp_path / "chat_template.jinja").write_text("{{ é }}", encoding="utf-8")
    assert added_to(tmp_path, tokenizer_config={"chat_template": "C"}) == {"chat_template": "{{ é }}"}


def test_the_score_of_a_token_is_that_of_its_first_merge(tmp_path: Path) -> None:
    merges = [["a", "b"], ["ab", "c"], ["a", "bc"]]
    model = {"type": "BPE", "byte_fallback": True, "unk_token": "<u>", "merges": merges}
    texts = ["<u>", "<0x0A>", "a", "b", "c", "ab", "abc", "bc"]
    write_json_form(tmp_path, model=model | {"vocab": {text: id for id, text in enumerate(texts)}}, added_tokens=[])
    found = read(tmp_path)
    assert found["scores"] == [-3.0, -3.0, -3.0, -3.0, -3.0, 0.0, -1.0, -3.0]
    assert found["token_type"] == [2, 6, 1, 1, 1, 1, 1, 1]
