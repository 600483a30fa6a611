"""The texts of show, compared with those that a real Ollama gave for the same model."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.api import Message
from engine.model import Model
from registry.names import ModelName
from server.ollama.modelfile_text import format_number, modelfile, parameter_lines

RECORDED = Path(__file__).parents[2] / "data" / "golden" / "http.json"
PARAMETERS = {"num_ctx": 512, "repeat_penalty": 1, "seed": 1, "stop": ["<|im_end|>", "<|im_start|>"], "temperature": 0}


def recorded(id_: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request and the answer of a recorded case."""
    cases = {case["id"]: case for case in json.loads(RECORDED.read_text())}
    return cases[id_]["body"], cases[id_]["response"]["json"]


def model_of(request: dict[str, Any], shown: dict[str, Any], template: str | None) -> Model:
    """The parts of a model that its Modelfile is made of."""
    weights = next(line for line in shown["modelfile"].splitlines() if line.startswith("FROM ")).removeprefix("FROM ")
    return cast(
        Model,
        SimpleNamespace(
            name=ModelName.parse(request["model"]),
            weights=Path(weights),
            adapters=(),
            drafts=(),
            projectors=(),
            template=template,
            license=tuple(text for text in [shown.get("license")] if text),
            messages=tuple(Message(**message) for message in shown.get("messages", [])),
            config=SimpleNamespace(renderer="", parser=""),
        ),
    )


def template_in(text: str) -> str:
    return text.partition('TEMPLATE """')[2].partition('"""')[0]


@pytest.mark.parametrize("id_", ["show-go", "show-msgs", "show-system-override"])
def test_modelfile(id_: str) -> None:
    request, shown = recorded(id_)
    model = model_of(request, shown, template_in(shown["modelfile"]))
    text = modelfile(model, shown["system"], {**PARAMETERS, **request.get("options", {})}, paths=True)
    assert sorted(text.splitlines()) == sorted(shown["modelfile"].splitlines())
    assert text.endswith("\n")


def test_modelfile_without_a_template() -> None:
    request, shown = recorded("show")
    assert modelfile(model_of(request, shown, None), "", {}, paths=True) == shown["modelfile"]


def test_parameter_lines() -> None:
    _, shown = recorded("show-go")
    assert sorted(parameter_lines(PARAMETERS).splitlines()) == sorted(shown["parameters"].splitlines())


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (1_000_000, "x                              1e+06"),
        (0.9, "x                              0.9"),
        (True, "x                              true"),
        ('a"\n', 'x                              "a\\"\\n"'),
    ],
)
def test_parameter_values(value: object, line: str) -> None:
    assert parameter_lines({"x": value}) == line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (42, "42"),
        (0.9, "0.9"),
        (131072, "131072"),
        (1e6, "1e+06"),
        (1048576, "1.048576e+06"),
        (1e-5, "1e-05"),
        (0.0001, "0.0001"),
        (-1, "-1"),
        (0, "0"),
        (1e100, "1e+100"),
        (math.inf, "+Inf"),
    ],
)
def test_format_number(value: float, shown: str) -> None:
    assert format_number(value) == shown
