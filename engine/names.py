"""The suffixes `:local` and `:cloud` of a model's name, which say where it runs. Pure functions."""

from __future__ import annotations

from engine.errors import CloudModel, InvalidRequest
from modelfile.text import cut, quote

_LEGACY = "-cloud"


def local_name(name: str) -> str:
    """The stored name of a model to run: stripped, without `:local`. Raises CloudModel and InvalidRequest."""
    bare, place = _split(name)
    if place == "cloud":
        raise CloudModel
    return bare


def stored_name(name: str) -> str:
    """The stored name of a model to manage, not to run: a cloud model's ends with its suffix. Raises InvalidRequest."""
    bare, place = _split(name)
    if place != "cloud":
        return bare
    return bare + (_LEGACY if ":" in bare.rpartition("/")[2] else ":cloud")


def _split(name: str) -> tuple[str, str]:
    """The name without suffix, and "local", "cloud" or "". Raises InvalidRequest for two suffixes."""
    name = name.strip()
    bare, place = _last(name)
    if place and _last(bare)[1]:
        raise InvalidRequest(f"use either :local or :cloud, not both: {quote(cut(name))}", "model")
    return bare, place


def _last(name: str) -> tuple[str, str]:
    bare, colon, tag = name.rpartition(":")
    tag = tag.strip()
    if not colon or "/" in tag:
        return name, ""
    if tag.lower() in ("cloud", "local"):
        return bare, tag.lower()
    return (f"{bare}:{tag[: -len(_LEGACY)]}", "cloud") if tag.lower().endswith(_LEGACY) else (name, "")
