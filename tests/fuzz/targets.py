"""All that can be tried, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.fuzz.answers import answers
from tests.fuzz.bodies import bodies
from tests.fuzz.files import headers
from tests.fuzz.texts import TEXTS
from tests.fuzz.trials import Target


def targets(folder: Path) -> Mapping[str, Target]:
    """The targets; those that need files use `folder`."""
    return {"headers": headers(folder), "answers": answers, "bodies": bodies, **TEXTS}
