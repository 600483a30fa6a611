"""`pronk doctor`: checks the installation and the machine, one line per check. Works without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version

from cli.arguments import CommandError
from cli.client import Client, ResponseError
from cli.connection import Failure, Unreachable
from cli.progress import Show, display, step
from cli.reply import Foreign
from cli.text import one_line
from server.doctor import Finding, Level, examine
from server.settings import Settings

_NAME_WIDTH = 11


def doctor(settings: Settings, *, verify: bool, as_json: bool) -> int:
    """Print the findings; returns the exit code, 1 if anything is wrong."""
    findings = []
    for finding in _findings(settings, verify=verify):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print(json.dumps(_object(findings), indent=2))
    return int(any(finding.level is Level.WRONG for finding in findings))


def _findings(settings: Settings, *, verify: bool) -> Iterator[Finding]:
    with ExitStack() as bar:
        show: Show | None = None

        def progress(completed: int, total: int) -> None:
            nonlocal show
            show = show or bar.enter_context(display())
            show(step("comparing digests", total, completed))

        for finding in examine(settings, verify=verify, progress=progress):
            bar.close()  # an open bar redirects everything printed to standard error
            yield finding
    yield _server(settings)


def _server(settings: Settings) -> Finding:
    """Whether a server answers at OLLAMA_HOST, and its version."""
    url = settings.client_url
    details = {"url": url, "running": False, "version": ""}
    try:
        running = Client(settings).version()
    except CommandError as error:
        return Finding("server", Level.WRONG, str(error), details=details)
    except Unreachable as error:
        if error.refused:
            return Finding("server", Level.NOTE, f"none runs at {url}", details=details)
        return Finding("server", Level.WRONG, f"{url} cannot be reached: {error}", details=details)
    except Failure as error:
        return Finding("server", Level.WRONG, f"{url} does not answer: {error}", details=details)
    except (ResponseError, Foreign):
        return Finding("server", Level.WRONG, f"another program answers at {url}", details=details)
    text = f"runs at {url}, speaks the API of Ollama {running}"
    return Finding("server", Level.OK, text, details=details | {"running": True, "version": running})


def _print(finding: Finding) -> None:
    lines = [(finding.level, finding.text)]
    lines += [(Level.WRONG, f"  {problem}") for problem in finding.problems]
    lines += [(Level.NOTE, f"  {note}") for note in finding.notes]
    for level, text in lines:
        print(f"{level:<5} {finding.name:<{_NAME_WIDTH}} {one_line(text)}", flush=True)


def _object(findings: list[Finding]) -> dict[str, object]:
    return {
        "ok": not any(finding.level is Level.WRONG for finding in findings),
        "version": version("pronk"),
        "checks": {
            finding.name: {
                "level": finding.level.value,
                "text": finding.text,
                "problems": list(finding.problems),
                "notes": list(finding.notes),
                **finding.details,
            }
            for finding in findings
        },
    }
