"""Untimed requests to a server: look up, create and unload models."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import httpx

TRANSFER_LIMIT = 600.0  # seconds for an upload of half a gigabyte and its processing
UNLOAD_LIMIT = 30.0  # seconds
SETTLED = 2.0  # seconds after an unload, in which a server may prepare the next load
POLL = 0.05  # seconds


class CannotCreate(RuntimeError):
    """A server lacks a model and does not create it from an uploaded file."""


class Api:
    """One Ollama-compatible server. Methods raise httpx.HTTPError."""

    def __init__(self, url: str) -> None:
        no_pool = httpx.Limits(max_keepalive_connections=0)  # nothing to close
        self._http = httpx.Client(base_url=url, timeout=TRANSFER_LIMIT, limits=no_pool)

    def has(self, model: str) -> bool:
        """Whether the server has the model."""
        return self._http.post("/api/show", json={"model": model}).is_success

    def create(self, model: str, *files: Path) -> None:
        """Upload GGUFs and create a model from them alone. Raises CannotCreate."""
        body = {"model": model, "files": {path.name: self._upload(path) for path in files}, "stream": False}
        answer = self._http.post("/api/create", json=body)
        if not answer.is_success:
            raise CannotCreate(
                f"the server does not make {model} of an uploaded file ({answer.status_code}: {answer.text.strip()}): "
                f"make it by hand, of nothing but {' and '.join(map(str, files))}"
            )

    def _upload(self, path: Path) -> str:
        """The digest of a file that the server has from now on."""
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        blob = f"/api/blobs/{digest}"
        if not self._http.head(blob).is_success:
            with path.open("rb") as file:
                self._http.post(blob, content=file)
        return digest

    def unload(self, model: str) -> None:
        """Unload a model and wait until the machine is quiet. Raises TimeoutError."""
        self._http.post("/api/generate", json={"model": model, "keep_alive": 0}).raise_for_status()
        deadline = time.monotonic() + UNLOAD_LIMIT
        while self._http.get("/api/ps").raise_for_status().json()["models"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{model} is still loaded after {UNLOAD_LIMIT:.0f} s")
            time.sleep(POLL)
        time.sleep(SETTLED)
