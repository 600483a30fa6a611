"""WordPiece from both files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelfile.convert import ConvertError, convert
from modelfile.convert.config import Config
from modelfile.convert.family import normalization, pooling
from modelfile.convert.files import Files
from modelfile.convert.tokenizer_json import read_tokenizer_json
from modelfile.convert.vocabulary import TokenizerVocabulary
from modelfile.convert.wordpiece import wordpiece_vocabulary
from tests.modelfile.convert.checkpoints import DATA, files_in, write_json
from tests.modelfile.convert.llamacpp import tokenize
from tests.modelfile.convert.test_golden import metadata, quiet

BERT = DATA / "bert/ckpt"


def copied(folder: Path, *, without: str) -> Path:
    """The recorded checkpoint less one file."""
    return Path(shutil.copytree(BERT, folder / "model", ignore=lambda _folder, names: {without} & set(names)))


def vocabulary_of(folder: Path, **settings: Any) -> tuple[TokenizerVocabulary, dict[str, int]]:
    """The vocabulary in a folder, and its ids."""
    files = Files(files_in(folder))
    return wordpiece_vocabulary(files, Config(settings), read_tokenizer_json(files))


def test_both_files_say_the_same(tmp_path: Path) -> None:
    found = []
    for name in ("vocab.txt", "tokenizer.json"):
        folder = copied(tmp_path / name, without=name)
        convert(files_in(folder), tmp_path / f"{name}.gguf", quiet)
        found.append(metadata(tmp_path / f"{name}.gguf"))
    assert found[0] == found[1]


def test_a_text(tmp_path: Path) -> None:
    convert(files_in(BERT), tmp_path / "out.gguf", quiet)
    vocabulary = (BERT / "vocab.txt").read_text().split("\n")
    ids = tokenize(tmp_path / "out.gguf", "Why is the SKY blue?")
    assert [vocabulary[id] for id in ids][:2] == ["[CLS]", "why"]
    assert [vocabulary[id] for id in ids][-2:] == ["?", "[SEP]"]
    assert "sky" in [vocabulary[id] for id in ids]


def test_how_words_are_marked() -> None:
    vocabulary, ids = vocabulary_of(BERT, vocab_size=109)
    texts = [token.text for token in vocabulary.tokens]
    assert texts[:8] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁[PAD5]", "▁b", "▁c"]
    assert texts[ids["##ing"]] == "ing"


def test_brackets_are_no_words(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\r\n[unused0]\r\nword\r\n##s\r\n")
    vocabulary, _ = vocabulary_of(tmp_path)
    assert [(token.text, int(token.type)) for token in vocabulary.tokens] == [
        ("[PAD]", 3),
        ("[unused0]", 1),
        ("▁word", 1),
        ("s", 1),
    ]


@pytest.mark.parametrize(
    ("normalizer", "found"),
    [
        ({"type": "BertNormalizer", "lowercase": False, "strip_accents": None}, {"lowercase": False}),
        (
            {"type": "BertNormalizer", "lowercase": True, "strip_accents": True},
            {"lowercase": True, "strip_accents": True},
        ),
        (
            {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]},
            {"lowercase": True, "strip_accents": True},
        ),
        (None, {}),
    ],
)
def test_normalizers(normalizer: Any, found: dict[str, bool], tmp_path: Path) -> None:
    tokenizer = json.loads((BERT / "tokenizer.json").read_text())
    write_json(tmp_path / "tokenizer.json", tokenizer | {"normalizer": normalizer})
    vocabulary, _ = vocabulary_of(tmp_path, vocab_size=109)
    assert vocabulary.extra == {f"tokenizer.ggml.normalizer.{name}": value for name, value in found.items()}


def test_cased_vocabularies_without_a_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\nA\n")
    write_json(tmp_path / "tokenizer_config.json", {"do_lower_case": False})
    vocabulary, _ = vocabulary_of(tmp_path)
    assert vocabulary.extra == {"tokenizer.ggml.normalizer.lowercase": False}


def test_other_tokenizers(tmp_path: Path) -> None:
    write_json(tmp_path / "tokenizer.json", {"model": {"type": "Unigram"}})
    with pytest.raises(ConvertError, match="a tokenizer of the type Unigram is not supported here: only WordPiece is"):
        vocabulary_of(tmp_path)
    with pytest.raises(ConvertError, match=r"open vocab\.txt: no such file or directory"):
        vocabulary_of(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, 1),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, 2),
        ({"pooling_mode_lasttoken": True}, 3),
        ({"pooling_mode": "cls"}, 2),
    ],
)
def test_pooling(settings: dict[str, Any], kind: int, tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    write_json(tmp_path / "1_Pooling/config.json", settings)
    write_json(
        tmp_path / "modules.json", [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
    )
    assert pooling(Files(files_in(tmp_path))) == {"pooling_type": kind}


@pytest.mark.parametrize(
    ("kinds", "found"), [(["Pooling", "Normalize"], True), (["Pooling"], False), (["Dense", "x"], False), ([], False)]
)
def test_normalization(kinds: list[str], found: bool, tmp_path: Path) -> None:
    write_json(tmp_path / "modules.json", ["?", *({"type": f"sentence_transformers.models.{kind}"} for kind in kinds)])
    assert normalization(Files(files_in(tmp_path))) == {"normalize_embeddings": found}


def test_without_modules_nothing_gives_vectors_a_length() -> None:
    assert normalization(Files({})) == {"normalize_embeddings": False}


def test_no_pooling_and_strange_pooling(tmp_path: Path) -> None:
    assert pooling(Files({})) == {}
    write_json(tmp_path / "modules.json", [{"path": "p", "type": "Pooling"}])
    with pytest.raises(ConvertError, match=r"open p/config\.json: no such file or directory"):
        pooling(Files(files_in(tmp_path)))
    (tmp_path / "p").mkdir()
    write_json(tmp_path / "p/config.json", {"pooling_mode": ["mean"]})
    with pytest.raises(ConvertError, match="the pooling is neither mean nor cls nor lasttoken"):
        pooling(Files(files_in(tmp_path)))
