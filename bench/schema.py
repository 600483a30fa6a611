"""`python -m bench.schema`: how much of JSON Schema `format` enforces, measured on the JSON-Schema-Test-Suite.

For each schema of the suite's required part, answers are chosen at random among the bytes that the grammar allows, and
must validate; the suite's valid instances must be allowed by the grammar, its invalid ones must not. The table goes to
docs/json-schema.md.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from jsonschema.protocols import Validator
from llguidance import LLMatcher
from referencing import Registry

from bench.json_suite import DRAFTS, Case, cases, remotes, suite_folder
from engine.chat.grammar.json_grammar import json_rules
from engine.chat.schema.reader import SchemaReader, UnusableSchema, to_json
from engine.messages import Grammar
from engine.runner.grammar import STACK, GrammarRejected, Grammars
from engine.runner.grammar_check import BYTES, ByteVocabulary
from engine.runner.matcher import Matcher
from scripts.tables import DOCS

PAGE = DOCS / "json-schema.md"
BEGIN = "<!-- Written by `make bench-schema`; edits are lost. -->"
END = "<!-- End of the table. -->"
_CLOSING = frozenset(b'"}]')
_MOST = 300  # bytes of an answer
_END, _CLOSE = 0.3, 0.3  # how likely a walk ends where it may, and closes a bracket or string where it may
_VALIDATORS: dict[str, type[Validator]] = {
    "draft2020-12": jsonschema.Draft202012Validator,
    "draft7": jsonschema.Draft7Validator,
}


@dataclass(slots=True)
class Tally:
    """What was found of one keyword. Each counter has "all" and what is good of them."""

    schemas: int = 0
    refused: int = 0
    outputs: list[bool] = field(default_factory=list)
    valid: list[bool] = field(default_factory=list)
    other_kinds: int = 0
    invalid: list[bool] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def main() -> int:
    """Measure, print the table and the faults, and write the page with `--write`."""
    options = _parser().parse_args()
    suite = options.suite or suite_folder()
    if not (suite / "tests").is_dir():
        print(f"Error: {suite} is no checkout of JSON-Schema-Test-Suite", file=sys.stderr)
        return 1
    tallies: dict[str, dict[str, Tally]] = {}
    _with_stack(lambda: tallies.update(measure(suite, options.answers, options.only)))
    for draft, found in tallies.items():
        for keyword, tally in found.items():
            for fault in tally.faults[: options.faults]:
                print(f"{draft} {keyword}: {fault}", file=sys.stderr)
    table = markdown(tallies)
    print(table)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(renewed(text, table), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.schema", description="Coverage of JSON Schema.")
    parser.add_argument("--suite", metavar="FOLDER", type=Path, help="a checkout of JSON-Schema-Test-Suite")
    parser.add_argument("--answers", metavar="N", type=int, default=20, help="answers for each schema (20)")
    parser.add_argument("--faults", metavar="N", type=int, default=0, help="print so many faults of each keyword")
    parser.add_argument("--only", metavar="KEYWORD", help="one file of the suite")
    parser.add_argument("--write", action="store_true", help="write the table to docs/json-schema.md")
    return parser


def _with_stack(function: Any) -> None:
    """Run a function with as much stack as a model's process has for grammars."""
    threading.stack_size(STACK)
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def measure(suite: Path, answers: int, only: str | None) -> dict[str, dict[str, Tally]]:
    """Tallies by draft and keyword."""
    grammars, registry = Grammars(ByteVocabulary()), remotes(suite)
    found: dict[str, dict[str, Tally]] = {draft: {} for draft in DRAFTS}
    for case in cases(suite):
        if only in (None, case.keyword):
            tally = found[case.draft].setdefault(case.keyword, Tally())
            _measure_case(case, grammars, registry, answers, tally)
    return found


def _measure_case(case: Case, grammars: Grammars, registry: Registry[Any], answers: int, tally: Tally) -> None:
    tally.schemas += 1
    try:
        rules = json_rules(case.schema, "value")
        grammar = Grammar(f"start: value\n{rules.text}", examples=rules.examples)
        grammars.matcher(grammar)
    except (UnusableSchema, GrammarRejected) as error:
        tally.refused += 1
        if case.valid:
            tally.faults.append(f"{case.description}: refused: {error}")
        return
    tally.dropped.update({name.partition(" ")[0].partition(":")[0] for name in rules.unenforced})
    validator = _VALIDATORS[case.draft](case.schema, registry=registry)
    for n in range(answers):
        text = _answer(grammars.matcher(grammar), random.Random(f"{case.description} {n}"))
        good = text is not None and _is_valid(validator, text)
        tally.outputs.append(good)
        if not good:
            tally.faults.append(f"{case.description}: answer {text!r} for {json.dumps(case.schema)[:300]}")
    beginning = grammars.matcher(grammar)._matcher
    for instances, wanted, results in ((case.valid, True, tally.valid), (case.invalid, False, tally.invalid)):
        for instance in instances:
            if wanted and not _is_likely(instance, case.schema):
                tally.other_kinds += 1
                continue
            allowed = any(_allows(beginning.deep_copy(), text) for text in _spellings(instance, case.schema))
            results.append(allowed is wanted)
            if allowed is not wanted:
                word = "not allowed" if wanted else "allowed"
                tally.faults.append(f"{case.description}: {word}: {json.dumps(instance)[:100]}")


def _answer(matcher: Matcher, chance: random.Random) -> str | None:
    """An answer chosen at random; None if the grammar leaves it nothing to choose, or no end."""
    matcher.set_budget(_MOST)
    for _ in matcher.find_first_end():
        pass
    written = bytearray()
    row = np.zeros(BYTES + 1, np.float32)
    for _ in range(_MOST):
        row.fill(0)
        matcher.restrict(row)
        if matcher.fault:
            return None
        allowed = np.flatnonzero(row > -np.inf).tolist()
        token = matcher.accept(_chosen(allowed, chance))
        if token == BYTES:
            return written.decode("utf-8", "replace")
        written.append(token)
        if matcher.finished:
            return written.decode("utf-8", "replace")
    return None


def _chosen(allowed: list[int], chance: random.Random) -> int:
    """One of the allowed tokens: mostly printable ones, and ends rather often."""
    if BYTES in allowed and (len(allowed) == 1 or chance.random() < _END):
        return BYTES
    closing = [token for token in allowed if token in _CLOSING] if chance.random() < _CLOSE else []
    plain = [token for token in allowed if 32 < token < 127]
    return chance.choice(closing or plain or [token for token in allowed if token < BYTES])


def _is_valid(validator: Validator, text: str) -> bool:
    try:
        return bool(validator.is_valid(json.loads(text)))
    except ValueError:
        return False


def _allows(matcher: LLMatcher, text: str) -> bool:
    """Whether the grammar allows a whole text."""
    data = list(text.encode("utf-8", "surrogatepass"))
    return matcher.try_consume_tokens(data) == len(data) and bool(matcher.is_accepting())


def _spellings(instance: Any, schema: Any) -> Iterator[str]:
    """An instance as JSON: with its keys as they are, and in the order in which the schema lists them."""
    order = list(dict.fromkeys(_property_names(schema)))
    yield _written(instance, {})
    yield json.dumps(instance, ensure_ascii=False)
    yield _written(instance, {name: place for place, name in enumerate(order)})


def _is_likely(instance: Any, schema: Any) -> bool:
    """Whether an instance is of a kind that the keywords of the schema are about, if it names no types."""
    ways = SchemaReader(schema if isinstance(schema, dict) else {}).read((schema,))
    return _kind_of(instance) in {kind for values in ways for kind in values.likely_kinds()}


def _kind_of(instance: Any) -> str:
    match instance:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
    return "array" if isinstance(instance, list) else "object"


def _property_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key in ("properties", "required"):
            yield from schema.get(key, ()) if isinstance(schema.get(key), dict | list) else ()
        for value in schema.values():
            yield from _property_names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _property_names(value)


def _written(value: Any, order: dict[str, int]) -> str:
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: order.get(member[0], len(order)))
        return "{" + ",".join(f"{_written(name, order)}:{_written(item, order)}" for name, item in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(item, order) for item in value) + "]"
    return to_json(value) or ""


def markdown(tallies: dict[str, dict[str, Tally]]) -> str:
    """The table: a row for each keyword, both drafts together in the last row of each."""
    counted = "draft", "keyword", "schemas", "refused", "answers valid", "valid allowed", "other kinds"
    columns = [*counted, "invalid not allowed", "left out"]
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    rows = []
    for draft, found in tallies.items():
        total = Tally()
        for keyword, tally in found.items():
            rows.append(_row(draft, f"`{keyword}`", tally))
            _add(total, tally)
        rows.append(_row(draft, "all", total))
    return "\n".join(head + rows)


def _add(total: Tally, tally: Tally) -> None:
    total.schemas += tally.schemas
    total.refused += tally.refused
    total.outputs += tally.outputs
    total.valid += tally.valid
    total.other_kinds += tally.other_kinds
    total.invalid += tally.invalid


def _row(draft: str, name: str, tally: Tally) -> str:
    left_out = ", ".join(f"`{keyword}`" for keyword in sorted(tally.dropped))
    outputs, valid, invalid = map(_share, (tally.outputs, tally.valid, tally.invalid))
    cells = (
        draft,
        name,
        tally.schemas,
        tally.refused or "",
        outputs,
        valid,
        tally.other_kinds or "",
        invalid,
        left_out,
    )
    return f"| {' | '.join(map(str, cells))} |"


def _share(results: Iterable[bool]) -> str:
    results = list(results)
    return f"{sum(results) / len(results):.1%}".replace("100.0%", "100%") if results else ""


def renewed(text: str, table: str) -> str:
    """A page with its table replaced. Raises ValueError without markers."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError("the markers are missing")
    return pattern.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text)


if __name__ == "__main__":
    sys.exit(main())
