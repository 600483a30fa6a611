"""The scenarios and the traffic on a real server, with both dialects, and what is taken from their answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvloop

from bench.api import Api
from bench.batches import batches
from bench.client import Answer, BadAnswer, Client
from bench.dialects import LLAMA_SERVER, OLLAMA, Dialect, Request
from bench.endless import make_endless
from bench.models import TINYCHAT
from bench.scenarios import (
    Chats,
    ColdLoad,
    Constrained,
    Memory,
    MixedLengths,
    Scenario,
    SharedPrompt,
    chat,
    gaps_within,
    rate_of,
    scenarios,
    values_of,
)
from bench.servers import our_target
from bench.serving import LocalServer
from bench.traffic import embeds, mix, phases, send
from bench.workload import QUICK
from registry.bundled import MODELS
from registry.names import ModelName
from tests.bench.scripted import HEAD, Scripted, chunk, scripted

DIALECTS = pytest.mark.parametrize("dialect", [OLLAMA, LLAMA_SERVER], ids=lambda dialect: dialect.name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    root = tmp_path_factory.mktemp("bench")
    gguf = root / "tinychat.gguf"
    gguf.write_bytes(make_endless(MODELS[ModelName.parse("tinychat")].path))
    (root / "store").mkdir()
    with LocalServer(root / "store") as server:
        Api(server.url).create(TINYCHAT.name, gguf)
        yield server


@pytest.fixture
def script() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


def client_of(server: LocalServer, dialect: Dialect) -> Client:
    return Client(server.url, TINYCHAT.name, dialect)


@DIALECTS
def test_a_dialect_counts_and_joins_an_answer(server: LocalServer, dialect: Dialect) -> None:
    client = client_of(server, dialect)
    assert client.run(["once upon", "a time"], 9).tokens == (9, 9)
    answer = uvloop.run(client.ask(Request(9, messages=(("user", "hello"),), seed=1)))
    again = uvloop.run(client.ask(Request(9, messages=(("user", "hello"),), seed=1)))
    assert answer.text == again.text != ""
    assert answer.asked < answer.arrivals[0] <= answer.arrivals[-1] <= answer.end


@DIALECTS
def test_a_dialect_holds_answers_to_a_schema(server: LocalServer, dialect: Dialect) -> None:
    request = Request(900, "p", schema=Constrained.schema)
    answer = uvloop.run(client_of(server, dialect).ask_for(request, 40))
    assert answer.text.lstrip().startswith("{")


@DIALECTS
def test_a_dialect_tells_of_refusals(server: LocalServer, dialect: Dialect) -> None:
    with pytest.raises(BadAnswer, match=r"404.*nobody"):
        Client(server.url, "nobody", dialect).run(["a"], 4)


def test_both_dialects_ask_for_the_same(server: LocalServer) -> None:
    request = Request(12, "once upon a time", seed=7)
    texts = {uvloop.run(client_of(server, dialect).ask(request)).text for dialect in (OLLAMA, LLAMA_SERVER)}
    assert len(texts) == 1


@DIALECTS
def test_traffic_of_every_kind_is_done(server: LocalServer, dialect: Dialect) -> None:
    client = client_of(server, dialect)
    assert embeds(client)
    send(client, list({job.kind: job for job in mix(40, 24)}.values()))
    assert client.run(["a"], 4).tokens == (4,)


def test_a_server_that_does_not_embed_gets_no_embeddings(script: Scripted) -> None:
    script.script = lambda send: send(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 2\r\n\r\n{}")
    assert not embeds(Client(script.url, "m"))


def test_phases_have_the_traffic_between_them(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    names = [phase.name for phase in phases([client_of(server, OLLAMA)], TINYCHAT.longest, 4)]
    assert names == ["fresh", "steady"]
    assert "mixed traffic, 4 jobs" in capsys.readouterr().err


def small() -> list[Scenario]:
    """The scenarios in the size of tinychat's context."""
    mixed = MixedLengths()
    mixed.long_words, mixed.tokens = 200, 64
    return [Chats(4, 8), SharedPrompt(60), mixed, Constrained(8), ColdLoad(), Memory()]


@pytest.mark.parametrize("scenario", small(), ids=lambda scenario: type(scenario).__name__)
def test_a_scenario_gives_all_its_measures(server: LocalServer, scenario: Scenario) -> None:
    ((values,),) = values_of(scenario, [our_target(server, TINYCHAT)], [0])
    assert sorted(values) == sorted(measure.name for measure in scenario.measures)
    assert min(values.values()) > 0


def test_batches_give_all_their_measures(server: LocalServer) -> None:
    target = our_target(server, TINYCHAT)
    for batch, _ in batches(QUICK, whole=False)[1:]:
        assert set(batch.measure(target, 0)) == {measure.name for measure in batch.measures}


def test_what_a_server_does_not_allow_is_not_measured(server: LocalServer) -> None:
    target = replace(our_target(server, TINYCHAT), api=None, processes=None)
    assert ColdLoad().measure(target, 0) == Memory().measure(target, 0) == {}


def test_the_whole_has_more_than_what_is_measured_of_every_model() -> None:
    assert len(scenarios(QUICK, whole=False)) < len(scenarios(QUICK, whole=True))
    assert len(batches(QUICK, whole=False)) < len(batches(QUICK, whole=True))


def test_names_of_measures_differ() -> None:
    names = [m.name for s, _ in [*batches(QUICK, whole=True), *scenarios(QUICK, whole=True)] for m in s.measures]
    assert len(set(names)) == len(names)


def test_a_chat_grows(script: Scripted) -> None:
    script.script = lambda send: send(
        HEAD + chunk(b'{"message":{"content":"x"}}\n{"done":true,"eval_count":2}\n') + b"0\r\n\r\n"
    )
    uvloop.run(chat(Client(script.url, "m"), "key", [3, 2], 2))
    first, second = (body["messages"] for body in script.bodies)
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert second[:2] == first
    assert second[2]["content"] == "x"


def test_gaps_count_where_a_part_of_them_is_within() -> None:
    answer = Answer(0.0, (1.0, 2.0, 4.0, 9.0, 10.0), 10.0, "")
    assert gaps_within([answer], 2.5, 5.0) == [2.0, 5.0]
    assert gaps_within([answer], 4.5, 5.0) == [5.0]


def test_a_rate_counts_from_the_first_request() -> None:
    answers = [Answer(1.0, (2.0, 3.0, 4.0), 4.0, ""), Answer(1.0, (2.0, 5.0), 5.0, "")]
    assert rate_of(answers) == pytest.approx(5 / 4)
