"""Messages between the server and the weights worker: one job, then reports, as JSON lines.

Both sides import this; `modelfile.worker` itself is started, never imported.
"""

from __future__ import annotations

import msgspec


class Quantize(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Quantize a GGUF to the file type `number`; without one, only merge a split model.

    `source` is the first file of a split model. `exceptions` are (pattern of tensor names, type).
    """

    source: str
    target: str
    number: int | None = None
    exceptions: tuple[tuple[str, str], ...] = ()


class Convert(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Convert a safetensors model to GGUF; `files` are paths by file name."""

    files: dict[str, str]
    target: str


class ConvertAdapter(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Convert a safetensors adapter for the model in the GGUF `base`."""

    files: dict[str, str]
    base: str
    target: str


class Verify(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Check that llama.cpp would load a GGUF."""

    path: str


class Derive(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Repack the `blob` of a published model for llama.cpp, into the store's `folder` of derived files."""

    blob: str
    folder: str


Job = Quantize | Convert | ConvertAdapter | Verify | Derive


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Progress in the job's own units."""

    completed: int
    total: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The job failed; the text is for the user. `unsupported`: the files are valid but not supported."""

    message: str
    unsupported: bool = False


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The job succeeded."""


Report = Progress | Failed | Finished

encode = msgspec.json.Encoder().encode
decode_job = msgspec.json.Decoder(Job).decode
decode_report = msgspec.json.Decoder(Report).decode


class JobError(Exception):
    """A job failed inside the worker; the text is for the user."""
