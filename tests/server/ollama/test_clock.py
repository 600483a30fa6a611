"""Times as Go writes them."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from server.ollama import clock


@pytest.fixture
def timezone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("timezone", ["UTC"], indirect=True)
@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1970-01-01T00:00:00Z"), (1.5, "1970-01-01T00:00:01.5Z"), (86400.25, "1970-01-02T00:00:00.25Z")],
)
def test_utc_machine(timezone: None, seconds: float, text: str) -> None:
    assert clock.local(seconds) == text


@pytest.mark.parametrize("timezone", ["UTC"], indirect=True)
def test_a_time_of_a_file_keeps_all_its_digits(timezone: None) -> None:
    assert clock.written(1_764_037_329_105_542_323) == "2025-11-25T02:22:09.105542323Z"


@pytest.mark.parametrize(
    ("timezone", "text"),
    [("XXX-5:30", "1970-01-01T05:30:00+05:30"), ("XXX+8", "1969-12-31T16:00:00-08:00")],
    indirect=["timezone"],
)
def test_offsets(timezone: None, text: str) -> None:
    assert clock.local(0.0) == text


def test_forever_is_about_292_years_ahead() -> None:
    assert int(clock.local(math.inf)[:4]) - datetime.now(UTC).year in (291, 292, 293)


def test_utc_now() -> None:
    before = datetime.now(UTC)
    text = clock.utc_now()
    assert text.endswith("Z")
    assert not text.removesuffix("Z").partition(".")[2].endswith("0")
    moment = datetime.fromisoformat(text[:26].removesuffix("Z").ljust(26, "0") + "+00:00" if "." in text else text)
    assert abs((moment - before).total_seconds()) < 5
