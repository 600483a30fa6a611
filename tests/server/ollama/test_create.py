"""Both forms of the request, on a real store; how errors come; who may name files of this machine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.manifest import Manifest
from registry.names import Digest, ModelName
from registry.storage.store import Store
from server.app import create_app
from server.settings import Settings
from tests.modelfile.convert.checkpoints import files_in
from tests.modelfile.convert.test_fp8 import WEIGHT, checkpoint, write
from tests.modelfile.create.models import ADAPTER, PROJECTOR, TINYCHAT, gguf
from tests.server.fake_engine import FakeEngine

SMALLEST = gguf()
NDJSON = "application/x-ndjson"
EVERYTHING: dict[str, Any] = {
    "model": "rich",
    "from": "tinychat",
    "template": '{{ .System }}\n"q" {{ .Prompt }}',
    "system": ' lead "q"',
    "license": [" MIT", "two\nlines", "trail ", 'plain "quoted"', "", '"'],
    "messages": [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": 'x "y"\nz'}],
    "parameters": {
        "stop": [" x", "y ", "a\nb", 'q"', '"', "\t"],
        "num_ctx": 1048576,
        "temperature": 0.1,
        "mirostat": 2,
    },
    "renderer": "qwen3-coder",
    "parser": "qwen3-coder",
}


async def upload(client: httpx.AsyncClient, data: bytes) -> str:
    digest = str(Digest.of(data))
    assert (await client.post(f"/api/blobs/{digest}", content=data)).is_success
    return digest


async def make(client: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    """The steps of a creation that must succeed."""
    answer = await client.post("/api/create", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON), answer.text
    steps = [json.loads(line) for line in answer.text.splitlines()]
    assert steps[-1] == {"status": "success"}, steps
    return steps


async def refused(client: httpx.AsyncClient, status: int = 400, **body: Any) -> str:
    """The message of a creation that fails before anything is told, streamed or not."""
    answers = [
        await client.post("/api/create", json={"model": "x", **body, "stream": stream}) for stream in (True, False)
    ]
    assert [answer.status_code for answer in answers] == [status, status], answers[0].text
    assert answers[0].json() == answers[1].json()
    return str(answers[0].json()["error"])


async def show(client: httpx.AsyncClient, model: str) -> dict[str, Any]:
    answer = await client.post("/api/show", json={"model": model})
    assert answer.status_code == 200
    return dict(answer.json())


def stored(settings: Settings, model: str) -> Manifest:
    return Store(settings.models).find(ModelName.parse(model)).manifest


async def test_only_the_last_line_without_a_stream(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/create", json={"name": "x", "from": "tinychat", "stream": False})
    assert (answer.status_code, answer.content) == (200, b'{"status":"success"}')
    assert answer.headers["content-type"] == "application/json"


async def test_an_error_after_the_first_line(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"model": "x", "files": {"m.gguf": await upload(client, b"no GGUF")}}
    error = {"error": "supplied file was not in GGUF format"}
    answer = await client.post("/api/create", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON)
    assert [json.loads(line) for line in answer.text.splitlines()] == [{"status": "parsing GGUF"}, error]
    answer = await client.post("/api/create", json={**body, "stream": False})
    assert (answer.status_code, answer.json()) == (400, error)
    assert answer.headers["content-type"] == "application/json"


async def test_a_checkpoint_of_a_type_that_is_not_supported(client: httpx.AsyncClient, tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path)
    tensors[WEIGHT] = "I8", tensors[WEIGHT][1]
    write(tmp_path, tensors)
    files = {name: await upload(client, path.read_bytes()) for name, path in files_in(tmp_path).items()}
    answer = await client.post("/api/create", json={"model": "x", "files": files, "stream": False})
    supported = "only F32, F16, BF16, F8_E4M3 and F8_E5M2 can be converted"
    assert answer.status_code == 400
    assert answer.json() == {"error": f"tensor '{WEIGHT}' has the type I8: {supported}"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": ""}, "invalid model name"),
        ({"model": " x"}, "invalid model name"),
        ({"from": "foo:"}, "invalid model name"),
        ({"from": "x:local:cloud"}, "invalid model name"),
        ({}, "neither 'from' or 'files' was specified"),
        ({"files": {}}, "unknown type"),
        ({"from": "tinychat", "adapters": {}}, "unknown type"),
        ({"from": "tinychat", "draft_files": {}}, "unknown type"),
        ({"files": {"m.gguf": "sha256:zz"}}, "invalid digest format"),
        ({"from": "tinychat", "files": {"/m.gguf": str(Digest.of(b""))}}, "file path must be relative"),
        ({"from": "tinychat", "adapters": {"../m.gguf": str(Digest.of(b""))}}, "file path must be relative"),
        ({"files": {"m.gguf": str(Digest("2" * 64))}}, f"open sha256-{'2' * 64}: no such file or directory"),
        ({"from": "tinychat", "license": [1]}, "json: cannot unmarshal number into Go value of type string"),
        ({"from": "tinychat", "license": {}}, "json: cannot unmarshal object into Go value of type []string"),
        ({"from": "tinychat", "parameters": {"stop": 1}}, 'option "stop" must be of type array'),
        ({"from": "tinychat", "quantize": "q9"}, "unsupported quantization type Q9 - supported types are F32, F16, "),
        ({"modelfile": "SYSTEM x"}, "no FROM line"),
        ({"modelfile": "FROM x\nBAD y"}, "(line 2): command must be one of "),
        ({"modelfile": "FROM x\nPARAMETER top_k a"}, "invalid int value [a]"),
        ({"modelfile": "FROM @sha256:zz"}, "invalid digest format"),
        ({"modelfile": "FROM /no/such/file"}, "invalid model reference: /no/such/file"),
        ({"modelfile": "FROM tinychat\nADAPTER nowhere"}, "invalid model reference: nowhere"),
        ({"path": "/no/such/file"}, "error reading modelfile: no such file or directory"),
        ({"path": "/dev/zero"}, "error reading modelfile: no such file or directory"),
    ],
)
async def test_refusals(client: httpx.AsyncClient, body: dict[str, Any], message: str) -> None:
    assert (await refused(client, **body)).startswith(message)


async def test_a_model_of_a_cloud(client: httpx.AsyncClient) -> None:
    assert "cloud is disabled" in await refused(client, 403, **{"from": "x:cloud"})


async def test_a_model_that_has_to_be_pulled(client: httpx.AsyncClient) -> None:
    """Nothing listens on port 1; where something does, the tests of the registry tell."""
    answer = await client.post("/api/create", json={"model": "x", "from": "127.0.0.1:1/library/far", "system": "Hi"})
    first, last = [json.loads(line) for line in answer.text.splitlines()]
    assert first == {"status": "pulling manifest"}
    assert last["error"].startswith("pull model manifest: ")
    assert (await client.post("/api/show", json={"model": "x"})).status_code == 404


async def test_weights_that_are_quantised_already(client: httpx.AsyncClient) -> None:
    message = "quantization is only supported for F16, BF16 and F32 models"
    assert await refused(client, **{"from": "tinychat", "quantize": "q4_0"}) == message
    digest = await upload(client, TINYCHAT.read_bytes())
    assert await refused(client, files={"m.gguf": digest}, quantize="q4_0") == message


async def test_from_wins_over_files(client: httpx.AsyncClient, settings: Settings) -> None:
    await make(client, model="x", **{"from": "tinychat", "files": {"m.gguf": str(Digest.of(b"nobody sent this"))}})
    assert stored(settings, "x").layers[0].digest == Digest.of(TINYCHAT.read_bytes())


async def test_the_shown_modelfile_makes_the_same_model(client: httpx.AsyncClient, settings: Settings) -> None:
    await make(client, **EVERYTHING)
    first = await show(client, "rich")
    await make(client, model="again", modelfile=first["modelfile"])
    wanted, found = stored(settings, "rich"), stored(settings, "again")
    assert [layer.digest for layer in found.layers] == [layer.digest for layer in wanted.layers]
    assert found.config.digest == wanted.config.digest
    second = await show(client, "again")
    assert second["modelfile"] == first["modelfile"].replace("rich:latest", "again:latest")
    await make(client, model="derived", modelfile=first["modelfile"].replace(_source(first["modelfile"]), "rich"))
    assert {layer.digest for layer in stored(settings, "derived").layers} == {layer.digest for layer in wanted.layers}


def _source(modelfile: str) -> str:
    return next(line for line in modelfile.splitlines() if line.startswith("FROM ")).removeprefix("FROM ")


class TestOldForm:
    """A Modelfile as a text."""

    async def test_a_name_and_a_system_prompt(self, client: httpx.AsyncClient) -> None:
        steps = await make(client, name="mario", modelfile="FROM tinychat\nSYSTEM You are mario")
        assert [step["status"].partition(" sha")[0] for step in steps] == [
            "using existing layer",
            "creating new layer",
            "writing manifest",
            "success",
        ]
        assert (await show(client, "mario"))["system"] == "You are mario"

    @pytest.mark.parametrize("form", ["@sha256:{}", "@sha256-{}", "key.gguf"])
    async def test_an_upload(self, client: httpx.AsyncClient, settings: Settings, form: str) -> None:
        digest = await upload(client, SMALLEST)
        steps = await make(
            client,
            model="x",
            modelfile=f"FROM {form.format(digest.removeprefix('sha256:'))}",
            files={"key.gguf": digest},
        )
        assert steps[0] == {"status": "parsing GGUF"}
        assert str(stored(settings, "x").layers[0].digest) == digest

    async def test_fields_of_the_request_count_more(self, client: httpx.AsyncClient) -> None:
        modelfile = "FROM tinychat\nSYSTEM a\nLICENSE L\nPARAMETER top_k 1\nPARAMETER seed 1\nMESSAGE user m"
        await make(client, model="x", modelfile=modelfile, system="b", parameters={"top_k": 2})
        shown = await show(client, "x")
        assert (shown["system"], shown["license"], shown["messages"]) == ("b", "L", [{"role": "user", "content": "m"}])
        assert [line.split() for line in shown["parameters"].splitlines()] == [["seed", "1"], ["top_k", "2"]]

    async def test_the_last_name_counts_and_files_add_to_it(
        self, client: httpx.AsyncClient, settings: Settings
    ) -> None:
        await make(client, model="other", **{"from": "tinychat", "system": "o"})
        projector, adapter = await upload(client, PROJECTOR), await upload(client, ADAPTER)
        modelfile = f"FROM other\nFROM tinychat\nFROM @{projector}\nADAPTER @{adapter}\nADAPTER @{adapter}"
        await make(client, model="x", modelfile=modelfile)
        kinds = [layer.media_type.rpartition(".")[2] for layer in stored(settings, "x").layers]
        assert kinds == ["model", "projector", "adapter", "adapter"]
        weights = await upload(client, SMALLEST)
        message = await refused(client, modelfile=f"FROM tinychat\nFROM @{weights}")
        assert message == f"invalid model reference: @{weights}"

    async def test_a_name_before_a_file(
        self, client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        """Of a stored model, that is; a model that would have to be pulled comes after the files."""
        monkeypatch.chdir(tmp_path)
        for name in ("tinychat", "unknown"):
            (tmp_path / name).write_bytes(SMALLEST)
            await make(client, model=f"from-{name}", modelfile=f"FROM {name}")
        assert stored(settings, "from-tinychat").layers[0].size > len(SMALLEST)
        assert stored(settings, "from-unknown").layers[0].size == len(SMALLEST)


class TestFilesOfThisMachine:
    """Who is at this machine may name its files, unless that is forbidden; nobody else may."""

    @pytest.fixture
    def modelfile(self, tmp_path: Path) -> Path:
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        (folder / "m.gguf").write_bytes(SMALLEST)
        (folder / "Modelfile").write_text("FROM ./m.gguf\nSYSTEM from a file")
        return folder / "Modelfile"

    @pytest.fixture
    async def stranger(self, settings: Settings, engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=create_app(settings, engine, engine.models), client=("192.0.2.1", 9))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
            yield client

    async def test_a_path(self, client: httpx.AsyncClient, modelfile: Path) -> None:
        await make(client, model="x", path=str(modelfile))
        assert (await show(client, "x"))["system"] == "from a file"

    async def test_a_working_directory_that_has_been_deleted(
        self, client: httpx.AsyncClient, modelfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        await make(client, model="x", path=str(modelfile))
        await make(client, model="x", modelfile="FROM tinychat\nSYSTEM text")
        await make(client, model="x", modelfile=f"FROM {modelfile.parent / 'm.gguf'}")
        text = "the working directory has been deleted, so the path must be absolute"
        assert await refused(client, path="Modelfile") == f"open Modelfile: {text}"
        for source in ("./m.gguf", ".", "../elsewhere/m.gguf"):
            assert await refused(client, modelfile=f"FROM {source}") == f"invalid model reference: {source}"

    async def test_a_path_beside_a_text(self, client: httpx.AsyncClient, modelfile: Path) -> None:
        await make(client, model="x", path=str(modelfile), modelfile="FROM m.gguf\nSYSTEM text")
        assert (await show(client, "x"))["system"] == "text"

    async def test_nothing_is_left_of_a_file_that_is_no_model(
        self, client: httpx.AsyncClient, modelfile: Path, settings: Settings
    ) -> None:
        assert await refused(client, modelfile=f"FROM {modelfile}") == "unknown type"
        assert not [path for path in settings.models.rglob("*") if path.is_file()]

    async def test_a_stranger(self, stranger: httpx.AsyncClient, modelfile: Path) -> None:
        source = str(modelfile.with_name("m.gguf"))
        assert await refused(stranger, path=str(modelfile)) == f"invalid model reference: {modelfile}"
        assert await refused(stranger, modelfile=f"FROM {source}") == f"invalid model reference: {source}"
        await make(stranger, model="x", modelfile="FROM tinychat")

    async def test_where_it_is_forbidden(self, settings: Settings, engine: FakeEngine, modelfile: Path) -> None:
        app = create_app(replace(settings, local_paths=False), engine, engine.models)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
            assert await refused(client, path=str(modelfile)) == f"invalid model reference: {modelfile}"


async def test_requests_without_measure(client: httpx.AsyncClient, settings: Settings) -> None:
    assert await refused(client, model="m", **{"from": "tinychat", "license": ["x"] * 20_000}) == (
        "too many licenses: 20000, at most 64 are accepted"
    )
    text = "FROM tinychat\n" + "LICENSE x\n" * 65
    assert await refused(client, model="m", modelfile=text) == "too many licenses: 65, at most 64 are accepted"
    assert not list(settings.models.rglob(Digest.of(b"x").filename))
