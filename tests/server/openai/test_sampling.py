"""Options in a body: by their own fields, among them, and in `options`."""

import json
from typing import Any

import pytest

from modelfile.parameters import PARAMETERS, check
from server.http.body import FieldError, decode
from server.openai.sampling import OptionFields, Stop


class Fields(OptionFields):
    go = "openai.Fields"

    temperature: float | None = None
    stop: Stop = None


def read(**fields: Any) -> Fields:
    return decode(json.dumps(fields).encode(), Fields)


def test_each_option_may_stand_among_the_fields() -> None:
    sent = {
        name: {"array": ["a"], "boolean": True, "map": {"1": 2}}.get(row.type, 1) for name, row in PARAMETERS.items()
    }
    assert read(**sent).options_with({}) == sent
    assert set(check(read(**sent).options_with({}))) == set(PARAMETERS)


def test_what_counts_first() -> None:
    body = read(
        options={"top_k": 1, "min_p": 0.5, "seed": 1}, TOP_K=2, temperature=None, repetition_penalty=1.5, n_predict=4
    )
    assert body.options_with({"seed": 3, "stop": None}) == {
        "top_k": 2,
        "min_p": 0.5,
        "seed": 3,
        "repeat_penalty": 1.5,
        "num_predict": 4,
    }


@pytest.mark.parametrize(("stop", "texts"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([], []), (None, None)])
def test_stop(stop: Any, texts: Any) -> None:
    assert read(stop=stop).stop == texts


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"stop": 5}, "invalid type for 'stop' field: float64", "stop"),
        ({"stop": ["a", 5]}, "invalid type for 'stop' field: float64", "stop"),
        (
            {"temperature": "hot"},
            "json: cannot unmarshal string into Go struct field Fields.temperature of type float64",
            "temperature",
        ),
        ({"keep_alive": "5"}, 'time: missing unit in duration "5"', "keep_alive"),
    ],
)
def test_refusals(fields: Any, message: str, param: str) -> None:
    with pytest.raises(FieldError) as caught:
        read(**fields)
    assert (str(caught.value), caught.value.param) == (message, param)


def test_the_document_has_all_options() -> None:
    properties = Fields.model_json_schema()["properties"]
    assert {*PARAMETERS, "repetition_penalty", "options"} < set(properties)
    assert properties["top_k"] == {"type": "integer", "description": PARAMETERS["top_k"].doc}
    assert properties["temperature"]["anyOf"][0] == {"type": "number"}
