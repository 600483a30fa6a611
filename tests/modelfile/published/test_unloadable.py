"""Models that llama.cpp fails to load, and files that only look like a published layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelfile.published import Unloadable, layout_of
from registry.gguf import GGUFHeader
from tests.registry.gguf import files

SECTIONS = files.entry("qwen3vl.rope.dimension_sections", files.ARRAY, files.array(files.INT32, 1, files.uint32(1)))
EPSILON = files.entry("gemma3.attention.layer_norm_rms_epsilon", files.FLOAT32, files.uint32(1))
T5 = files.entry("tokenizer.ggml.model", files.STRING, files.text("t5"))


def header(folder: Path, architecture: str, tensors: dict[str, int], *entries: bytes) -> GGUFHeader:
    """A header with matrices of one column and so many rows."""
    all_entries = [files.entry("general.architecture", files.STRING, files.text(architecture)), *entries]
    infos, data = [], b""
    for name, rows in tensors.items():
        infos.append(files.tensor(name, (1, rows), files.F32, len(data)))
        data += bytes(-(-4 * rows // 32) * 32)
    return files.read(folder / "model.gguf", files.File(all_entries, infos, data).build())


def charsmap(kind: int, values: bytes) -> bytes:
    return files.entry("tokenizer.ggml.precompiled_charsmap", files.ARRAY, files.array(kind, 1, values))


@pytest.mark.parametrize("architecture", ["deepseekocr", "glmocr"])
def test_what_cannot_be_loaded(architecture: str, tmp_path: Path) -> None:
    found = layout_of(header(tmp_path, architecture, {"x": 1}))
    assert found == Unloadable(architecture)
    assert f"'{architecture}'" in found.reason


@pytest.mark.parametrize(
    ("architecture", "tensors", "entries"),
    [
        ("gemma3", {"token_embd.weight": 1}, (EPSILON,)),
        ("gemma4", {"token_embd.weight": 1, "blk.0.attn_v.weight": 1}, ()),
        ("laguna", {"blk.10.attn_gate.weight": 1}, ()),
        ("lfm2", {"token_embd_norm.weight": 1}, ()),
        ("llama4", {"blk.0.attn_v.weight": 1}, ()),
        ("mistral3", {"blk.0.attn_v.weight": 1}, ()),
        ("nemotron_h_moe", {"blk.1.ffn_latent_down.weight": 1}, ()),
        ("qwen35", {"blk.0.ssm_dt.bias": 1}, ()),
        ("qwen3next", {"blk.0.ssm_dt.bias": 1}, ()),
        ("qwen3vl", {"x": 1}, (SECTIONS,)),
        ("gemma3n", {"token_embd.weight": 2, "per_layer_token_embd.weight": 2}, ()),
        ("bert", {"x": 1}, (T5, charsmap(files.UINT8, b"A"))),
        ("bert", {"x": 1}, (charsmap(files.STRING, files.text("A")),)),
        ("clip", {"v.patch_embd.weight": 1}, ()),
        ("gpt-oss", {"x": 1}, ()),
        ("no such thing", {"x": 1}, ()),
    ],
)
def test_what_is_left_to_llama_cpp(
    architecture: str, tensors: dict[str, int], entries: tuple[bytes, ...], tmp_path: Path
) -> None:
    assert layout_of(header(tmp_path, architecture, tensors, *entries)) is None
