"""The circuit breaker of templates that exceeded their budget."""

from engine.chat.jinja.limits import FIRST_RESET, LONGEST_RESET, REMEMBERED, SMALL, CircuitBreaker

KEY = b"one"


def lanes(breaker: CircuitBreaker, now: float, *sizes: int) -> list[str]:
    return [breaker.lane(KEY, size, now) for size in sizes]


def test_nobody_knows_a_new_template() -> None:
    breaker = CircuitBreaker()
    assert lanes(breaker, 0, 0, 1 << 30) == ["quick", "quick"]
    assert not breaker.is_proven(KEY)
    breaker.record_success(KEY, 0)
    assert breaker.is_proven(KEY)
    assert not breaker.is_proven(b"other")


def test_a_short_conversation_tells_of_all() -> None:
    breaker = CircuitBreaker()
    breaker.trip_slow(KEY, SMALL, 0)
    assert lanes(breaker, 1, 0, 1 << 30) == ["slow", "slow"]
    breaker.trip_refused(KEY, 100, "why", 1)
    assert lanes(breaker, 1, 0, 1 << 30) == ["refused", "refused"]
    assert breaker.reason(KEY) == "why"
    assert breaker.lane(b"other", 100, 1) == "quick"


def test_a_long_one_tells_of_long_ones() -> None:
    breaker = CircuitBreaker()
    breaker.trip_slow(KEY, 8 * SMALL, 0)
    breaker.trip_refused(KEY, 8 * SMALL, "why", 0)
    assert lanes(breaker, 1, SMALL, 4 * SMALL, 8 * SMALL) == ["quick", "slow", "refused"]
    breaker.trip_slow(KEY, 10 * SMALL, 0)
    assert lanes(breaker, 1, SMALL, 4 * SMALL) == ["quick", "slow"]


def test_it_is_forgiven_later_each_time() -> None:
    breaker = CircuitBreaker()
    now, held = 0.0, []
    for _ in range(9):
        breaker.trip_refused(KEY, 1, "why", now)
        record = breaker._records[KEY]
        assert breaker.lane(KEY, 1, record.resets_at - 1) == "refused"
        assert breaker.lane(KEY, 1, record.resets_at) == "quick"
        held.append(record.resets_at - now)
        now = record.resets_at
    assert held[:3] == [FIRST_RESET, 2 * FIRST_RESET, 4 * FIRST_RESET]
    assert held[-1] == LONGEST_RESET


def test_the_longest_unused_are_forgotten() -> None:
    breaker = CircuitBreaker()
    breaker.trip_refused(KEY, 1, "why", 0)
    for number in range(REMEMBERED - 1):
        breaker.record_success(b"%d" % number, 0)
    assert breaker.lane(KEY, 1, 1) == "refused"
    breaker.record_success(b"x", 0)
    assert breaker.lane(KEY, 1, 1) == "refused"
    for number in range(REMEMBERED):
        breaker.record_success(b"y%d" % number, 0)
    assert breaker.lane(KEY, 1, 1) == "quick"
