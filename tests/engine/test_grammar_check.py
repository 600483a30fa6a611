"""Grammars that are good, bad and hostile, before the real checker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.chat.grammar.json_grammar import json_rules
from engine.errors import EngineError, EngineStopped, InvalidRequest, ServerBusy
from engine.grammar_check import RETRY_AFTER, GrammarValidator, _Checker
from engine.messages import Grammar
from tests.processes import descendants

GOOD = Grammar('start: "yes" | "no"')


def chain(length: int) -> dict[str, Any]:
    """References to references: what follows them runs out of stack."""
    links = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"properties": {"x": {"$ref": f"#/$defs/d{n + 1}"}}}]}
        for n in range(length)
    }
    return {"$defs": links | {f"d{length}": {}}, "$ref": "#/$defs/d0"}


def nested(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


HOSTILE: dict[str, tuple[Any, str]] = {
    "stack": (chain(2_000), "too complex"),
    "time": ({"type": "integer", "multipleOf": 99_999_989}, "too complex"),
    "patterns": ({"patternProperties": {f"^a{n}(b|c)*$": {} for n in range(1_000)}}, "too complex|too large"),
    "combinations": (
        {"allOf": [{"anyOf": [{"properties": {f"{ab}{n}": {}}} for ab in "ab"]} for n in range(24)]},
        "too large",
    ),
    "parentheses": ({"type": "string", "pattern": "(" * 5_000 + ")" * 5_000}, "regex parse error"),
    "nesting": (nested(90), "recursion limit"),
    "itself": ({"$ref": "#"}, "no answer would do"),
    "breadth": ({"oneOf": [{"properties": {"k": {"const": n}, "v": {}}} for n in range(6_000)]}, "too large"),
    "elsewhere": ({"$ref": "http://127.0.0.1:1/schema"}, "not present"),
}


def of_schema(schema: Any) -> Grammar:
    return Grammar(f"start: %json {json.dumps({**schema, 'x-guidance': {'lenient': True}})}")


@pytest.fixture
async def validator() -> AsyncIterator[GrammarValidator]:
    validator = GrammarValidator(os.environ)
    yield validator
    await validator.close()
    assert not checkers()


def checkers() -> list[psutil.Process]:
    """This process' own."""
    return descendants(os.getpid(), "engine.runner.grammar_check")


def checker(validator: GrammarValidator) -> _Checker:
    """The process that it has now."""
    assert validator._checker is not None
    return validator._checker


async def test_a_good_grammar(validator: GrammarValidator) -> None:
    await validator.check(GOOD, "x")
    await validator.check(Grammar('start: mark_0 until_1 GAP? "done"', ("<a>", "</a>")), "x")
    assert len(checkers()) == 1


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_schemas_are_refused_in_time(validator: GrammarValidator, name: str) -> None:
    schema, why = HOSTILE[name]
    await validator.check(GOOD, "x")
    with pytest.raises(InvalidRequest, match=f"^invalid format: .*(?:{why})"):
        await validator.check(of_schema(schema), "invalid format")
    await validator.check(Grammar('start: "another"'), "x")


@pytest.mark.parametrize("patterns", [["^[a-z]+$", "^[0-9]+$"], ["^(?=.*[0-9])[a-z]+$"]], ids=str)
async def test_patterns_that_contradict_each_other_are_refused(
    validator: GrammarValidator, patterns: list[str]
) -> None:
    rules = json_rules({"type": "string", "allOf": [{"pattern": each} for each in patterns]}, "value").text
    with pytest.raises(InvalidRequest, match=r"^invalid format: it contradicts itself: no answer would do$"):
        await validator.check(Grammar(f"start: value\n{rules}"), "invalid format")


GRAMMARS = {
    "stack": "start: " + "(" * 20_000 + '"a"' + ")" * 20_000,
    "rules": "start: r0\n" + "\n".join(f'r{n}: r{n + 1} "x"' for n in range(20_000)) + '\nr20000: "y"',
    "nesting": "start: " + "%lark { start: " * 100 + '"a"' + "}" * 100,
    "itself": "start: start",
    "repeats": 'start: "a"{1000000}',
    "repeats twice": 'start: x{100000}\nx: "a"{100000}',
    "a long pattern": "start: /a{100000}/",
    "no end": 'start: "a" start',
    "a long text": f'start: "{"x" * 100_000}"',
}


@pytest.mark.parametrize("name", GRAMMARS)
async def test_hostile_grammars_of_users_are_refused_in_time(validator: GrammarValidator, name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^invalid format: "):
        await validator.check(Grammar("start: @user", user_grammar=GRAMMARS[name]), "invalid format")
    await validator.check(GOOD, "x")


async def test_a_long_text_is_no_hostile_grammar(validator: GrammarValidator) -> None:
    await validator.check(Grammar("start: @user", user_grammar=f'start: "{"x" * 20_000}"'), "invalid format")


async def test_a_text_that_never_ends_is_remembered(validator: GrammarValidator) -> None:
    endless = Grammar("start: @user", user_grammar='start: "a" start')
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="it is too complex"):
            await validator.check(endless, "invalid format")
        await checker(validator).close()  # it is not asked again
    assert not checkers()


async def test_a_hostile_schema_takes_no_other_request_with_it(validator: GrammarValidator) -> None:
    hostile = of_schema(HOSTILE["stack"][0])
    checks = [validator.check(hostile if n % 2 else Grammar(f'start: "{n}"'), "x") for n in range(6)]
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), InvalidRequest] * 3


async def test_a_good_grammar_is_remembered(validator: GrammarValidator) -> None:
    await validator.check(GOOD, "x")
    process = checker(validator).process
    process.kill()
    await process.wait()
    await validator.check(GOOD, "x")
    assert not checkers()
    await validator.check(Grammar('start: "another"'), "x")


async def test_a_bad_grammar_is_remembered(validator: GrammarValidator) -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=r'^x: unknown name: "nothing"$'):
            await validator.check(Grammar("start: nothing"), "x")
    assert next(checker(validator)._ids) == 2


async def test_a_process_that_ends_because_of_another_grammar_refuses_none(validator: GrammarValidator) -> None:
    await validator.check(GOOD, "x")
    process = checker(validator).process
    checks = [asyncio.create_task(validator.check(Grammar(f'start: "{n}"'), "x")) for n in range(4)]
    os.kill(process.pid, signal.SIGSTOP)
    await asyncio.sleep(0.05)
    process.kill()
    await asyncio.gather(*checks)


async def test_a_grammar_that_took_too_long_is_tried_again_soon(validator: GrammarValidator) -> None:
    with pytest.raises(InvalidRequest, match="too complex"):
        await validator.check(of_schema(HOSTILE["time"][0]), "x")
    ((_, until),) = validator._verdicts.values()
    assert until < time.monotonic() + RETRY_AFTER / 2


async def test_the_same_grammar_is_checked_once_at_a_time(validator: GrammarValidator) -> None:
    await asyncio.gather(*(validator.check(GOOD, "x") for _ in range(20)))
    assert next(checker(validator)._ids) == 2


async def test_slow_grammars_hold_up_nobody(validator: GrammarValidator) -> None:
    await validator.check(GOOD, "x")
    slow = [of_schema({"type": "integer", "multipleOf": 99_999_989 - n}) for n in range(12)]
    checks = [asyncio.create_task(validator.check(grammar, "x")) for grammar in slow]
    await asyncio.sleep(0.05)
    await validator.check(Grammar('start: "another"'), "x")
    assert not all(check.done() for check in checks)
    for check in checks:
        check.cancel()
    await asyncio.gather(*checks, return_exceptions=True)


async def test_a_line_that_is_too_long_is_refused(validator: GrammarValidator) -> None:
    checks = [validator.check(Grammar(f'start: "{n}"'), "x") for n in range(200)]
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), ServerBusy}
    assert all(outcome is None for outcome in outcomes[:130]), "half of the line is one client's"


async def test_a_checker_that_hangs_is_replaced(validator: GrammarValidator) -> None:
    await validator.check(GOOD, "x")
    stopped = checker(validator)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    await validator.check(Grammar('start: "another"'), "x")
    assert checker(validator) is not stopped


async def test_a_checker_that_is_stopped_while_it_starts_is_replaced(tmp_path: Path) -> None:
    once = f"p = pathlib.Path({str(tmp_path)!r}, 'started')\nif not p.exists(): p.touch(); os.kill(os.getpid(), 19)"
    (tmp_path / "sitecustomize.py").write_text(f"import os, pathlib\n{once}")
    validator = GrammarValidator(os.environ | {"PYTHONPATH": str(tmp_path)}, 0.5)
    await validator.check(GOOD, "x")
    await validator.close()


async def test_a_check_that_is_given_up_leaves_its_verdict_to_nobody(validator: GrammarValidator) -> None:
    await validator.check(GOOD, "x")
    given_up = asyncio.create_task(validator.check(of_schema(HOSTILE["time"][0]), "x"))
    await asyncio.sleep(0.1)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await validator.check(Grammar('start: "another"'), "x")
    with pytest.raises(InvalidRequest, match=r'^x: unknown name: "nothing"$'):
        await validator.check(Grammar("start: nothing"), "x")


async def test_a_checker_that_is_warm_is_there_before_the_first_grammar(validator: GrammarValidator) -> None:
    for _ in range(3):
        validator.warm()
    assert validator._warming is not None
    await validator._warming
    assert len(checkers()) == 1
    await validator.check(GOOD, "x")
    validator.warm()
    assert len(checkers()) == 1


async def test_the_end_does_not_wait_for_a_start() -> None:
    validator = GrammarValidator(os.environ)
    validator.warm()
    await asyncio.sleep(0.01)
    await validator.close()
    validator.warm()
    assert not checkers()


async def test_the_end_while_the_first_grammar_waits_for_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.grammar_check.EXIT_GRACE", 60.0)  # it could finish its start meanwhile
    validator = GrammarValidator(os.environ)
    checking = asyncio.create_task(validator.check(GOOD, "x"))
    while not checkers():  # noqa: ASYNC110 - nothing else tells
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    await validator.close()
    with pytest.raises(EngineStopped):
        await checking
    assert not checkers()


async def test_a_checker_that_is_replaced_leaves_the_next_one_alone(validator: GrammarValidator) -> None:
    await validator.check(GOOD, "x")
    stopped = checker(validator)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    ending = asyncio.create_task(stopped.close())
    await asyncio.sleep(0)
    stopped.process.kill()
    await validator.check(Grammar('start: "another"'), "x")
    await ending
    assert checker(validator) is not stopped
    assert not checker(validator).ended
    assert len(checkers()) == 1


async def test_a_checker_whose_parent_is_gone_ends_in_silence() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "engine.runner.grammar_check"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    process.stdin.close()
    assert (await process.stderr.read(), await process.wait()) == (b"", 0)


async def test_a_checker_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "llguidance.py").write_text("raise ImportError")
    validator = GrammarValidator(os.environ | {"PYTHONPATH": str(tmp_path)})
    with pytest.raises(EngineError, match=r"^grammar checker failed to start$"):
        await validator.check(GOOD, "x")
    await validator.close()


async def test_nothing_is_checked_after_the_end() -> None:
    validator = GrammarValidator(os.environ)
    await validator.close()
    with pytest.raises(EngineStopped):
        await validator.check(GOOD, "x")


async def test_stopping_ends_a_check() -> None:
    validator = GrammarValidator(os.environ)
    await validator.check(GOOD, "x")
    checking = asyncio.create_task(validator.check(of_schema(HOSTILE["time"][0]), "x"))
    await asyncio.sleep(0.1)
    await validator.close()
    with pytest.raises(EngineStopped):
        await checking
    assert not checkers()
