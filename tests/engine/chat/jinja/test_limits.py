"""What templates are held to after they overstayed."""

from engine.chat.jinja.limits import FORGIVEN_AFTER, FORGIVEN_AT_LAST, REMEMBERED, SMALL, Conduct

KEY = b"one"


def lanes(conduct: Conduct, now: float, *sizes: int) -> list[str]:
    return [conduct.lane(KEY, size, now) for size in sizes]


def test_nobody_knows_a_new_template() -> None:
    conduct = Conduct()
    assert lanes(conduct, 0, 0, 1 << 30) == ["quick", "quick"]
    assert not conduct.is_proven(KEY)
    conduct.praise(KEY, 0)
    assert conduct.is_proven(KEY)
    assert not conduct.is_proven(b"other")


def test_a_short_conversation_tells_of_all() -> None:
    conduct = Conduct()
    conduct.slow(KEY, SMALL, 0)
    assert lanes(conduct, 1, 0, 1 << 30) == ["slow", "slow"]
    conduct.refuse(KEY, 100, "why", 1)
    assert lanes(conduct, 1, 0, 1 << 30) == ["refused", "refused"]
    assert conduct.reason(KEY) == "why"
    assert conduct.lane(b"other", 100, 1) == "quick"


def test_a_long_one_tells_of_long_ones() -> None:
    conduct = Conduct()
    conduct.slow(KEY, 8 * SMALL, 0)
    conduct.refuse(KEY, 8 * SMALL, "why", 0)
    assert lanes(conduct, 1, SMALL, 4 * SMALL, 8 * SMALL) == ["quick", "slow", "refused"]
    conduct.slow(KEY, 10 * SMALL, 0)
    assert lanes(conduct, 1, SMALL, 4 * SMALL) == ["quick", "slow"]


def test_it_is_forgiven_later_each_time() -> None:
    conduct = Conduct()
    now, held = 0.0, []
    for _ in range(9):
        conduct.refuse(KEY, 1, "why", now)
        record = conduct._records[KEY]
        assert conduct.lane(KEY, 1, record.until - 1) == "refused"
        assert conduct.lane(KEY, 1, record.until) == "quick"
        held.append(record.until - now)
        now = record.until
    assert held[:3] == [FORGIVEN_AFTER, 2 * FORGIVEN_AFTER, 4 * FORGIVEN_AFTER]
    assert held[-1] == FORGIVEN_AT_LAST


def test_the_longest_unused_are_forgotten() -> None:
    conduct = Conduct()
    conduct.refuse(KEY, 1, "why", 0)
    for number in range(REMEMBERED - 1):
        conduct.praise(b"%d" % number, 0)
    assert conduct.lane(KEY, 1, 1) == "refused"
    conduct.praise(b"x", 0)
    assert conduct.lane(KEY, 1, 1) == "refused"
    for number in range(REMEMBERED):
        conduct.praise(b"y%d" % number, 0)
    assert conduct.lane(KEY, 1, 1) == "quick"
