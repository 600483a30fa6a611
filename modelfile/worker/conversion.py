"""Safetensors to GGUF."""

from __future__ import annotations

from pathlib import Path

from modelfile.convert import ConvertError, convert, convert_adapter
from modelfile.convert.writer import Progress
from modelfile.worker_protocol import Convert, ConvertAdapter
from registry.gguf import GGUFError, read_header


def run(job: Convert | ConvertAdapter, progress: Progress) -> None:
    """Write the file that the job names. Raises ConvertError; no file is left then."""
    files = {name: Path(path) for name, path in job.files.items()}
    if isinstance(job, Convert):
        convert(files, Path(job.target), progress)
        return
    try:
        base = read_header(Path(job.base)).metadata
    except GGUFError as error:
        raise ConvertError(f"the base model: {error}") from None
    convert_adapter(files, base, Path(job.target), progress)
