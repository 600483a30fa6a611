"""Times and durations as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from cli import human

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_span(seconds: int, text: str) -> None:
    assert human.span(seconds) == text


def test_moment() -> None:
    assert human.moment(NOW - timedelta(hours=3), NOW) == "3 hours ago"
    assert human.moment(NOW + timedelta(minutes=29, seconds=50), NOW) == "29 minutes from now"
    assert human.moment(NOW + timedelta(days=292 * 365), NOW) == "Forever"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (49_216_128, "49.216128ms"),
        (1_000_000_000, "1s"),
        (2_500_000_000, "2.5s"),
        (60_000_000_000, "1m0s"),
        (3_690_500_000_000, "1h1m30.5s"),
    ],
)
def test_duration(nanoseconds: int, text: str) -> None:
    assert human.duration(nanoseconds) == text


def test_rate() -> None:
    assert human.rate(33, 39_046_933) == "845.14 tokens/s"
    assert human.rate(3, 0) == "0.00 tokens/s"
