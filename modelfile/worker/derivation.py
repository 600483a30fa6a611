"""Repacks a published model into files that llama.cpp can load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modelfile.published import OllamaLayout, layout_of, plan
from modelfile.published.writing import contents
from modelfile.worker_protocol import Derive, JobError
from registry.errors import StoreError
from registry.gguf import GGUFError, read_header
from registry.names import Digest
from registry.storage.derived import DerivedFiles

Progress = Callable[[int, int], None]


def run(job: Derive, progress: Progress) -> None:
    """Write the missing files, under the blob's lock. Raises JobError; existing files stay."""
    try:
        _run(Path(job.blob), DerivedFiles(Path(job.folder)), progress)
    except FileNotFoundError:
        raise JobError("the model has been removed meanwhile") from None
    except (StoreError, GGUFError) as error:
        raise JobError(str(error)) from error


def _run(blob: Path, derived: DerivedFiles, progress: Progress) -> None:
    digest, header = Digest.parse(blob.name), read_header(blob)
    layout = layout_of(header)
    forms = layout.forms(header) if isinstance(layout, OllamaLayout) else {}
    with derived.making(blob):
        missing = {form: rewrite for form, rewrite in forms.items() if not derived.path(digest, form).is_file()}
        plans = {form: plan(rewrite, blob, header) for form, rewrite in missing.items()}
        written, total = 0, sum(made.size for made in plans.values())
        derived.require_space(total)
        for form, made in plans.items():
            with derived.put(digest, form) as file:
                for piece in contents(made):
                    file.write(piece)
                    written += len(piece)
                    progress(written, total)
        derived.keep(digest, forms)
