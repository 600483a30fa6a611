"""Generates tables of the documentation from code: `python -m scripts.tables [--check]`.

A table is between two markers in a file below docs/; the rest of the file is written by hand. With --check nothing is
written, and the exit code says whether all tables are current.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fastapi.routing import APIRoute

import cli.main
import modelfile.parameters
import server.metrics
import server.settings
from server.routers import ROUTERS, scope_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN = "<!-- Written by `make tables`; edits are lost. -->"
END = "<!-- End of the table. -->"
_BETWEEN = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)


def routes() -> str:
    """The table of routes: methods, path, scope of API keys, summary."""
    head = ["| method | path | scope | what it does |", "|---|---|---|---|"]
    methods: dict[tuple[str, str], set[str]] = {}
    for route in _routes():
        meaning = (inspect.getdoc(route.endpoint) or "").partition("\n")[0]
        methods.setdefault((route.path_format, meaning), set()).update(route.methods or ())
    return "\n".join(head + [_route(*key, names) for key, names in methods.items()])


def _routes() -> Iterator[APIRoute]:
    return (route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute))


def _route(path: str, meaning: str, methods: set[str]) -> str:
    return f"| {', '.join(sorted(methods))} | `{path}` | {scope_of(path) or '—'} | {meaning} |"


def verbs() -> str:
    """The table of the command line's verbs: how each is called, its flags, what it does."""
    rows = ["| verb | flags | what it does |", "|---|---|---|"]
    for name, verb in cli.main.app.commands.items():
        if not verb.hidden:
            words = " ".join(
                [name, *(str(param.metavar) for param in verb.params if param.param_type_name == "argument")]
            )
            flags = [f"`{option}`" for param in verb.params for option in param.opts if option.startswith("--")]
            rows.append(f"| `{words}` | {', '.join(flags)} | {(verb.help or '').replace('|', '/')} |")
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "cli.md": verbs,
    "environment.md": server.settings.markdown,
    "metrics.md": server.metrics.markdown,
    "options.md": modelfile.parameters.markdown,
    "routes.md": routes,
}


def renewed(text: str, table: str) -> str:
    """The text of a file with its table replaced. Raises ValueError without markers."""
    if not _BETWEEN.search(text):
        raise ValueError("the markers are missing")
    return _BETWEEN.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text)


def stale() -> dict[Path, str]:
    """The files whose table is out of date, with their new texts."""
    tables = {DOCS / name: table() for name, table in TABLES.items()}
    texts = {path: renewed(path.read_text(encoding="utf-8"), table) for path, table in tables.items()}
    return {path: text for path, text in texts.items() if text != path.read_text(encoding="utf-8")}


def main() -> int:
    """Write or check; returns the exit code."""
    arguments = argparse.ArgumentParser(description="Writes the tables in docs/ from the code.")
    arguments.add_argument("--check", action="store_true", help="write nothing, fail if a table is not current")
    check = arguments.parse_args().check
    files = stale()
    for path, text in files.items():
        if check:
            print(f"docs/{path.name} is not current: make tables")
        else:
            path.write_text(text, encoding="utf-8")
    return int(check and bool(files))


if __name__ == "__main__":
    sys.exit(main())
