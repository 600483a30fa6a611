"""Broken and hostile checkpoints: an error that says what is wrong, and nothing on disk."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfile.convert import ConvertError, convert
from registry.gguf import GGUFArray, read_header
from tests.modelfile.convert.checkpoints import DATA, files_in, with_header, write_json, write_safetensors
from tests.modelfile.convert.test_golden import quiet

Break = Callable[[Path], None]
MODEL = "model.safetensors"


def fails(folder: Path, target: Path) -> str:
    """The text of the error when a folder is converted; checks that nothing is left."""
    with pytest.raises(ConvertError) as error:
        convert(files_in(folder), target, quiet)
    assert not target.exists()
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a whole checkpoint in one file."""
    return Path(shutil.copytree(DATA / "qwen2/ckpt", tmp_path / "model"))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A copy of a whole checkpoint in two files with an index."""
    return Path(shutil.copytree(DATA / "gemma/ckpt", tmp_path / "model"))


def change_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object."""
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file of safetensors."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def change_header(path: Path, name: str, **changes: Any) -> None:
    """Change what a header says about one tensor."""
    header, data = header_of(path)
    header[name] |= changes
    path.write_bytes(with_header(header, data))


def rename_tensor(path: Path, old: str, new: str) -> None:
    """Give a tensor another name."""
    header, data = header_of(path)
    header[new] = header.pop(old)
    path.write_bytes(with_header(header, data))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "open config.json: no such file or directory"),
        (lambda f: (f / "config.json").write_text("{}"), "unknown architecture"),
        (
            lambda f: change_json(f / "config.json", architectures=["OtherForCausalLM"]),
            'unsupported architecture "OtherForCausalLM"',
        ),
        (lambda f: change_json(f / "config.json", architectures=[[]]), 'unsupported architecture "[]"'),
        (
            lambda f: change_json(f / "config.json", num_hidden_layers=10**9),
            "num_hidden_layers 1000000000 is too",
        ),
        (lambda f: change_json(f / "config.json", num_hidden_layers=3), "layer 2 has no "),
        (lambda f: change_json(f / "config.json", num_hidden_layers=1), "does not belong to a model of"),
        (lambda f: change_json(f / "config.json", vocab_size=10**9), "vocab_size 1000000000 is too large"),
        (lambda f: change_json(f / "config.json", vocab_size=2049), "there are 2049 tokens, but embeddings for 2048"),
        (lambda f: change_json(f / "config.json", vocab_size=2000), "but vocab_size is 2000"),
        (lambda f: change_json(f / "config.json", hidden_size="64"), "hidden_size is no sensible number"),
        (lambda f: (f / MODEL).unlink(), "no tensors were found"),
        (lambda f: (f / MODEL).write_bytes(b""), "model.safetensors: "),
        (lambda f: (f / MODEL).write_bytes((1 << 62).to_bytes(8, "little") + b"{}"), "model.safetensors: "),
        (lambda f: (f / MODEL).write_bytes((f / MODEL).read_bytes()[:-10]), "model.safetensors: "),
        (lambda f: change_header(f / MODEL, "model.norm.weight", shape=[32]), "model.safetensors: "),
        (lambda f: change_header(f / MODEL, "model.norm.weight", shape=[1 << 40, 1 << 40]), "model.safetensors: "),
        (
            lambda f: change_header(f / MODEL, "model.norm.weight", dtype="I32"),
            "only F32, F16, BF16, F8_E4M3 and F8_E5M2",
        ),
        (lambda f: change_header(f / MODEL, "model.norm.weight", data_offsets=[0, 1 << 50]), "model.safetensors: "),
        (
            lambda f: change_header(f / MODEL, "model.norm.weight", shape=[2, 2, 2, 2, 4]),
            "shape [2, 2, 2, 2, 4]",
        ),
        (
            lambda f: rename_tensor(f / MODEL, "model.norm.weight", "model.other.weight"),
            "'model.other.weight' does",
        ),
        (lambda f: rename_tensor(f / MODEL, "model.norm.weight", "x" * 600), "the name of a tensor is too long"),
        (
            lambda f: rename_tensor(f / MODEL, "model.embed_tokens.weight", "lm_head.weight"),
            "the embeddings of the tokens are missing",
        ),
        (lambda f: write_safetensors(f / "model-2.safetensors", {"model.norm.weight": np.ones(2)}), "duplicate tensor"),
        (lambda f: (f / "tokenizer.json").unlink(), "unknown tokenizer format"),
    ],
)
def test_broken_checkpoints(broken: Break, message: str, folder: Path, tmp_path: Path) -> None:
    broken(folder)
    assert message in fails(folder, tmp_path / "out.gguf")


INDEX = "model.safetensors.index.json"
LAST = "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda f: (f / INDEX).write_text("[]"), f"parse {INDEX}: not an object"),
        (lambda f: change_json(f / INDEX, weight_map=None), f"parse {INDEX}: no weight_map"),
        (lambda f: change_json(f / INDEX, weight_map={"model.norm.weight": 1}), f"parse {INDEX}: no weight_map"),
        (lambda f: (f / LAST).unlink(), f"open {LAST}: no such file or directory"),
        (
            lambda f: change_json(f / INDEX, weight_map={"model.norm.weight": "../../secret.safetensors"}),
            "open ../../secret.safetensors: no such file or directory",
        ),
        (
            lambda f: change_json(f / INDEX, weight_map={"model.lost.weight": LAST}),
            f"tensor 'model.lost.weight' is not in {LAST}",
        ),
        (lambda f: (f / INDEX).unlink() or (f / LAST).unlink(), "layer 0 has no "),
    ],
)
def test_broken_indexes(broken: Break, message: str, sharded: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    broken(sharded)
    text = fails(sharded, tmp_path / "out.gguf")
    assert message in text or (message == "layer 0 has no " and "layer 1 has no " in text)


def test_a_file_that_shrinks_while_it_is_read(folder: Path, tmp_path: Path) -> None:
    def cut(_done: int, _total: int) -> None:
        (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:1000])

    with pytest.raises(ConvertError, match="is cut off"):
        convert(files_in(folder), tmp_path / "out.gguf", cut)
    assert not (tmp_path / "out.gguf").exists()


def test_what_progress_raises_ends_it(folder: Path, tmp_path: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(files_in(folder), tmp_path / "out.gguf", stop)
    assert not (tmp_path / "out.gguf").exists()


def test_a_value_beyond_f16_is_named(folder: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    header, data = header_of(folder / MODEL)
    start = header[name]["data_offsets"][0]
    data = data[:start] + np.array([1e6], "<f4").tobytes() + data[start + 4 :]
    (folder / MODEL).write_bytes(with_header(header, data))
    assert fails(folder, tmp_path / "out.gguf") == "tensor 'blk.0.ffn_up.weight': a value is too large for F16"


def test_nowhere_to_write(folder: Path, tmp_path: Path) -> None:
    assert fails(folder, tmp_path / "nowhere/out.gguf") == "write: No such file or directory"


def test_half_of_a_character_stands_for_none(folder: Path, tmp_path: Path) -> None:
    """As Go reads JSON, so that such a checkpoint gives the same file here and there."""
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"<|endoftext|>"', '"\\ud800"'), encoding="utf-8")
    convert(files_in(folder), tmp_path / "out.gguf", quiet)
    tokens = read_header(tmp_path / "out.gguf").metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, GGUFArray)
    assert "\ufffd" in tokens.values()


SETTINGS = json.loads((DATA / "llama-bpe/ckpt/config.json").read_text(encoding="utf-8"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["rope_type", "type"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from([*SETTINGS, "rope_scaling", "text_config"]), json_values, min_size=1, max_size=2)
)
def test_any_settings_give_a_file_or_an_error(changes: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "config.json", SETTINGS | changes)
        target = folder / "out.gguf"
        try:
            convert(files_in(DATA / "llama-bpe/ckpt") | {"config.json": folder / "config.json"}, target, quiet)
        except ConvertError:
            assert not target.exists()
        else:
            assert target.exists()
