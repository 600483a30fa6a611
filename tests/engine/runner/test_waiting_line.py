"""Which sequence is next where several clients wait."""

from array import array
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.client import Client
from engine.messages import Done
from engine.runner import admission
from engine.runner.detokenizer import IncrementalDetokenizer
from engine.runner.sampling import TokenSampler
from engine.runner.sequence import Sequence
from engine.runner.waiting_line import WaitingLine, surplus
from tests.engine.runner.harness import Runner, chat

A: Client = ("a", "")
B: Client = ("b", "")
SAMPLER = cast(TokenSampler, None)


def seq(client: Client = A, number: int = 0, **fields: Any) -> Sequence:
    text = IncrementalDetokenizer(())
    values: dict[str, Any] = {"n_prompt": 4, "limit": 1024, "max_new": 64, "shift": True, "n_keep": 0, "preserved": {}}
    return Sequence(number, array("i", [1] * 4), sampler=SAMPLER, text=text, client=client, **values | fields)


def order(line: WaitingLine, *running: Sequence) -> list[int]:
    return [waiting.id for waiting in line.in_turn(running)]


def test_clients_take_turns() -> None:
    line = WaitingLine()
    for number in range(3):
        line.add(seq(A, number))
    line.add(seq(B, 9))
    assert order(line) == [0, 9, 1, 2]
    assert order(line, seq(A)) == [9, 0, 1, 2], "nothing of b runs"
    line.served(A)
    assert order(line) == [9, 0, 1, 2], "b was served longer ago"


def test_more_programs_give_a_client_no_more_turns() -> None:
    line = WaitingLine()
    for number in range(4):
        line.add(seq(("a", f"program {number}"), number))
    line.add(seq(B, 9))
    assert order(line, seq(("a", "one more"))) == [9, 0, 1, 2, 3]
    line.add(seq(("a", "program 0"), 5))
    assert order(line) == [0, 9, 1, 2, 3, 5], "its programs take turns too"


def test_of_one_client_what_was_suspended_comes_first_then_the_older_and_the_much_shorter() -> None:
    line = WaitingLine()
    line.add(seq(number=1, arrived=0.0))
    line.add(seq(number=2, arrived=0.1, max_new=60))
    line.add(seq(number=3, arrived=0.2, max_new=4))
    line.add(seq(number=4, arrived=100.0, max_new=4))
    suspended = seq(number=5)
    line.put_back(suspended)
    assert order(line) == [5, 3, 1, 2, 4]
    line.remove(suspended)
    assert (order(line), len(line)) == ([3, 1, 2, 4], 4)
    assert sorted(waiting.id for waiting in line) == [1, 2, 3, 4]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1, max_size=40), st.integers(1, 4))
def test_nobody_who_waits_is_passed_over_more_often_than_there_are_clients(clients: list[Client], places: int) -> None:
    line, running = WaitingLine(), []
    for number, client in enumerate(clients):
        line.add(seq(client, number))
    passed = dict.fromkeys({name for name, _ in clients}, 0)
    while len(line):
        ordered = list(line.in_turn(running))
        assert {other.id for other in ordered} == {other.id for other in line}
        counts = {name: sum(other.client[0] == name for other in running) for name in {s.client[0] for s in line}}
        chosen = ordered[0]
        assert counts[chosen.client[0]] == min(counts.values())
        line.remove(chosen)
        line.served(chosen.client)
        running.append(chosen)
        for name in counts:
            passed[name] = 0 if name == chosen.client[0] else passed[name] + 1
            assert passed[name] <= places * len(passed)
        if len(running) >= places:
            running.pop(0)


def test_who_has_a_place_too_many() -> None:
    a, a2, b = seq(A, 1), seq(A, 2), seq(B, 3)
    assert surplus([a, a2], B) is a2
    assert surplus([a, b], ("c", "")) is None
    assert surplus([a, a2, b], B) is None
    assert surplus([a, a2], A) is None
    assert surplus([a, a2], ("a", "other")) is a2


@pytest.fixture(scope="module")
def narrow() -> Iterator[Runner]:
    runner = Runner(n_parallel=2)
    yield runner
    runner.close()


def admitted(runner: Runner) -> list[str]:
    runner.step()
    return [other.client[0] for other in runner.loop.admission.running]


def test_a_clients_first_request_waits_for_one_place_only(narrow: Runner) -> None:
    many = [narrow.submit(chat(f"Count to {n}"), num_predict=4, client=A) for n in range(8)]
    narrow.step()
    one = narrow.submit(chat("Hello!"), num_predict=4, client=B)
    narrow.run(until=lambda: any(isinstance(event, Done) for event in narrow.events))
    assert "b" in admitted(narrow)
    narrow.run()
    assert all(narrow.done(other).tokens for other in (*many, one))


def test_a_client_that_has_waited_takes_the_place_of_another_that_has_two(
    narrow: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [narrow.ask(chat(f"Count to {n}")) for n in (5, 6, 7)]
    waited = [narrow.submit(chat(f"Count to {n}"), client=A) for n in (5, 6)]
    assert admitted(narrow) == ["a", "a"]
    short = narrow.submit(chat("Count to 7"), client=B)
    assert admitted(narrow) == ["a", "a"], "it has not waited yet"
    monkeypatch.setattr(admission, "SHARE_PATIENCE", 0.0)
    assert admitted(narrow) == ["a", "b"]
    assert admitted(narrow) == ["a", "b"], "each has its share"
    narrow.run()
    assert [narrow.text(other) for other in (*waited, short)] == alone
