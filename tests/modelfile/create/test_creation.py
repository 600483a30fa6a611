"""The workflow on a real store: what is written, what is told, and that nothing is left of what failed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from modelfile.conversation import Message
from modelfile.create import CreateError, CreateRequest, create
from modelfile.parameters import OptionError
from registry import manifest as media_types
from registry.manifest import ManifestError
from registry.names import Digest
from registry.storage.store import BlobMissing, ModelMissing, Store
from tests.modelfile.create.models import (
    ADAPTER,
    ENVIRON,
    PROJECTOR,
    TINYCHAT,
    gguf,
    make,
    manifest,
    name,
    read,
    upload,
)
from tests.registry.stores import blob_names, blobs, check_whole, files, names

SMALLEST = gguf()[:68]
HERE = "using existing layer"
NEW = "creating new layer"


async def test_the_smallest_model(store: Store, root: Path) -> None:
    assert await make(store, "test", files=upload(store, m_gguf=SMALLEST)) == [
        "parsing GGUF",
        f"{HERE} sha256:89a2116c3a82d6a97f59f748d86ed4417214353fd178ee54df418fde32495fad",
        "writing manifest",
        "success",
    ]
    assert blobs(root) == {
        "sha256-89a2116c3a82d6a97f59f748d86ed4417214353fd178ee54df418fde32495fad",
        "sha256-99759ad5b91e723db0393d698ffbb448b1b7df5ff6377a108c49254583b1bc8c",
    }
    [layer] = manifest(store, "test").layers
    assert (layer.media_type, layer.size, layer.from_) == (media_types.MODEL, 68, "")
    assert files(root / "manifests") == {"registry.ollama.ai/library/test/latest"}


async def test_what_was_there_before_goes(store: Store, root: Path) -> None:
    uploads = upload(store, m_gguf=SMALLEST)
    await make(store, "test", files=uploads, template="{{ .Prompt }}")
    assert Digest.of(b"{{ .Prompt }}").filename in blobs(root)
    await make(store, "test", files=uploads, template="{{ .System }} {{ .Prompt }}")
    assert blobs(root) & blob_names(b"{{ .Prompt }}", b"{{ .System }} {{ .Prompt }}") == {
        "sha256-fe7ac77b725cda2ccad03f88a880ecdfd7a33192d6cae08fce2c0ee1455991ed"
    }


async def test_without_pruning_it_stays(store: Store, root: Path) -> None:
    for system in ("one", "two"):
        request = CreateRequest(name=name("test"), files=upload(store, m_gguf=SMALLEST), system=system)
        assert [step async for step in create(store, request, ENVIRON, prune=False)][-1] == {"status": "success"}
    assert blob_names(b"one", b"two") < blobs(root)


async def test_parameters_are_merged(store: Store) -> None:
    first: dict[str, Any] = {"temperature": 1, "top_k": 10, "stop": ["USER:", "ASSISTANT:"]}
    await make(store, "base", files=upload(store, m_gguf=SMALLEST), parameters=first)
    [params] = manifest(store, "base").of_type(media_types.PARAMS)
    assert params.digest.hex == "1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37"
    second: dict[str, Any] = {"temperature": 0.6, "top_p": 0.7, "stop": ["<|endoftext|>"]}
    await make(store, "child", base=name("base"), parameters=second)
    [params] = manifest(store, "child").of_type(media_types.PARAMS)
    assert params.digest.hex == "12f58bb75cb3042d69a7e013ab87fb3c3c7088f50ddc62f0c77bd332f0d44d35"
    assert params.from_ == ""


async def test_what_is_inherited_and_what_is_replaced(store: Store) -> None:
    texts: dict[str, Any] = {"template": "{{ .Prompt }}", "system": "s", "licenses": ("MIT",)}
    await make(store, "Base", files=upload(store, m_gguf=SMALLEST), messages=(Message("user", "hi"),), **texts)
    await make(store, "child", base=name("bASE"), system="new", licenses=("GPL",))
    layers = manifest(store, "child").layers
    assert [(layer.media_type.rpartition(".")[2], layer.from_) for layer in layers] == [
        ("model", "Base:latest"),
        ("template", "Base:latest"),
        ("license", "Base:latest"),
        ("messages", "Base:latest"),
        ("system", ""),
        ("license", ""),
    ]
    assert read(store, "child", media_types.SYSTEM) == ["new"]
    assert read(store, "child", media_types.LICENSE) == ["MIT", "GPL"]


async def test_one_spelling(store: Store, root: Path) -> None:
    for spelling in ("Foo", "foO"):
        await make(store, spelling, files=upload(store, m_gguf=SMALLEST))
    assert names(store) == ["Foo:latest"]


async def test_a_model_and_what_lies_beside_it(store: Store) -> None:
    uploads = upload(store, mmproj_gguf=PROJECTOR, model_gguf=SMALLEST, config_json=b"{}")
    adapters = (upload(store, lora_gguf=ADAPTER),)
    await make(store, "test", files=uploads, adapters=adapters)
    layers = manifest(store, "test").layers
    assert [(layer.media_type, layer.from_) for layer in layers] == [
        (media_types.PROJECTOR, "mmproj.gguf"),
        (media_types.MODEL, ""),
        (media_types.ADAPTER, "lora.gguf"),
    ]
    assert store.read_blob(manifest(store, "test").config.digest, 1 << 20).decode().startswith('{"model_format":"gguf"')


async def test_the_bundled_model_is_installed(store: Store) -> None:
    told = await make(store, "mine", base=name("tinychat"), system="Hi")
    assert len(told) == 4
    assert names(store) == ["mine:latest", "tinychat:latest"]


async def test_a_model_that_is_not_there(store: Store, root: Path) -> None:
    with pytest.raises(ModelMissing):
        await make(store, "mine", base=name("nowhere"), system="Hi")
    assert not names(store)
    assert not blobs(root)


async def test_it_is_pulled_if_that_can_be_done(store: Store) -> None:
    async def pull(wanted: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"status": "pulling manifest"}
        await make(store, wanted.shortest, files=upload(store, m_gguf=SMALLEST))
        yield {"status": "success"}

    request = CreateRequest(name=name("mine"), base=name("far"))
    told = [step["status"] async for step in create(store, request, ENVIRON, pull=pull)]  # type: ignore[arg-type]
    assert told[0] == "pulling manifest"
    assert told.count("success") == 1
    assert names(store) == ["far:latest", "mine:latest"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGUF", "unexpected EOF"),
        (b"no GGUF", "supplied file was not in GGUF format"),
        (gguf(parameters=100)[:-1], 'tensor "t" offset\\+size .* exceeds file size'),
        (SMALLEST[:50], "unexpected EOF"),
    ],
)
async def test_a_broken_file_leaves_nothing(store: Store, root: Path, data: bytes, message: str) -> None:
    uploads = upload(store, m_gguf=data)
    before = files(root)
    with pytest.raises(CreateError, match=message):
        await make(store, "test", files=uploads, system="never written")
    assert files(root) == before


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"base": "tinychat", "quantize": "q9"}, ValueError, "unsupported quantization type Q9 - supported types are"),
        ({"base": "tinychat", "quantize": "q4_0"}, ValueError, "quantization is only supported for F16, BF16 and F32"),
        ({"base": "tinychat", "template": "{{ .A"}, CreateError, "template error: template: :1: unclosed action"),
        ({"base": "tinychat", "parameters": {"num_ctx": "a"}}, OptionError, 'option "num_ctx" must be of type integer'),
        ({"base": "tinychat", "info": {"base_name": 1}}, CreateError, 'info field "base_name" must be a string'),
        ({"base": "tinychat", "draft_quantize": "F16"}, CreateError, "--draft-quantize requires a DRAFT model"),
        ({}, CreateError, "neither 'from' or 'files' was specified"),
        ({"files": {}}, CreateError, "unknown type"),
        ({"files": {"../m.gguf": b""}}, CreateError, "file path must be relative"),
        ({"files": {"a.bin": b"abc"}}, CreateError, "unknown type"),
        ({"files": {"m.gguf": Digest("2" * 64)}}, CreateError, "open sha256-2222.*: no such file or directory"),
        ({"base": "tinychat", "adapters": {"a.gguf": SMALLEST}}, CreateError, "supplied file was not an adapter"),
        ({"base": "tinychat", "adapters": {"a.gguf": ADAPTER, "b.gguf": PROJECTOR}}, CreateError, "only one adapter"),
    ],
)
async def test_refusals(store: Store, root: Path, fields: dict[str, Any], error: type[Exception], message: str) -> None:
    base = name(fields["base"]) if "base" in fields else None
    uploads = {key: uploaded(store, fields[key]) for key in ("files", "adapters") if key in fields}
    if "adapters" in uploads:
        uploads["adapters"] = (uploads["adapters"],)
    with pytest.raises(error, match=message):
        await make(store, "test", **{**fields, **uploads, "base": base})
    assert "test:latest" not in names(store)
    check_whole(root)


def uploaded(store: Store, sources: dict[str, bytes | Digest]) -> Any:
    """The files as a request names them; a digest stands for a file that nobody sent."""
    return {file: store.add_blob(data).digest if isinstance(data, bytes) else data for file, data in sources.items()}


async def test_a_damaged_base(store: Store, root: Path) -> None:
    await make(store, "base", files=upload(store, m_gguf=SMALLEST), system="gone")
    store.blob_path(Digest.of(b"gone")).unlink()
    with pytest.raises(BlobMissing):
        await make(store, "test", base=name("base"))
    next((root / "manifests").rglob("latest")).write_bytes(b"{")
    with pytest.raises(ManifestError):
        await make(store, "test", base=name("base"))
    await make(store, "base", files=upload(store, m_gguf=SMALLEST))
    assert names(store) == ["base:latest"]


@pytest.mark.parametrize("count", range(6))
async def test_closed_early_it_is_made_or_not(store: Store, root: Path, count: int) -> None:
    request = CreateRequest(name=name("test"), files=upload(store, m_gguf=SMALLEST), system="s", licenses=("MIT",))
    before = files(root)
    async with aclosing(create(store, request, ENVIRON)) as steps:
        for _ in range(count):
            await anext(steps)
    assert files(root) == before or names(store) == ["test:latest"]
    check_whole(root)
    await make(store, "test", files=request.files)
    assert names(store) == ["test:latest"]


async def test_blobs_are_kept_while_it_runs(store: Store, root: Path) -> None:
    """Another model that has the same system prompt is deleted in the middle of it."""
    uploads = upload(store, m_gguf=SMALLEST)
    await make(store, "other", files=uploads, system="shared")
    request = CreateRequest(name=name("test"), base=name("other"))
    async with aclosing(create(store, request, ENVIRON)) as steps:
        assert (await anext(steps))["status"].startswith(HERE)
        await asyncio.to_thread(store.delete, name("other"))
        assert [step["status"] async for step in steps][-1] == "success"
    assert read(store, "test", media_types.SYSTEM) == ["shared"]
    check_whole(root)


async def test_many_at_once(store: Store, root: Path) -> None:
    uploads = upload(store, m_gguf=TINYCHAT)
    await asyncio.gather(*(make(store, f"m{i % 3}", files=uploads, system=f"s{i}") for i in range(9)))
    assert names(store) == ["m0:latest", "m1:latest", "m2:latest"]
    check_whole(root)
