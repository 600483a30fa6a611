"""What a model is said to be."""

import pytest

from modelfile.create.config import make_config, own_stops
from modelfile.create.request import CreateRequest
from modelfile.create.transaction import ModelPart, existing
from registry import manifest as media_types
from registry.gguf import GGUFHeader
from registry.manifest import DraftConfig, Layer, ModelConfig
from registry.names import Digest
from tests.modelfile.create.models import name

REQUEST = CreateRequest(name=name("x"))


def part(architecture: str, kind: str = media_types.MODEL, file_type: int = 7) -> ModelPart:
    metadata = {"general.architecture": architecture, "general.file_type": file_type}
    return existing(Layer(kind, Digest.of(b""), 1), GGUFHeader(3, metadata, (), 0))


def request(**fields: object) -> CreateRequest:
    return CreateRequest(name=name("x"), **fields)  # type: ignore[arg-type]


def test_the_first_weights_decide_and_all_are_families() -> None:
    config = make_config(REQUEST, [part("a"), part("b", file_type=1), part("c", media_types.DRAFT)], ModelConfig())
    assert (config.model_format, config.model_family, config.file_type, config.model_type) == ("gguf", "a", "Q8_0", "0")
    assert config.model_families == ("a", "b")
    assert config.draft == DraftConfig(model_format="gguf", architecture="c")


def test_without_weights() -> None:
    config = make_config(REQUEST, [], ModelConfig())
    assert config.encode() == (
        b'{"model_format":"","model_family":"","model_families":null,"model_type":"","file_type":"",'
        b'"architecture":"amd64","os":"linux"}\n'
    )


@pytest.mark.parametrize(
    ("architecture", "fields", "renderer", "parser", "stops"),
    [
        ("llama", {}, "", "", []),
        ("gemma4", {}, "gemma4", "gemma4", ["<turn|>"]),
        ("gemma4", {"renderer": "r"}, "r", "gemma4", ["<turn|>"]),
        ("gemma4", {"renderer": "r", "parser": "p"}, "r", "p", []),
        ("gemma4", {"parameters": {"stop": ["x"]}}, "gemma4", "gemma4", []),
        ("laguna", {}, "laguna", "laguna", []),
        ("nemotron_h_moe", {}, "nemotron-3-nano", "nemotron-3-nano", []),
    ],
)
def test_formats_of_their_own(
    architecture: str, fields: dict[str, object], renderer: str, parser: str, stops: list[str]
) -> None:
    wanted, parts = request(**fields), [part(architecture)]
    config = make_config(wanted, parts, ModelConfig())
    assert (config.renderer, config.parser) == (renderer, parser)
    assert own_stops(wanted, parts, ModelConfig()) == stops


def test_what_was_inherited_gives_way() -> None:
    inherited = ModelConfig(model_format="f", renderer="r", parser="p", requires="1.0", capabilities=("a",))
    config = make_config(request(renderer="r2", info={"capabilities": ["b"]}), [part("x")], inherited)
    assert (config.model_format, config.renderer, config.parser, config.requires) == ("f", "r2", "p", "1.0")
    assert config.capabilities == ("a", "b")
