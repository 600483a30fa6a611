"""The models that faults are tried on: small, and with answers that do not end by themselves."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

from bench.endless import make_endless
from registry.bundled import MODELS
from registry.names import ModelName
from tests.serving import LOOPBACK, ROOT, Served

ONE, OTHER, SLOW, SIGHT = "one", "other", "slow", "sight"
"""Two models of 4 million parameters, one whose prompts take long to read, and the bundled one that sees."""
COPIES = ("copy1", "copy2", "copy3", "copy4")
"""The first of them under other digests."""
_SECOND = ROOT / "tests" / "data" / "tinychat-f16.gguf"
_MAKE_SLOW = """
import sys
from pathlib import Path
from bench.raw import quiet
from bench.random_model import VOCABULARY, Shape, write_model
quiet()
write_model(VOCABULARY, Path(sys.argv[1]), Shape(layers=8, width=256, feed_forward=1024, heads=4, kv_heads=2))
"""


def provide(server: Served, folder: Path, *names: str) -> None:
    """Make these models on a server; their files are made in a folder."""
    for name in names:
        _create(server, name, _file(folder, name))


def runner_of(server: Served, folder: Path, name: str) -> psutil.Process:
    """The child process that has a model mapped. Raises LookupError."""
    digest = _digest(_file(folder, name))
    for child in server.runners():
        try:
            if any(digest in mapping.path for mapping in child.memory_maps()):
                return child
        except psutil.Error:  # it ended meanwhile
            continue
    raise LookupError(f"{name} is not loaded")


def _file(folder: Path, name: str) -> Path:
    if name == SIGHT:
        return MODELS[ModelName.parse(name)].path
    path = folder / f"{name}.gguf"
    if path.exists():
        return path
    if name == SLOW:
        subprocess.run([sys.executable, "-c", _MAKE_SLOW, path], cwd=ROOT, check=True)
    else:
        weights = make_endless(_SECOND if name == OTHER else MODELS[ModelName.parse("tinychat")].path)
        path.write_bytes(weights.replace(b"tinychat", f"tiny{name[-4:]}".encode(), 1) if name in COPIES else weights)
    return path


def _create(server: Served, name: str, path: Path) -> None:
    digest = f"sha256:{_digest(path)}"
    with httpx.Client(base_url=server.url, **LOOPBACK, timeout=300) as client, path.open("rb") as file:
        client.post(f"/api/blobs/{digest}", content=file).raise_for_status()
        body = {"model": name, "files": {path.name: digest}, "stream": False}
        client.post("/api/create", json=body).raise_for_status()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
