"""The examples of docs/structured-outputs.md work as they stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from tests.serving import GREEDY, ROOT, Served, serving

TEXT = (ROOT / "docs" / "structured-outputs.md").read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
FITS = {
    "regex": r"(18|19)\d\d-(0[1-9]|1[0-2])-\d\d",
    "choice": "good|bad|neither",
    "gbnf": r"[-0-9+*/()]+ = [0-9]{1,4}",
    "lark": r"[0-9]{1,3}( *\+ *[0-9]{1,3})+",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served") / "models") as served:
        yield served


def test_there_is_an_example_of_each_form() -> None:
    assert [example["format"]["type"] for example in EXAMPLES] == ["object", *FITS]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["format"]["type"])
def test_example(served: Served, example: dict[str, Any]) -> None:
    answer = httpx.post(
        f"{served.url}/api/generate", json=example | {"options": GREEDY | {"num_predict": 200}}, timeout=120
    )
    assert answer.status_code == 200, answer.text
    content = answer.json()["response"]
    if example["format"]["type"] in FITS:
        assert re.fullmatch(FITS[example["format"]["type"]], content)
    else:
        jsonschema.validate(json.loads(content), example["format"])


def test_the_openapi_document_has_all_forms(served: Served) -> None:
    schemas = httpx.get(f"{served.url}/openapi.json").json()["components"]["schemas"]
    forms = {
        choice.get("$ref", "").rpartition("/")[2] for choice in schemas["ChatBody"]["properties"]["format"]["anyOf"]
    }
    kinds = {schemas[name]["properties"]["type"]["const"] for name in forms if name}
    assert kinds == set(FITS)
