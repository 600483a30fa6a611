"""The bundled model's vocabulary and a runner on it, loaded once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.runner.llamacpp import C, library_log
from engine.runner.vocabulary import Vocabulary
from tests.engine.runner.harness import Runner


@pytest.fixture(autouse=True, scope="module")
def log_of_the_library() -> None:
    """llama.cpp has one log callback: other tests in this process may have set theirs."""
    C.llama_log_set(library_log().callback, None)


@pytest.fixture(scope="session")
def shared_runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


@pytest.fixture
def runner(shared_runner: Runner) -> Runner:
    """A runner with an empty cache that was never asked anything."""
    shared_runner.run()
    shared_runner.forget()
    shared_runner.events.clear()
    return shared_runner


@pytest.fixture(scope="session")
def vocabulary(shared_runner: Runner) -> Vocabulary:
    return shared_runner.context.vocabulary
