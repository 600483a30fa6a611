"""What a model does that really writes: its tokens lie close together, and its context is long enough to grow.

Where the tests of a room use the bundled model, its best token stands far before the others and 1,024 tokens are all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema
import pytest

from tests.serving import GREEDY, LOOPBACK, PATIENCE, Served, serving
from tests.writing import store_writer

SAMPLED = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
STORY = "Write a short story about a lighthouse."
CAPITALS = {
    "Spain": "Madrid",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Poland": "Warsaw",
    "Greece": "Athens",
    "Portugal": "Lisbon",
    "Austria": "Vienna",
    "Japan": "Tokyo",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Egypt": "Cairo",
    "Russia": "Moscow",
    "Hungary": "Budapest",
    "Ireland": "Dublin",
}
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 30},
        "continent": {"enum": ["Africa", "America", "Asia", "Europe"]},
        "population": {"type": "integer", "minimum": 0},
        "sights": {"type": "array", "items": {"type": "string", "maxLength": 30}, "minItems": 1, "maxItems": 3},
    },
    "required": ["city", "continent", "population", "sights"],
}


@dataclass(frozen=True)
class Writer:
    """The model on its server."""

    served: Served
    model: str

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer to a request, which must succeed."""
        whole = {"model": self.model, "stream": False} | body
        answer = httpx.post(f"{self.served.url}{path}", json=whole, timeout=PATIENCE, **LOOPBACK)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def write(self, prompt: str, **body: Any) -> str:
        """The text of an answer."""
        return str(self.post("/api/generate", prompt=prompt, **body)["response"])

    def chat(self, *messages: tuple[str, str], **body: Any) -> dict[str, Any]:
        """An answer to a conversation of (role, content)."""
        said = [{"role": role, "content": content} for role, content in messages]
        return self.post("/api/chat", messages=said, **body)

    def unload(self) -> None:
        """Forget all that was computed."""
        self.post("/api/generate", keep_alive=0)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    with serving(tmp_path_factory.mktemp("served") / "models") as served:
        yield Writer(served, store_writer(served))


def test_a_seed_chooses_the_text(writer: Writer) -> None:
    def of(seed: int) -> str:
        return writer.write(STORY, options=SAMPLED | {"seed": seed, "num_predict": 12})

    first, other = of(1), of(2)
    assert first != other
    assert of(1) == first


def test_a_seed_chooses_the_text_beside_others(writer: Writer) -> None:
    def of(seed: int) -> str:
        return writer.write(
            f"{STORY} Begin with the number {seed}.", options=SAMPLED | {"seed": seed, "num_predict": 12}
        )

    alone = [of(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(of, range(3))) == alone


def test_without_a_seed_texts_differ(writer: Writer) -> None:
    texts = {writer.write(STORY, options=SAMPLED | {"num_predict": 16}) for _ in range(3)}
    assert len(texts) == 3


def test_options_change_what_is_chosen(writer: Writer) -> None:
    """At such a temperature all tokens are about as likely, unless only the best one may be taken."""
    hot = {"temperature": 50.0, "repeat_penalty": 1.0, "num_predict": 12, "seed": 3}
    greedy = writer.write(STORY, options=GREEDY | {"num_predict": 12})
    assert writer.write(STORY, options=hot | {"top_k": 1}) == greedy
    assert writer.write(STORY, options=hot | {"top_k": 40, "min_p": 0.0}) != greedy


def test_the_likeliest_token_is_taken_at_temperature_0(writer: Writer) -> None:
    answer = writer.post(
        "/api/generate", prompt=STORY, options=GREEDY | {"num_predict": 12}, logprobs=True, top_logprobs=3
    )
    assert "".join(entry["token"] for entry in answer["logprobs"]) == answer["response"]
    for entry in answer["logprobs"]:
        best, *others = entry["top_logprobs"]
        assert entry["token"] == best["token"]
        assert all(best["logprob"] >= other["logprob"] for other in others)
        assert entry["logprob"] == best["logprob"] < 0
    assert min(entry["logprob"] for entry in answer["logprobs"]) < -0.1  # it was not sure of everything


def test_stops_cut_the_text_that_would_have_come(writer: Writer) -> None:
    options = GREEDY | {"num_predict": 20}
    whole = writer.post("/api/generate", prompt=STORY, options=options, logprobs=True)
    text = whole["response"]
    pieces = [entry["token"] for entry in whole["logprobs"]]
    middle = len("".join(pieces[:8]))
    stop = text[middle - 2 : middle + 3]  # across the end of a token
    assert text.find(stop) > 0
    for stops in ([stop], ["nowhere to be found", stop], stop):
        answer = writer.post("/api/generate", prompt=STORY, options=options | {"stop": stops})
        assert answer["response"] == text[: text.index(stop)]
        assert answer["done_reason"] == "stop"


def test_a_conversation_goes_on_from_the_cache(writer: Writer) -> None:
    writer.unload()
    begin = ("system", "You are a guide who knows every lighthouse, and you answer in one sentence.")
    first = ("user", "Where is the tallest lighthouse?")
    told = writer.chat(begin, first, options={"num_predict": 8})
    assert "prompt_eval_cached_count" not in told
    turns = (begin, first, ("assistant", told["message"]["content"]), ("user", "And the oldest?"))
    cached = writer.chat(*turns, options={"num_predict": 8})
    assert cached["prompt_eval_cached_count"] >= told["prompt_eval_count"] - 1
    seeded = writer.chat(*turns, options=SAMPLED | {"seed": 5, "num_predict": 8})
    writer.unload()
    fresh = writer.chat(*turns, options=SAMPLED | {"seed": 5, "num_predict": 8})
    assert "prompt_eval_cached_count" not in fresh
    assert fresh["message"] == seeded["message"]


def test_what_is_cut_is_the_oldest(writer: Writer) -> None:
    def question(country: str) -> tuple[str, str]:
        return "user", f"What is the capital of {country}?"

    old = [turn for country, city in CAPITALS.items() for turn in (question(country), ("assistant", city))]
    turns = [("system", "Answer with the name of a city."), *old, question("France")]
    options = GREEDY | {"num_ctx": 256, "num_predict": 8}
    answer = writer.chat(*turns, options=options)
    assert answer["message"]["content"].startswith("Paris")
    assert 0 < answer["prompt_truncated"]["messages"] < len(old)
    assert answer["prompt_eval_count"] < 256
    body = {"model": writer.model, "messages": [{"role": role, "content": content} for role, content in turns]}
    body |= {"options": options, "truncate": False, "stream": False}
    refused = httpx.post(f"{writer.served.url}/api/chat", json=body, timeout=PATIENCE, **LOOPBACK)
    assert refused.status_code == 400, refused.text


@pytest.mark.parametrize("seed", [1, 2])
def test_a_schema_holds_whatever_is_drawn(writer: Writer, seed: int) -> None:
    options = SAMPLED | {"seed": seed, "num_predict": 80}
    text = writer.write("Describe a large city as JSON.", format=PLACE, options=options)
    jsonschema.validate(json.loads(text), PLACE)
    assert list(json.loads(text)) == list(PLACE["properties"])  # type: ignore[call-overload]


def test_a_schema_does_not_keep_it_from_knowing(writer: Writer) -> None:
    text = writer.write("In which city is the Eiffel Tower? Answer as JSON.", format=PLACE, options=GREEDY)
    found = json.loads(text)
    assert (found["city"], found["continent"]) == ("Paris", "Europe")


def test_a_structured_answer_ends_well_where_there_is_no_room(writer: Writer) -> None:
    answer = writer.post(
        "/api/generate", prompt="Describe a large city as JSON.", format=PLACE, options=GREEDY | {"num_predict": 32}
    )
    assert answer["done_reason"] == "length"
    jsonschema.validate(json.loads(answer["response"]), PLACE)


def test_the_context_grows_under_a_conversation(writer: Writer) -> None:
    """What was computed stays when a request wants more, and the process too; the text is that of a fresh load."""
    writer.unload()
    turns = [("user", "Count the lamps of the coast. " * 15)]
    short = writer.chat(*turns, options=GREEDY | {"num_ctx": 256, "num_predict": 4})
    [loaded] = writer_processes(writer)
    turns += [("assistant", short["message"]["content"]), ("user", "Where is the next lighthouse? " * 40)]
    options = GREEDY | {"num_ctx": 1024, "num_predict": 4}
    long = writer.chat(*turns, options=options)
    assert long["prompt_eval_count"] > 256 > short["prompt_eval_count"]
    assert long["prompt_eval_cached_count"] > 0
    assert "prompt_truncated" not in long
    assert writer_processes(writer) == [loaded]
    [status] = httpx.get(f"{writer.served.url}/api/ps", **LOOPBACK).json()["models"]
    assert status["context_length"] == 1024
    writer.unload()
    assert writer.chat(*turns, options=options)["message"] == long["message"]


def writer_processes(writer: Writer) -> list[int]:
    """The processes of models that are loaded, by the server's log."""
    lines = [line for line in writer.served.log.read_text().splitlines() if " loaded model=" in line]
    alive = {process.pid for process in writer.served.runners()}
    pids = [int(line.split(" pid=")[1].split()[0]) for line in lines]
    return [pid for pid in pids if pid in alive]
