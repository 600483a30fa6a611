"""`pronk keys`: make, list and revoke the API keys of the server on this machine. They are in a file; none is asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from cli import human
from cli.arguments import CommandError
from server.http.keys import USUAL, APIKey, KeyFile, KeysError, checked_scopes
from server.settings import HomeMissing, Settings


def add(settings: Settings, name: str, scopes: Sequence[str], requests_per_minute: int, concurrent: int) -> None:
    """Make a key and print it; one that cannot be printed is not kept: nobody would know it. Raises CommandError."""
    file = _file(settings)
    try:
        wanted = checked_scopes(scopes or USUAL)
        is_first = file.read() is None
        text = file.add(name, wanted, requests_per_minute, concurrent)
    except KeysError as error:
        raise CommandError(str(error)) from None
    try:
        print(text, flush=True)
    except BaseException:
        file.revoke(name)
        raise
    if is_first:
        told = "From now on every request needs a key, those of other programs too; pronk takes it from OLLAMA_API_KEY."
        print(told, file=sys.stderr)


def list_keys(settings: Settings, *, as_json: bool) -> None:
    """Print the keys, without their texts. Raises CommandError."""
    try:
        keys = _file(settings).read()
    except KeysError as error:
        raise CommandError(str(error)) from None
    if as_json:
        print(json.dumps({"keys": [_described(key) for key in keys or ()]}))
        return
    now = datetime.now(UTC)
    head = ("NAME", "SCOPES", "A MINUTE", "AT ONCE", "CREATED")
    print(human.table(head, [_row(key, now) for key in keys or ()]), end="")


def revoke(settings: Settings, name: str) -> None:
    """Remove a key. Raises CommandError."""
    file = _file(settings)
    try:
        left = file.revoke(name)
    except KeysError as error:
        raise CommandError(str(error)) from None
    print(f"revoked '{name}'")
    if not left:
        print(f"It was the last key: every request is refused now. To serve without keys, delete {file.path}")


def _file(settings: Settings) -> KeyFile:
    """The file of keys. Raises CommandError if it is nowhere."""
    try:
        return KeyFile(settings.keys_file)
    except HomeMissing as error:
        raise CommandError(str(error)) from None


def _described(key: APIKey) -> dict[str, object]:
    return {
        "name": key.name,
        "scopes": key.scopes,
        "requests_per_minute": key.requests_per_minute,
        "concurrent": key.concurrent,
        "created": key.created,
    }


def _row(key: APIKey, now: datetime) -> tuple[str, ...]:
    created = human.moment(datetime.fromtimestamp(key.created, UTC), now)
    limits = (str(limit or "any") for limit in (key.requests_per_minute, key.concurrent))
    return key.name, ",".join(key.scopes), *limits, created
