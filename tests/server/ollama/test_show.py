"""Everything that is known about a model."""

import httpx
import pytest

from registry.names import Digest
from server.app import create_app
from server.settings import Settings
from tests.modelfile.create.models import ADAPTER, gguf
from tests.server.fake_engine import FakeEngine


async def show(client: httpx.AsyncClient, **body: object) -> httpx.Response:
    return await client.post("/api/show", json={"model": "tinychat", **body})


async def test_keys_and_their_order(client: httpx.AsyncClient) -> None:
    body = (await show(client)).json()
    assert list(body) == [
        "modelfile",
        "template",
        "details",
        "model_info",
        "tensors",
        "capabilities",
        "modified_at",
    ]
    assert body["details"]["parameter_size"] == "4.07M"
    assert sorted(body["capabilities"]) == ["completion", "insert", "thinking", "tools"]


async def test_what_has_no_template_gets_its_prompt_as_it_is(client: httpx.AsyncClient) -> None:
    digest = Digest.of(weights := gguf())
    await client.post(f"/api/blobs/{digest}", content=weights)
    await client.post("/api/create", json={"model": "bare", "files": {"x.gguf": str(digest)}})
    assert (await show(client, model="bare")).json()["template"] == "{{ .Prompt }}"


@pytest.mark.parametrize(("address", "is_told"), [("127.0.0.1", True), ("::1", True), ("192.0.2.7", False)])
async def test_only_this_machine_is_told_where_files_are(
    settings: Settings, engine: FakeEngine, address: str, is_told: bool
) -> None:
    app = create_app(settings, engine, engine.models)
    transport = httpx.ASGITransport(app=app, client=(address, 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
        answer = await show(client)
        assert (str(settings.models) in answer.text) is is_told
        lines = answer.json()["modelfile"].splitlines()
        assert ("FROM tinychat:latest" in lines) is not is_told
        made = await client.post("/api/create", json={"model": "again", "modelfile": "\n".join(lines)})
        assert (made.status_code, "success" in made.text) == (200, True)


async def test_model_info(client: httpx.AsyncClient) -> None:
    answer = await show(client)
    info = answer.json()["model_info"]
    assert list(info) == sorted(info)
    assert info["general.parameter_count"] == 4067328
    assert info["tokenizer.ggml.tokens"] is None
    assert not {"general.name", "tokenizer.chat_template"} & set(info)
    assert '"qwen3.attention.layer_norm_rms_epsilon":0.000001,' in answer.text


async def test_verbose_has_the_arrays(client: httpx.AsyncClient) -> None:
    info = (await show(client, verbose=True)).json()["model_info"]
    assert len(info["tokenizer.ggml.tokens"]) == 2048
    assert all(isinstance(token, str) for token in info["tokenizer.ggml.tokens"])


async def test_tensors_outside_the_blocks_come_first(client: httpx.AsyncClient) -> None:
    tensors = (await show(client)).json()["tensors"]
    assert [tensor["name"] for tensor in tensors[:4]] == [
        "output_norm.weight",
        "token_embd.weight",
        "blk.0.attn_k.weight",
        "blk.0.attn_k_norm.weight",
    ]
    assert tensors[1] == {"name": "token_embd.weight", "type": "Q8_0", "shape": [256, 2048]}


async def test_overrides_appear_in_the_modelfile(client: httpx.AsyncClient) -> None:
    body = (await show(client, system="Hi", options={"top_k": 3, "stop": ["a", "b"]})).json()
    assert body["system"] == "Hi"
    assert "parameters" not in body
    lines = body["modelfile"].splitlines()
    assert {"SYSTEM Hi", "PARAMETER top_k 3", "PARAMETER stop a", "PARAMETER stop b"} <= set(lines)


async def test_the_file_tells_its_type_where_the_config_does_not(client: httpx.AsyncClient) -> None:
    for model, stated in (("silent", "unknown"), ("other", "QX")):
        body = {"model": model, "from": "tinychat", "info": {"quantization_level": stated}, "stream": False}
        assert (await client.post("/api/create", json=body)).is_success
    shown = [(await show(client, model=model)).json()["details"] for model in ("silent", "other")]
    assert [details["quantization_level"] for details in shown] == ["Q8_0", "QX"]


async def test_every_part_of_a_model_is_in_the_modelfile(client: httpx.AsyncClient) -> None:
    digests = {}
    for key, data in (("draft_files", gguf()), ("adapters", ADAPTER)):
        digests[key] = {"m.gguf": str(Digest.of(data))}
        assert (await client.post(f"/api/blobs/{Digest.of(data)}", content=data)).is_success
    body = {"model": "rich", "from": "tinychat", "renderer": "lfm2", "parser": "lfm2", "system": "s", **digests}
    assert (await client.post("/api/create", json={**body, "stream": False})).is_success
    lines = (await show(client, model="rich")).json()["modelfile"].splitlines()[4:]
    assert [line.split()[0] for line in lines] == [
        *("FROM", "ADAPTER", "DRAFT", "TEMPLATE", "SYSTEM", "RENDERER", "PARSER")
    ]
    assert lines[1].endswith(Digest.of(ADAPTER).filename)


async def test_copilot_gets_the_name_it_asked_for(client: httpx.AsyncClient) -> None:
    headers = {"User-Agent": "GitHubCopilotChat/1.0"}
    answer = await client.post("/api/show", json={"name": "TINYCHAT"}, headers=headers)
    assert answer.json()["model_info"]["general.basename"] == "TINYCHAT"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "model is required"),
        ({"model": "  "}, 400, "model is required"),
        ({"model": "foo:"}, 400, "invalid model name"),
        ({"model": "a/b/c/d/e:x"}, 400, "invalid model name"),
        ({"model": "zz"}, 404, "model 'zz:latest' not found"),
        ({"name": "u/zz:1"}, 404, "model 'u/zz:1' not found"),
    ],
)
async def test_refusals(client: httpx.AsyncClient, body: dict[str, str], status: int, message: str) -> None:
    answer = await client.post("/api/show", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": message})
