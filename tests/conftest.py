"""What tests of several rooms share."""

from collections.abc import Iterator

import pytest

from tests.serving import Served, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on an empty store, for all tests of a module."""
    with serving(tmp_path_factory.mktemp("served") / "models") as served:
        yield served
