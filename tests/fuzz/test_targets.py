"""Every target works: the first of its trials pass, and each is another one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz.targets import targets


@pytest.mark.parametrize("name", targets(Path()))
def test_first_trials(name: str, tmp_path: Path) -> None:
    random = Random(1)
    target = targets(tmp_path)[name]
    trials = [target(random) for _ in range(200)]
    assert len({repr(trial.given) for trial in trials}) > 100
    for trial in trials:
        trial.run()
