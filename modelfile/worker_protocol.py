"""What the server and the process that works on weights say to each other: one job as JSON, then reports, a line each.

Both import this; the work itself is in `modelfile.worker`, which nobody imports.
"""

from __future__ import annotations

import msgspec


class Quantize(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Write a GGUF with other types of weights, or, without a `number`, as one file as it is.

    `source` is the first file of a split model. `exceptions` are patterns of tensor names with a type of their own.
    """

    source: str
    target: str
    number: int | None = None
    exceptions: tuple[tuple[str, str], ...] = ()


class Convert(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Write a GGUF from a model of safetensors; `files` has paths by the names that the model knows."""

    files: dict[str, str]
    target: str


class ConvertAdapter(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Write a GGUF from an adapter of safetensors for the model in the GGUF `base`."""

    files: dict[str, str]
    base: str
    target: str


class Verify(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """See whether llama.cpp would load a GGUF."""

    path: str


class Derive(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Make what llama.cpp can load of the `blob` of a published model, in the store's folder of `derived` files."""

    blob: str
    folder: str


Job = Quantize | Convert | ConvertAdapter | Verify | Derive


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How much is done, of how much, in units of the job's own."""

    completed: int
    total: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The job cannot be done; the text is for the user. `unsupported`: not with these files, and nothing is broken."""

    message: str
    unsupported: bool = False


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The job is done."""


Report = Progress | Failed | Finished

encode = msgspec.json.Encoder().encode
decode_job = msgspec.json.Decoder(Job).decode
decode_report = msgspec.json.Decoder(Report).decode
