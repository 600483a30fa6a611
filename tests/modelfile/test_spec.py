"""Commands by what they do to a model."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from modelfile.conversation import Message
from modelfile.parser import ModelfileError, decode, parse
from modelfile.spec import ModelSpec, model_spec

RECORDED = json.loads((Path(__file__).parents[1] / "data/golden/create-probes.json").read_text(encoding="utf-8"))
CREATIONS = {probe["id"]: probe for probe in RECORDED if "modelfile" in probe or "modelfile_base64" in probe}
OF_THE_SERVER = {"mf-err-from-comment"}  # its Modelfile is well-formed; the name in it is not
INHERITING = {"mf-inherit-empty", "mf-inherit-replace", "mf-inherit-messages", "mf-replace-messages"}


def read(probe: dict[str, Any]) -> ModelSpec:
    """The recipe of a recorded creation."""
    if "modelfile_base64" in probe:
        return model_spec(parse(decode(base64.b64decode(probe["modelfile_base64"]))))
    return model_spec(parse(decode(probe["modelfile"].encode())))


def layer_texts(probe: dict[str, Any], kind: str) -> list[str]:
    """The texts of one kind of layer of what was created."""
    return [layer["text"] for layer in probe["result"]["layers"] if layer["mediaType"].endswith(f".{kind}")]


@pytest.mark.parametrize("id", [id for id, probe in CREATIONS.items() if probe["result"].get("error")])
def test_recorded_errors(id: str) -> None:
    if id in OF_THE_SERVER:
        assert read(CREATIONS[id]).sources == ["tinychat # c"]
        return
    with pytest.raises(ModelfileError) as error:
        read(CREATIONS[id])
    assert str(error.value) == CREATIONS[id]["result"]["error"]


@pytest.mark.parametrize("id", [id for id, probe in CREATIONS.items() if not probe["result"].get("error")])
def test_recorded_creations(id: str) -> None:
    probe = CREATIONS[id]
    found = read(probe)
    warnings = "".join(f"warning: parameter {name} is deprecated\n" for name in found.deprecated)
    assert warnings == (probe["result"].get("stdout") or "")
    if id in INHERITING:
        return
    assert layer_texts(probe, "system") == ([found.system] if found.system else [])
    assert layer_texts(probe, "template") == ([found.template] if found.template else [])
    assert layer_texts(probe, "license") == found.licenses
    messages = [{"role": message.role, "content": message.content} for message in found.messages]
    assert [json.loads(text) for text in layer_texts(probe, "messages")] == ([messages] if messages else [])
    stored = [json.loads(text) for text in layer_texts(probe, "params")]
    assert stored == ([found.parameters] if found.parameters else [])


def test_what_a_model_has_once() -> None:
    text = "FROM a\nFROM b\nSYSTEM 1\nSYSTEM 2\nRENDERER r\nPARSER p\nREQUIRES v0.14.0\nADAPTER c\nDRAFT d\nLICENSE l"
    assert model_spec(parse(text)) == ModelSpec(
        sources=["a", "b"],
        adapters=["c"],
        drafts=["d"],
        system="2",
        renderer="r",
        parser="p",
        requires="0.14.0",
        licenses=["l"],
    )


def test_messages_keep_their_order() -> None:
    text = 'FROM a\nMESSAGE user x: y\nMESSAGE assistant ""\nMESSAGE user z'
    wanted = [Message("user", "x: y"), Message("assistant", ""), Message("user", "z")]
    assert model_spec(parse(text)).messages == wanted


def test_deprecated_parameters_are_named_and_not_read() -> None:
    found = model_spec(parse("FROM a\nPARAMETER low_vram maybe\nPARAMETER top_k 1"))
    assert (found.deprecated, found.parameters) == (["low_vram"], {"top_k": 1})


@pytest.mark.parametrize("version", ["0.14", "1", "v0.14.0", "0.14.0-rc1+b", "1.0.0-a.1+x.007", "1.0.0--"])
def test_versions(version: str) -> None:
    assert model_spec(parse(f"FROM a\nREQUIRES {version}")).requires == version.removeprefix("v")


@pytest.mark.parametrize(
    "version", ["latest", "", "v", "vv1", "1.2.3.4", "01.2.3", "1.2-rc1", "1.0.0-01", "1.0.0-", "1 2"]
)
def test_no_versions(version: str) -> None:
    with pytest.raises(ModelfileError, match=r"^requires must be a valid semver \(e\.g\. 0\.14\.0\)$"):
        model_spec(parse(f"FROM a\nREQUIRES {version}"))
