"""From uploaded weights to layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from modelfile.create.errors import CreateError
from modelfile.create.fileset import FileSet, UploadedFile
from modelfile.create.gguf import media_type, read_gguf
from modelfile.create.part import Part, existing
from modelfile.create.shards import Source, group
from modelfile.create.steps import Tell
from modelfile.create.threads import in_thread
from modelfile.create.workbench import Workbench
from modelfile.quantize import Quantization, QuantizeError, default_quantization, source_type
from modelfile.work import JobFailed
from registry import manifest as kinds
from registry.gguf import GGUFHeader
from registry.manifest import Layer
from registry.store import Store


class Weights:
    """Makes layers of files. Methods raise CreateError, QuantizeError or JobFailed.

    A file that is a GGUF of one piece stays as it is to the byte, unless it is to be quantised.
    """

    def __init__(self, store: Store, bench: Workbench, tell: Tell) -> None:
        self._store = store
        self._bench = bench
        self._tell = tell

    async def model(self, files: FileSet, target: Quantization | None) -> list[Part]:
        """The layers of a model: weights, and what else lies beside them."""
        if files.kind == "safetensors":
            return [await self._converted(files, target)]
        return [await self._layer(source, media_type(source.header), target) for source in await self._sources(files)]

    async def drafts(self, files: FileSet, target: Quantization | None) -> list[Part]:
        """The layers of a model that runs ahead of the other."""
        if files.kind == "safetensors":
            part = await self._converted(files, target)
            return [replace(part, layer=replace(part.layer, media_type=kinds.DRAFT))]
        sources = await self._sources(files)
        for source in sources:
            _check_draft(source.header, target)
        return [await self._layer(source, kinds.DRAFT, target) for source in sources]

    async def adapter(self, files: FileSet, base: Path | None) -> Part:
        """The layer of an adapter for the model in `base`."""
        if files.kind == "gguf":
            [(file, header)] = await self._read(files)
            if media_type(header) != kinds.ADAPTER:
                raise CreateError("supplied file was not an adapter")
            return existing(_layer_of(file, kinds.ADAPTER), header)
        if base is None:
            raise CreateError("no base model was found")
        self._tell({"status": "converting adapter"})
        try:
            path = await self._bench.convert_adapter(files.paths(), base)
        except JobFailed as error:
            raise CreateError(str(error)) from error
        return await self._bench.adopt(kinds.ADAPTER, path)

    async def requantized(self, part: Part, target: Quantization | None) -> Part:
        """A layer of weights in another type; the layer itself if it has that type."""
        assert part.header is not None
        if target is None or source_type(part.header) == target.name:
            return part
        path = self._store.blob_path(part.layer.digest)
        made = await self._bench.quantize(path, part.header, target, part.layer.size)
        return await self._bench.finish(part.layer.media_type, made)

    async def _layer(self, source: Source, kind: str, target: Quantization | None) -> Part:
        if len(source.files) > 1:
            return await self._joined(source, kind, target)
        part = existing(_layer_of(source.files[0], kind), source.header)
        return part if kind not in (kinds.MODEL, kinds.DRAFT) else await self.requantized(part, target)

    async def _joined(self, source: Source, kind: str, target: Quantization | None) -> Part:
        first = await self._bench.link({Path(file.name).name: file.path for file in source.files})
        if target is None or source_type(source.header) == target.name:
            made = await self._bench.merge(first, source.size)
        else:
            made = await self._bench.quantize(first, source.header, target, source.size)
        return await self._bench.finish(kind, made)

    async def _converted(self, files: FileSet, target: Quantization | None) -> Part:
        self._tell({"status": "converting model"})
        path = await self._bench.convert(files.paths())
        header = await in_thread(read_gguf, path)
        target = target or default_quantization(header)
        if target is not None and source_type(header) != target.name:
            path = await self._bench.quantize(path, header, target, path.stat().st_size)
        return await self._bench.finish(kinds.MODEL, path)

    async def _sources(self, files: FileSet) -> list[Source]:
        return group(await self._read(files))

    async def _read(self, files: FileSet) -> list[tuple[UploadedFile, GGUFHeader]]:
        found = []
        for file in files.files:
            self._tell({"status": "parsing GGUF"})
            found.append((file, await in_thread(read_gguf, file.path)))
        return found


def _layer_of(file: UploadedFile, kind: str) -> Layer:
    """The layer of a file as it is. Weights do not say where they come from: that would be a model's name."""
    return Layer(kind, file.digest, file.path.stat().st_size, "" if kind == kinds.MODEL else file.name)


def _check_draft(header: GGUFHeader, target: Quantization | None) -> None:
    if target is None:
        return
    try:
        source_type(header)
    except QuantizeError:
        text = f"draft quantization requires an unquantized draft model, got {header.file_type}"
        raise CreateError(text) from None
