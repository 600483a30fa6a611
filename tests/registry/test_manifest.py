"""Manifests and configs, byte for byte as Ollama writes them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.manifest import (
    CONFIG,
    MAX_BYTES,
    MAX_LAYERS,
    MODEL,
    SYSTEM,
    TENSOR,
    DraftConfig,
    Layer,
    Manifest,
    ManifestError,
    ModelConfig,
)
from registry.names import Digest

DATA = Path(__file__).parents[1] / "data"
WRITTEN = sorted(path for path in (DATA / "ollama-store" / "manifests").rglob("*") if path.is_file())
PROBES = json.loads((DATA / "golden" / "create-probes.json").read_text())
CONFIGS = sorted({probe["result"]["config"] for probe in PROBES if "config" in probe["result"]})
LAYER: dict[str, Any] = {"mediaType": MODEL, "digest": str(Digest.of(b"")), "size": 1}


def layer(data: bytes, media_type: str = MODEL) -> Layer:
    return Layer(media_type, Digest.of(data), len(data))


def manifest(**changes: Any) -> bytes:
    return json.dumps({"config": LAYER, "layers": [LAYER], **changes}).encode()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.parent.name)
def test_manifests_of_ollama(path: Path) -> None:
    data = path.read_bytes()
    decoded = Manifest.decode(data)
    assert decoded.encode() == data
    assert decoded.layers[0].media_type == MODEL


def test_what_ollama_wrote_is_there() -> None:
    assert (len(WRITTEN), len(CONFIGS)) == (3, 11)


def test_a_manifest() -> None:
    made = Manifest(layer(b"c", CONFIG), (layer(b"abc"), Layer(SYSTEM, Digest.of(b"d"), 1, "x:latest", "a<b")))
    c, abc, d = (Digest.of(data) for data in (b"c", b"abc", b"d"))
    assert made.encode().decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        f'"config":{{"mediaType":"{CONFIG}","digest":"{c}","size":1}},'
        f'"layers":[{{"mediaType":"{MODEL}","digest":"{abc}","size":3}},'
        f'{{"mediaType":"{SYSTEM}","digest":"{d}","size":1,"from":"x:latest","name":"a\\u003cb"}}]}}\n'
    )
    assert Manifest.decode(made.encode()) == made
    assert made.size == 5
    assert made.digests == {c, abc, d}
    assert made.of_type(SYSTEM) == (made.layers[1],)


def test_no_layers_are_null() -> None:
    made = Manifest(layer(b"c", CONFIG), ())
    assert made.encode().endswith(b',"layers":null}\n')
    assert Manifest.decode(made.encode()) == made
    assert Manifest.decode(manifest(layers=[])).layers == ()


def test_a_layer_that_is_there_twice_counts_twice() -> None:
    assert Manifest(layer(b"c"), (layer(b"ab"), layer(b"ab"))).size == 5


def test_unknown_fields_are_ignored_and_upper_case_is_folded() -> None:
    shouted = {**LAYER, "digest": "sha256:" + Digest.of(b"").hex.upper(), "annotations": {"a": [1]}}
    decoded = Manifest.decode(manifest(layers=[shouted], schemaVersion=9, subject=None))
    assert decoded.layers[0].digest == Digest.of(b"")


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"null", b"[]", b"7", b"\xff", b"{" * 5000, b"[" * 100_000, b'{"config":'),
        manifest()[:-1],
        manifest() + b"x",
        manifest(config=None),
        manifest(layers={}),
        manifest(layers=[None]),
        manifest(layers=[LAYER] * (MAX_LAYERS + 1)),
        *(manifest(layers=[{**LAYER, "digest": digest}]) for digest in ("", "../../x", "sha256:..", 7, None)),
        *(manifest(layers=[{**LAYER, "size": size}]) for size in (-1, 2**63, 1.5, "1", None)),
        *(manifest(layers=[{key: LAYER[key] for key in LAYER if key != missing}]) for missing in LAYER),
        manifest(layers=[{**LAYER, "from": 1}]),
        b'{"config":{"mediaType":"\xff","digest":"' + str(Digest.of(b"")).encode() + b'","size":1}}',
        manifest() + b" " * MAX_BYTES,
    ],
    ids=lambda data: str(data[:60]),
)
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^invalid manifest: "):
        Manifest.decode(data)


def test_a_model_of_many_tensors_is_a_model() -> None:
    tensors = [{**LAYER, "mediaType": TENSOR, "name": f"t{number}"} for number in range(2000)]
    assert len(Manifest.decode(manifest(layers=[LAYER] * MAX_LAYERS + tensors)).layers) == MAX_LAYERS + 2000


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b'{"config":', b'{"digest":"', b"}", b"\xff", b"1"])).map(b"".join)
)
def test_only_one_error(data: bytes) -> None:
    for kind in (Manifest, ModelConfig):
        try:
            kind.decode(data)
        except ManifestError:
            continue


@pytest.mark.parametrize("text", CONFIGS)
def test_configs_of_ollama(text: str) -> None:
    assert ModelConfig.decode(text.encode()).encode().rstrip(b"\n") == text.encode().rstrip(b"\n")


def test_the_config_of_the_smallest_model() -> None:
    config = ModelConfig(
        model_format="gguf", model_family="test", model_families=("test",), model_type="0", file_type="unknown"
    )
    data = config.encode()
    assert len(data) == 147
    assert Digest.of(data).hex == "99759ad5b91e723db0393d698ffbb448b1b7df5ff6377a108c49254583b1bc8c"


def test_a_config_with_everything() -> None:
    config = ModelConfig(
        renderer="r",
        parser="p",
        requires="1.0.0",
        remote_host="h",
        remote_model="m",
        capabilities=("tools",),
        context_length=1,
        embedding_length=2,
        base_name="b",
        draft=DraftConfig(model_format="gguf", config="c"),
    )
    assert config.encode() == (
        b'{"model_format":"","model_family":"","model_families":null,"model_type":"","file_type":"","renderer":"r",'
        b'"parser":"p","requires":"1.0.0","remote_host":"h","remote_model":"m","capabilities":["tools"],'
        b'"context_length":1,"embedding_length":2,"base_name":"b","draft":{"model_format":"gguf","config":"c"},'
        b'"architecture":"amd64","os":"linux"}\n'
    )
    assert ModelConfig.decode(config.encode()) == config


def test_a_config_of_an_older_ollama() -> None:
    data = b'{"model_format":"gguf","model_families":null,"rootfs":{"type":"layers","diff_ids":["sha256:x"]}}'
    assert ModelConfig.decode(data) == ModelConfig(model_format="gguf")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"model_format":1}', b'{"capabilities":"x"}', b"{}" + b" " * MAX_BYTES])
def test_what_is_no_config(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^invalid model config: "):
        ModelConfig.decode(data)
