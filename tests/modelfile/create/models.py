"""Small GGUF files of every kind, and a creation in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import registry.bundled
from modelfile.create import CreateRequest, create
from registry.manifest import Manifest
from registry.names import Digest, ModelName
from registry.storage.store import Store
from tests.registry.gguf.files import BOOL, F32, STRING, UINT32, File, entry, tensor, text, uint32
from tests.serving import ROOT

TINYCHAT = Path(registry.bundled.__file__).parent / "tinychat.gguf"
F16 = ROOT / "tests" / "data" / "tinychat-f16.gguf"
CHECKPOINT = ROOT / "tests" / "data" / "convert" / "llama-bpe"
ENVIRON = {"PYTHONPATH": str(ROOT), "PATH": os.environ.get("PATH", "")}


def name(text: str) -> ModelName:
    return ModelName.parse(text)


def gguf(architecture: str = "test", *entries: bytes, parameters: int = 0) -> bytes:
    """A file of one architecture, with a tensor of this many parameters."""
    tensors = [tensor("t", (parameters,), F32)] if parameters else []
    about = entry("general.architecture", STRING, text(architecture))
    return File((about, *entries), tensors, bytes(4 * parameters)).build()


def string(key: str, value: str) -> bytes:
    return entry(key, STRING, text(value))


def number(key: str, value: int) -> bytes:
    return entry(key, UINT32, uint32(value))


def flag(key: str) -> bytes:
    return entry(key, BOOL, b"\1")


PROJECTOR = gguf("clip", flag("clip.has_vision_encoder"), number("clip.vision.block_count", 2))
ADAPTER = gguf("qwen3", string("general.type", "adapter"), parameters=4)


async def make(store: Store, model: str, **fields: Any) -> list[str]:
    """Make a model; what was told, without how far it was."""
    request = CreateRequest(name=name(model), **fields)
    return [step["status"] async for step in create(store, request, ENVIRON) if "total" not in step]


def upload(store: Store, **files: bytes | Path) -> dict[str, Digest | Path]:
    """Files as a request names them; `_` in a name stands for a dot."""
    data = {key: value.read_bytes() if isinstance(value, Path) else value for key, value in files.items()}
    return {key.replace("_", "."): store.add_blob(value).digest for key, value in data.items()}


def manifest(store: Store, model: str) -> Manifest:
    return store.find(name(model)).manifest


def read(store: Store, model: str, media_type: str) -> list[str]:
    """The texts of a model's layers of one kind."""
    layers = manifest(store, model).of_type(media_type)
    return [store.read_blob(layer.digest, 1 << 20).decode() for layer in layers]
