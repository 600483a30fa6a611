"""Whatever stands in a model file, reading it either works or is a GGUFError."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from engine.capabilities import TemplateTraits, all_capabilities
from engine.loading.devices import Device
from engine.loading.memory import Limits, Request, normalizes, plan
from engine.loading.state import LoadOptions
from engine.model import Models
from modelfile.create.files import media_type
from modelfile.published import layout_of
from modelfile.quantize import default_quantization
from registry.gguf import GGUFError, GGUFHeader, read_header
from registry.gguf.header import SIZES, TensorInfo
from registry.gguf.raw import encode_header, encode_value, read_entries
from registry.manifest import ModelConfig, config_of
from server.http.body import json_response
from server.ollama.show import _model_info
from tests.engine.running import make_engine
from tests.engine.test_engine import store_model
from tests.fuzz.models import WRONG, mutated
from tests.modelfile.create.models import TINYCHAT
from tests.registry.gguf.files import edited, read

GIB = 1 << 30
GPU = Device("cuda", "gpu", 8 * GIB, 8 * GIB)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model without its weights, and with a size that only models that see have."""
    path = tmp_path_factory.mktemp("bare") / "bare.gguf"
    entries = {entry.key: entry.value for entry in read_entries(TINYCHAT, read_header(TINYCHAT))}
    entries["qwen3.n_deepstack_layers"] = encode_value(0)
    path.write_bytes(encode_header(entries, (), 32))
    return path


def look(header: GGUFHeader) -> None:
    """All that is read off a header."""
    header.require_sizes()
    layout_of(header)
    media_type(header)
    default_quantization(header)
    normalizes(header)
    all_capabilities(ModelConfig(), header, [header], TemplateTraits())
    ModelConfig.decode(config_of(header).encode())
    for verbose in (False, True):
        json_response(_model_info(header, verbose=verbose))
    host = Device("cpu", "cpu", 8 * GIB, 8 * GIB)
    for gpus in ([], [GPU]):
        plan(header, Request(options=LoadOptions(num_ctx=4096)), Limits(), host, gpus)


def test_one_value_of_a_wrong_kind(bare: Path, tmp_path: Path) -> None:
    refused = set()
    for name, data in mutated(bare):
        try:
            look(read(tmp_path / "x.gguf", data))
        except GGUFError:
            refused.add(name)
    assert {f"qwen3.{size}: NaN" for size in SIZES} <= refused
    assert {f"qwen3.{size}: -1" for size in SIZES} <= refused
    assert not [name for name in refused if name.endswith((": nothing", ": 0"))]


def test_layers_without_end_are_not_counted(bare: Path, tmp_path: Path) -> None:
    """Each would take memory of the server, before a process of its own reads the file."""
    many = edited(bare, {"qwen3.block_count": encode_value(2**31 - 1)})
    with pytest.raises(GGUFError, match="2147483647 layers are more than the 512 that"):
        look(read(tmp_path / "many.gguf", many))
    header = read(tmp_path / "far.gguf", bare.read_bytes())
    far = replace(header, tensors=(TensorInfo("blk.99999.attn_k.weight", "F32", (64, 64), 0, 64 * 64 * 4),))
    with pytest.raises(GGUFError, match="100000 layers"):
        look(far)


@pytest.mark.parametrize("name", WRONG)
def test_a_stored_model_with_such_values(bare: Path, tmp_path: Path, name: str) -> None:
    store = make_engine(tmp_path).store
    keys = [entry.key for entry in read_entries(bare, read_header(bare))]
    for number, key in enumerate(key for key in keys if key.startswith(("tokenizer.", "general.", "qwen3.context"))):
        with suppress(GGUFError):
            store_model(store, f"x{number}", edited(bare, {key: WRONG[name]}))
            model = Models(store).resolve(f"x{number}")
            assert isinstance(model.capabilities, frozenset)
            assert model.context_length >= 0
            assert isinstance(model.special_tokens, dict)
