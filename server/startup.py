"""The start: whether the models folder can be used, and what the log tells of folder, settings and access."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import fields as fields_of
from pathlib import Path

from registry.logfields import fields
from registry.storage.files import disk_space, unwritable_folder
from server import env
from server.masking import shown
from server.settings import ELSEWHERE, Settings, variables

log = logging.getLogger("pronk.server")


class UnusableModels(Exception):
    """The models folder is of no use; `str()` names it, the user, and what is wrong."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"the models folder {folder} cannot be used by user {os.geteuid()}: {reason}; "
            "give the user rights there, or let OLLAMA_MODELS name another folder"
        )


def open_models(folder: Path) -> None:
    """Make the models folder unless it is there, and log its rights. Raises UnusableModels.

    One that cannot be written is served all the same, if there are models in it.
    """
    try:
        os.fsencode(folder).decode()
        os.makedirs(folder, exist_ok=True)
        require_readable(folder)
        problem = unwritable_folder(folder)
        models = _count(folder / "manifests")
    except UnicodeDecodeError:  # the processes of models are told paths as text
        raise UnusableModels(folder, "its path is not UTF-8") from None
    except FileExistsError as error:
        there = Path(error.filename).exists()
        reason = os.strerror(errno.ENOTDIR) if there else f"{error.filename} is a link to nothing"
        raise UnusableModels(folder, reason) from None
    except OSError as error:
        raise UnusableModels(folder, error.strerror or str(error)) from None
    if problem is not None and problem[0] == folder and not models:
        raise UnusableModels(folder, f"it has no models, and cannot be written: {problem[1]}")
    rights = {"uid": os.geteuid(), "writable": problem is None, "free_bytes": disk_space(folder).free, "models": models}
    log.info("models folder", extra=fields(path=str(folder), **rights))
    if problem is not None:
        log.warning(
            "models are read-only: %s cannot be written: %s; models can be run, but not pulled, created or deleted, "
            "unless the user %d may write there or OLLAMA_MODELS names another folder",
            *(*problem, os.geteuid()),
        )


def require_readable(folder: Path) -> None:
    """Raises OSError if the models folder, or what is in it, cannot be listed."""
    for part in (folder, folder / "manifests", folder / "blobs"):
        try:
            with os.scandir(part) as entries:
                next(entries, None)
        except (FileNotFoundError, NotADirectoryError):
            if part is folder:
                raise


def tell_settings(settings: Settings) -> None:
    """Log the settings that are not the default, as they were set; secrets are masked."""
    if changed := changed_settings(settings):
        log.info("settings changed", extra=fields(**changed))


def changed_settings(settings: Settings) -> dict[str, str]:
    """Those settings, by the names of their variables."""
    defaults = {each.name: each.default for each in fields_of(Settings)}
    rows = variables().items()
    names = [row.name for name, row in rows if getattr(settings, name) != defaults[name]]
    names += [name for name, _, _ in ELSEWHERE]
    texts = {name: settings.environ.get(name) or settings.environ.get(name.lower(), "") for name in names}
    return {name: shown(name, env.clean(text)) for name, text in texts.items() if text}


def _count(manifests: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(manifests))
