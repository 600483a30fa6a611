"""Turns weights into layers: converts, merges and quantizes them in worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modelfile.create.files import FileSet, GGUFModel, UploadedFile, group, media_type, read_gguf
from modelfile.create.request import CreateError
from modelfile.create.transaction import ModelPart, Transaction, existing
from modelfile.quantize import Quantization, QuantizeError, default_quantization, exceptions, source_type
from modelfile.threads import in_thread
from modelfile.watchdog import PATIENCE
from modelfile.worker_client import JobFailed, run_job
from modelfile.worker_protocol import Convert, ConvertAdapter, Job, Verify
from modelfile.worker_protocol import Quantize as QuantizeJob
from registry import manifest as media_types
from registry.gguf import GGUFHeader
from registry.manifest import Layer
from registry.progress import OnStep, Step
from registry.storage.store import Store

_NO_DIGEST = "0" * 19
"""The digest in progress steps of an unfinished file: clients draw a bar for every step with a digest."""


class WeightJobs:
    """Runs jobs on weights, with results in the transaction's folders. Methods raise JobFailed or StoreError.

    `environ` is the environment of the processes, `watchdog` as for `run_job`. Cancellation leaves no process behind.
    """

    def __init__(
        self, transaction: Transaction, environ: Mapping[str, str], on_step: OnStep, watchdog: float = PATIENCE
    ) -> None:
        self._transaction = transaction
        self._environ = environ
        self._watchdog = watchdog
        self._on_step = on_step

    async def convert(self, files: Mapping[str, Path]) -> Path:
        """Convert a safetensors model to a GGUF."""
        target = await self._target("converted.gguf", sum(path.stat().st_size for path in files.values()))
        await self._work(Convert(files=_texts(files), target=str(target)), "converting model")
        return target

    async def convert_adapter(self, files: Mapping[str, Path], base: Path) -> Path:
        """Convert a safetensors adapter to a GGUF for the model in `base`."""
        target = await self._target("adapter.gguf")
        job = ConvertAdapter(files=_texts(files), base=str(base), target=str(target))
        await self._work(job, "converting adapter")
        return target

    async def link(self, files: Mapping[str, Path]) -> Path:
        """Link the files of a split model side by side under their names. Returns the first."""
        folder = (await self._target("links")).parent
        for name, path in files.items():
            (folder / name).symlink_to(path)
        return folder / next(iter(files))

    async def merge(self, first: Path, size: int) -> Path:
        """Merge a split model of `size` bytes into one file."""
        target = await self._target("merged.gguf", size)
        await self._work(QuantizeJob(source=str(first), target=str(target)))
        return target

    async def quantize(self, source: Path, header: GGUFHeader, kind: Quantization, size: int) -> Path:
        """Quantize weights of `size` bytes. Raises QuantizeError if they are already quantized."""
        status = f"quantizing {source_type(header)} model to {kind.name}"
        target = await self._target("quantized.gguf", size)
        precise = exceptions(header.architecture, kind)
        job = QuantizeJob(source=str(source), target=str(target), number=kind.number, exceptions=precise)
        await self._work(job, status, size)
        return target

    async def finish(self, media_type: str, path: Path) -> ModelPart:
        """Verify that llama.cpp can load a new model, then store it as a layer."""
        self._on_step({"status": "verifying conversion"})
        await self._work(Verify(path=str(path)))
        return await self.adopt(media_type, path)

    async def adopt(self, media_type: str, path: Path) -> ModelPart:
        """Store a new file as a layer."""
        header = await in_thread(read_gguf, path)
        return await in_thread(self._transaction.adopt, media_type, path, header)

    async def _target(self, name: str, size: int = 0) -> Path:
        """An unused path for a file of about `size` bytes. Raises DiskFull."""
        await in_thread(self._transaction.store.require_space, size)
        folder = await in_thread(self._transaction.new_folder)
        return folder / name

    async def _work(self, job: Job, status: str = "", size: int = 0) -> None:
        """Run a job and report its progress, scaled to `size` bytes if given."""

        def progress(completed: int, total: int) -> None:
            done, of = (size * completed // total, size) if size else (completed, total)
            if status:
                self._on_step(_bar(status, done, of))

        await run_job(job, self._environ, progress, self._watchdog)


def _bar(status: str, completed: int, total: int) -> Step:
    done = {"completed": completed} if completed else {}
    return {"status": status, "digest": _NO_DIGEST, "total": total, **done}


def _texts(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in files.items()}


class WeightLayers:
    """Makes layers from weights. Methods raise CreateError, QuantizeError or JobFailed.

    A GGUF in one file is stored verbatim, unless it is to be quantized.
    """

    def __init__(self, store: Store, jobs: WeightJobs, on_step: OnStep) -> None:
        self._store = store
        self._jobs = jobs
        self._on_step = on_step

    async def model(self, files: FileSet, target: Quantization | None) -> list[ModelPart]:
        """The layers of a model: weights, projectors and other GGUFs among the files."""
        if files.kind == "safetensors":
            return [await self._converted(files, target)]
        return [await self._layer(source, media_type(source.header), target) for source in await self._sources(files)]

    async def drafts(self, files: FileSet, target: Quantization | None) -> list[ModelPart]:
        """The layers of a draft model."""
        if files.kind == "safetensors":
            part = await self._converted(files, target)
            return [replace(part, layer=replace(part.layer, media_type=media_types.DRAFT))]
        sources = await self._sources(files)
        for source in sources:
            _check_draft(source.header, target)
        return [await self._layer(source, media_types.DRAFT, target) for source in sources]

    async def adapter(self, files: FileSet, base: Path | None) -> ModelPart:
        """The layer of an adapter for the model in `base`."""
        if files.kind == "gguf":
            [(file, header)] = await self._read(files)
            if media_type(header) != media_types.ADAPTER:
                raise CreateError("supplied file was not an adapter")
            return existing(_layer_of(file, media_types.ADAPTER), header)
        if base is None:
            raise CreateError("no base model was found")
        self._on_step({"status": "converting adapter"})
        try:
            path = await self._jobs.convert_adapter(files.paths(), base)
        except JobFailed as error:
            raise CreateError(str(error)) from error
        return await self._jobs.adopt(media_types.ADAPTER, path)

    async def requantized(self, part: ModelPart, target: Quantization | None) -> ModelPart:
        """The layer quantized to `target`; the layer itself if it has that type."""
        assert part.header is not None
        if target is None or source_type(part.header) == target.name:
            return part
        path = self._store.blob_path(part.layer.digest)
        made = await self._jobs.quantize(path, part.header, target, part.layer.size)
        return await self._jobs.finish(part.layer.media_type, made)

    async def _layer(self, source: GGUFModel, kind: str, target: Quantization | None) -> ModelPart:
        if len(source.files) > 1:
            return await self._joined(source, kind, target)
        part = existing(_layer_of(source.files[0], kind), source.header)
        return part if kind not in (media_types.MODEL, media_types.DRAFT) else await self.requantized(part, target)

    async def _joined(self, source: GGUFModel, kind: str, target: Quantization | None) -> ModelPart:
        first = await self._jobs.link({Path(file.name).name: file.path for file in source.files})
        if target is None or source_type(source.header) == target.name:
            made = await self._jobs.merge(first, source.size)
        else:
            made = await self._jobs.quantize(first, source.header, target, source.size)
        return await self._jobs.finish(kind, made)

    async def _converted(self, files: FileSet, target: Quantization | None) -> ModelPart:
        self._on_step({"status": "converting model"})
        path = await self._jobs.convert(files.paths())
        header = await in_thread(read_gguf, path)
        target = target or default_quantization(header)
        if target is not None and source_type(header) != target.name:
            path = await self._jobs.quantize(path, header, target, path.stat().st_size)
        return await self._jobs.finish(media_types.MODEL, path)

    async def _sources(self, files: FileSet) -> list[GGUFModel]:
        return group(await self._read(files))

    async def _read(self, files: FileSet) -> list[tuple[UploadedFile, GGUFHeader]]:
        read = []
        for file in files.files:
            self._on_step({"status": "parsing GGUF"})
            read.append((file, await in_thread(read_gguf, file.path)))
        return read


def _layer_of(file: UploadedFile, kind: str) -> Layer:
    """The layer of a verbatim file. Only other files than weights have their name as `from`."""
    return Layer(kind, file.digest, file.path.stat().st_size, "" if kind == media_types.MODEL else file.name)


def _check_draft(header: GGUFHeader, target: Quantization | None) -> None:
    if target is None:
        return
    try:
        source_type(header)
    except QuantizeError:
        text = f"draft quantization requires an unquantized draft model, got {header.file_type}"
        raise CreateError(text) from None
