"""Weights that are worked on: split, converted, quantised; the work is done by real processes."""

import asyncio
import hashlib
import os
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from modelfile.create import CreateError, CreateRequest, create
from modelfile.worker.llamacpp import quantize
from modelfile.worker_client import JobFailed, JobUnsupported
from modelfile.worker_protocol import Quantize
from registry import manifest as media_types
from registry.gguf import GGUFHeader, read_header
from registry.names import Digest
from registry.storage.store import Store
from tests.golden.probes import ROUNDED
from tests.modelfile.convert.test_fp8 import WEIGHT, blocks, checkpoint, scaled, write
from tests.modelfile.create.models import ADAPTER, CHECKPOINT, ENVIRON, F16, gguf, make, manifest, name, number, upload
from tests.modelfile.create.split import split
from tests.processes import descendants
from tests.registry.stores import check_whole, files
from tests.serving import ROOT

BF16 = "7fd13664fa950401cc6b1784df001d3f36464cee1e7442af52e78a0eed6fad4a"


def weights(store: Store, model: str) -> GGUFHeader:
    """The header of a model's only weights, which say nothing of where they come from."""
    [layer] = manifest(store, model).of_type(media_types.MODEL)
    assert layer.from_ == ""
    return read_header(store.blob_path(layer.digest))


def in_the_making(root: Path) -> list[Path]:
    """What was left of work that has ended."""
    return list(root.glob("making-*"))


def folder_of(store: Store, folder: Path) -> dict[str, Digest | Path]:
    return {
        path.relative_to(folder).as_posix(): store.add_file(path).digest for path in folder.rglob("*") if path.is_file()
    }


async def test_progress_and_result(store: Store, root: Path) -> None:
    request = CreateRequest(name=name("test"), files=upload(store, m_gguf=F16), quantize="bf16")
    steps = [step async for step in create(store, request, ENVIRON)]
    bars = [step for step in steps if "total" in step]
    assert {(step["status"], step["digest"], step["total"]) for step in bars} == {
        ("quantizing F16 model to BF16", "0" * 19, F16.stat().st_size)
    }
    done = [step.get("completed", 0) for step in bars]
    assert done == sorted(done)
    assert done[-1] == F16.stat().st_size
    assert [step["status"] for step in steps if "total" not in step] == [
        "parsing GGUF",
        "verifying conversion",
        f"creating new layer sha256:{BF16}",
        "writing manifest",
        "success",
    ]
    assert weights(store, "test").file_type == "BF16"
    assert not in_the_making(root)


async def test_a_type_that_it_has_already(store: Store) -> None:
    await make(store, "base", files=upload(store, m_gguf=F16))
    await make(store, "test", base=name("base"), quantize="F16")
    [layer] = manifest(store, "test").layers
    assert (layer.from_, layer.digest) == ("base:latest", Digest.of(F16.read_bytes()))


async def test_a_draft_is_quantised_by_itself(store: Store) -> None:
    await make(store, "test", base=name("tinychat"), drafts=upload(store, d_gguf=F16), draft_quantize="bf16")
    [draft] = manifest(store, "test").of_type(media_types.DRAFT)
    assert draft.digest.hex == BF16
    tinychat = {"d.gguf": manifest(store, "tinychat").layers[0].digest}
    with pytest.raises(CreateError, match="draft quantization requires an unquantized draft model, got Q8_0"):
        await make(store, "other", base=name("tinychat"), drafts=tinychat, draft_quantize="q4_0")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return split(F16, tmp_path_factory.mktemp("split") / "tiny.gguf", tensors=30)


async def test_shards_become_one_file(store: Store, shards: list[Path], root: Path, tmp_path: Path) -> None:
    assert [path.name for path in shards] == [f"tiny-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    uploads = {f"sub/{path.name}": store.add_file(path).digest for path in shards}
    told = await make(store, "test", files=uploads)
    assert told[:4] == [*["parsing GGUF"] * 3, "verifying conversion"]
    whole, merged = read_header(F16), weights(store, "test")
    assert {tensor[:3] for tensor in merged.tensors} == {tensor[:3] for tensor in whole.tensors}
    assert not merged.metadata.get("split.count")
    copy = tmp_path / "copy.gguf"
    quantize(Quantize(source=str(F16), target=str(copy)), lambda done, total: None)
    assert manifest(store, "test").layers[0].digest == Digest.of(copy.read_bytes())
    assert not in_the_making(root)


async def test_shards_are_quantised_at_once(store: Store, shards: list[Path]) -> None:
    uploads = {path.name: store.add_file(path).digest for path in shards}
    await make(store, "test", files=uploads, quantize="bf16")
    assert weights(store, "test").file_type == "BF16"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({0: "tiny-00001-of-00003.gguf"}, 'split GGUF "tiny-00001-of-00003.gguf" has 1 shards, expected 3'),
        ({0: "tiny.gguf"}, 'split GGUF "tiny.gguf" must use llama.cpp split filename pattern'),
        ({0: "t-00001-of-00002.gguf"}, "filename count 2 does not match metadata count 3"),
        ({1: "t-00001-of-00003.gguf"}, "filename index 1 does not match metadata index 2"),
    ],
)
async def test_shards_that_do_not_fit(store: Store, shards: list[Path], names: dict[int, str], message: str) -> None:
    uploads = {name: store.add_file(shards[number]).digest for number, name in names.items()}
    with pytest.raises(CreateError) as error:
        await make(store, "test", files=uploads)
    assert message in str(error.value)


async def test_safetensors(store: Store, root: Path) -> None:
    uploads = folder_of(store, CHECKPOINT / "ckpt")
    told = await make(store, "test", files=uploads, quantize="q8_0")
    assert told[:2] == ["converting model", "verifying conversion"]
    assert weights(store, "test").file_type == "Q8_0"
    adapter = folder_of(store, CHECKPOINT / "adapter")
    told = await make(store, "tuned", base=name("test"), adapters=(adapter,))
    assert told[0] == "converting adapter"
    assert [layer.media_type for layer in manifest(store, "tuned").layers] == [media_types.MODEL, media_types.ADAPTER]
    assert not in_the_making(root)


async def test_what_cannot_be_converted(store: Store, root: Path) -> None:
    uploads = folder_of(store, CHECKPOINT / "ckpt") | {"config.json": store.add_blob(b'{"architectures":["X"]}').digest}
    before = files(root)
    with pytest.raises(JobFailed, match='unsupported architecture "X"'):
        await make(store, "test", files=uploads)
    with pytest.raises(CreateError, match="no base model was found"):
        await make(store, "test", files=upload(store, a_gguf=ADAPTER), adapters=(uploads,))
    store.remove_unused([Digest.of(ADAPTER)])
    assert files(root) == before


async def test_weights_of_8_bits_get_8_again(store: Store, tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path)
    scaled(tensors, ".weight_scale_inv", blocks(128, 128))
    write(tmp_path, tensors)
    uploads = folder_of(store, tmp_path)
    await make(store, "test", files=uploads)
    assert weights(store, "test").file_type == "Q8_0"
    await make(store, "other", files=uploads, quantize="bf16")
    assert weights(store, "other").file_type == "BF16"


async def test_types_that_are_not_supported(store: Store, tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path)
    for dtype in ("I8", "F8_E4M3FNUZ", "MADE_UP"):
        tensors[WEIGHT] = dtype, tensors[WEIGHT][1]
        write(tmp_path, tensors)
        with pytest.raises(JobUnsupported, match=f"the type {dtype}: only F32"):
            await make(store, "test", files=folder_of(store, tmp_path))


async def test_a_model_that_llama_cpp_does_not_know(store: Store, root: Path) -> None:
    uploads = upload(store, m_gguf=gguf("nonesuch", number("general.file_type", 1), parameters=64))
    before = files(root)
    with pytest.raises(JobFailed, match="unknown model architecture: 'nonesuch'"):
        await make(store, "test", files=uploads, quantize="q8_0")
    assert files(root) == before


async def test_whoever_leaves_takes_the_process_along(store: Store, root: Path) -> None:
    request = CreateRequest(name=name("test"), files=upload(store, m_gguf=F16), quantize="q4_K_M")
    before = files(root)
    async with aclosing(create(store, request, ENVIRON)) as steps:
        async for step in steps:
            if "total" in step:
                break
        assert workers()
    assert not workers()
    assert files(root) == before
    assert not in_the_making(root)


async def test_a_process_that_is_killed(store: Store, root: Path) -> None:
    uploads = upload(store, m_gguf=F16)
    work = asyncio.ensure_future(make(store, "test", files=uploads, quantize="q4_K_M"))
    while not workers():  # noqa: ASYNC110 - nothing tells when a process has started
        await asyncio.sleep(0.01)
    for worker in workers():
        worker.kill()
    with pytest.raises(JobFailed, match="unexpectedly stopped: Killed"):
        await work
    check_whole(root)
    assert not in_the_making(root)


def workers() -> list[psutil.Process]:
    return descendants(os.getpid(), "modelfile.worker")


async def test_the_same_bytes_as_recorded(store: Store) -> None:
    """Unless another compiler rounds differently: then the size is what can be compared."""
    await make(store, "test", files=upload(store, m_gguf=F16), quantize="Q8_0")
    [layer] = manifest(store, "test").of_type(media_types.MODEL)
    assert hashlib.sha256(store.blob_path(layer.digest).read_bytes()).hexdigest() == layer.digest.hex
    assert str(layer.digest) in ROUNDED or layer.size == 4401600


async def test_the_watchdog_of_a_creation_is_the_configured_one(store: Store, root: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    environ = {**ENVIRON, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    request = CreateRequest(name=name("test"), files=upload(store, m_gguf=F16), quantize="bf16")
    with pytest.raises(JobFailed, match=r"no sign of life for 0\.3 s$"):
        _ = [step async for step in create(store, request, environ, watchdog=0.3)]
    assert not in_the_making(root)
