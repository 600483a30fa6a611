"""`:local` and `:cloud` at the end of a name: where a model is to be looked for. Pure."""

from __future__ import annotations

from engine.errors import CloudModel, InvalidRequest
from modelfile.text import quote

_LEGACY = "-cloud"


def local_name(name: str) -> str:
    """A name as it is stored: without blanks around it and without `:local`. Raises CloudModel and InvalidRequest."""
    bare, place = _split(name)
    if place == "cloud":
        raise CloudModel
    return bare


def stored_name(name: str) -> str:
    """A name for what need not run: one in the cloud is stored under a tag that ends so. Raises InvalidRequest."""
    bare, place = _split(name)
    if place != "cloud":
        return bare
    return bare + (_LEGACY if ":" in bare.rpartition("/")[2] else ":cloud")


def _split(name: str) -> tuple[str, str]:
    """A name and its place, each without the other; no place is an empty one. Raises InvalidRequest for two."""
    name = name.strip()
    bare, place = _last(name)
    if place and _last(bare)[1]:
        raise InvalidRequest(f"use either :local or :cloud, not both: {quote(name)}")
    return bare, place


def _last(name: str) -> tuple[str, str]:
    bare, colon, tag = name.rpartition(":")
    tag = tag.strip()
    if not colon or "/" in tag:
        return name, ""
    if tag.lower() in ("cloud", "local"):
        return bare, tag.lower()
    return (f"{bare}:{tag[: -len(_LEGACY)]}", "cloud") if tag.lower().endswith(_LEGACY) else (name, "")
