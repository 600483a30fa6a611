"""What tests of several rooms share."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.serving import ENVIRON, Served, serving

# How long an example takes depends on the machine, and on whether coverage is measured.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

# llama.cpp computes with one thread. Tests run side by side, and threads that wait for each other on busy cores take
# several times as long. What is about threads starts without this, but waits as briefly as in the product's children.
ENVIRON["OMP_THREAD_LIMIT"] = "1"
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@pytest.fixture(scope="session", autouse=True)
def files_of_llama_cpp() -> Iterator[None]:
    """Close what the package opens when it is imported and never closes: Python would warn of it when it ends."""
    yield
    if utilities := sys.modules.get("llama_cpp._utils"):
        utilities.outnull_file.close()
        utilities.errnull_file.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on an empty store, for all tests of a module."""
    with serving(tmp_path_factory.mktemp("served") / "models") as served:
        yield served
