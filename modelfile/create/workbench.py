"""What is done to weights: converted, merged, quantised, by processes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelfile.create.gguf import read_gguf
from modelfile.create.part import Part
from modelfile.create.steps import Tell
from modelfile.create.threads import in_thread
from modelfile.create.workspace import Workspace
from modelfile.jobs import Convert, ConvertAdapter, Job, Verify
from modelfile.jobs import Quantize as QuantizeJob
from modelfile.quantize import Quantization, exceptions, source_type
from modelfile.work import work
from registry.gguf import GGUFHeader
from registry.steps import Step

_NO_DIGEST = "0" * 19
"""What is told of a file that is being made: clients draw a bar for whatever has a digest."""


class Workbench:
    """Makes files in the folder of a workspace. Methods raise JobFailed or StoreError.

    `environ` is all that the processes see of the environment. Whoever is cancelled leaves no process behind.
    """

    def __init__(self, workspace: Workspace, environ: Mapping[str, str], tell: Tell) -> None:
        self._workspace = workspace
        self._environ = environ
        self._tell = tell

    async def convert(self, files: Mapping[str, Path]) -> Path:
        """A GGUF of a model of safetensors."""
        target = await self._target("converted.gguf", sum(path.stat().st_size for path in files.values()))
        await self._work(Convert(files=_texts(files), target=str(target)), "converting model")
        return target

    async def convert_adapter(self, files: Mapping[str, Path], base: Path) -> Path:
        """A GGUF of an adapter of safetensors for the model in `base`."""
        target = await self._target("adapter.gguf")
        job = ConvertAdapter(files=_texts(files), base=str(base), target=str(target))
        await self._work(job, "converting adapter")
        return target

    async def link(self, files: Mapping[str, Path]) -> Path:
        """The first of the files of a split model, side by side under the names by which they find each other."""
        folder = (await self._target("links")).parent
        for name, path in files.items():
            (folder / name).symlink_to(path)
        return folder / next(iter(files))

    async def merge(self, first: Path, size: int) -> Path:
        """One file of a split model of this size in bytes."""
        target = await self._target("merged.gguf", size)
        await self._work(QuantizeJob(source=str(first), target=str(target)))
        return target

    async def quantize(self, source: Path, header: GGUFHeader, kind: Quantization, size: int) -> Path:
        """The same weights in another type; `size` is the source's in bytes. Raises QuantizeError if it is unfit."""
        status = f"quantizing {source_type(header)} model to {kind.name}"
        target = await self._target("quantized.gguf", size)
        precise = exceptions(header.architecture, kind)
        job = QuantizeJob(source=str(source), target=str(target), number=kind.number, exceptions=precise)
        await self._work(job, status, size)
        return target

    async def finish(self, media_type: str, path: Path) -> Part:
        """A model that was made here, as a layer, once it is known that it can be loaded."""
        self._tell({"status": "verifying conversion"})
        await self._work(Verify(path=str(path)))
        return await self.adopt(media_type, path)

    async def adopt(self, media_type: str, path: Path) -> Part:
        """A file that was made here, as a layer."""
        header = await in_thread(read_gguf, path)
        return await in_thread(self._workspace.adopt, media_type, path, header)

    async def _target(self, name: str, size: int = 0) -> Path:
        """A path that nothing has yet, for a file of about this size in bytes. Raises DiskFull."""
        await in_thread(self._workspace.store.require_space, size)
        folder = await in_thread(self._workspace.new_folder)
        return folder / name

    async def _work(self, job: Job, status: str = "", size: int = 0) -> None:
        """Have a job done and tell how far it is, in bytes of `size` if the job counts something else."""

        def progress(completed: int, total: int) -> None:
            done, of = (size * completed // total, size) if size else (completed, total)
            if status:
                self._tell(_bar(status, done, of))

        await work(job, self._environ, progress)


def _bar(status: str, completed: int, total: int) -> Step:
    done = {"completed": completed} if completed else {}
    return {"status": status, "digest": _NO_DIGEST, "total": total, **done}


def _texts(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in files.items()}
