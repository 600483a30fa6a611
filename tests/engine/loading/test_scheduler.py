"""Which requests run, wait or are refused, and when models go."""

from typing import Any

import pytest

from engine.loading.state import Grant, Refusal, Refuse, StartLoad, Unload
from tests.engine.loading.scheduling import Driver, spec


def test_a_first_request_loads_and_later_ones_run_at_once() -> None:
    driver = Driver()
    assert driver.ask("a") == [StartLoad("a", spec("a"))]
    assert driver.ask("a") == []
    assert driver.loaded("a") == [Grant(1, "a"), Grant(2, "a")]
    assert driver.ask("a") == [Grant(3, "a")]


def test_a_failed_load_refuses_those_it_would_have_served() -> None:
    driver = Driver()
    driver.ask("a")
    driver.ask("a")
    driver.ask("a", num_ctx=8192, num_ctx_auto=False)
    bigger = spec("a", num_ctx=8192, num_ctx_auto=False)
    assert driver.scheduler.load_failed("a", 0.0, "no memory") == [
        Refuse(1, Refusal.LOAD_FAILED, "no memory"),
        Refuse(2, Refusal.LOAD_FAILED, "no memory"),
        StartLoad("a", bigger),
    ]


def test_another_wish_drains_and_loads_again() -> None:
    driver = Driver()
    driver.ask("a")
    driver.loaded("a")
    bigger = {"num_ctx": 8192, "num_ctx_auto": False, "adapters": ("x",)}
    assert driver.ask("a", **bigger) == []
    assert driver.finish(1) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("a", spec("a", **bigger))]
    assert driver.loaded("a") == [Grant(2, "a")]
    assert driver.ask("a", **bigger | {"num_ctx": 2048}) == [Grant(3, "a")]


@pytest.mark.parametrize(
    ("have", "want", "served"),
    [
        ({}, {}, True),
        ({}, {"num_ctx": 8192}, True),
        ({}, {"num_ctx": 8192, "num_ctx_auto": False}, False),
        ({"num_ctx_auto": False}, {"num_ctx": 8192}, False),
        ({}, {"num_ctx": 4096, "num_ctx_auto": False}, True),
        ({}, {"num_ctx": 100, "num_ctx_auto": False}, True),
        ({}, {"bytes_needed": 7}, True),
        ({"num_gpu": 5}, {"num_gpu": -1}, True),
        ({"num_gpu": 5}, {"num_gpu": 5}, True),
        ({"num_gpu": 5}, {"num_gpu": 6}, False),
        ({}, {"num_gpu": 0}, False),
        ({"main_gpu": 1}, {"main_gpu": 0}, False),
        ({"use_mmap": True}, {"use_mmap": False}, False),
        ({"main_gpu": 1}, {}, True),
        ({"use_mmap": False}, {}, True),
        ({"use_mmap": False}, {"use_mmap": True}, False),
        ({}, {"use_mmap": True}, True),
        ({"use_mmap": False, "num_gpu": 5}, {"num_gpu": 5}, True),
        ({}, {"adapters": ("x",)}, False),
        ({"adapters": ("x",)}, {}, False),
        ({}, {"key": "b"}, False),
    ],
)
def test_when_a_loaded_model_serves(have: dict[str, Any], want: dict[str, Any], served: bool) -> None:
    assert spec(**{"key": "a", **have}).serves(spec(**{"key": "a", **want})) is served


READ = {"use_mmap": False}


def test_a_wish_about_the_place_of_weights_loads_an_idle_model_again() -> None:
    driver = Driver()
    driver.serve("a")
    assert driver.ask("a", **READ) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("a", spec("a", **READ))]
    assert driver.loaded("a") == [Grant(2, "a")]
    assert driver.ask("a", **READ) == [Grant(3, "a")]
    assert driver.ask("a") == [Grant(4, "a")], "no wish: as it is"
    assert driver.ask("a", use_mmap=True) == [Grant(5, "a")], "one wish in a while"
    for ticket in (2, 3, 4, 5):
        driver.finish(ticket)
    driver.now = 100.0
    assert driver.ask("a") == [Grant(6, "a")]
    driver.finish(6)
    assert driver.ask("a", use_mmap=True) == [Unload("a")]


def test_a_wish_about_the_place_of_weights_interrupts_nobody() -> None:
    driver = Driver()
    driver.ask("a")
    driver.loaded("a")
    assert driver.ask("a", **READ) == [Grant(2, "a")]
    assert driver.ask("a") == [Grant(3, "a")]


def test_a_wish_that_cannot_be_loaded_is_not_tried_each_time() -> None:
    driver = Driver()
    driver.serve("a")
    driver.ask("a", num_gpu=99)
    driver.unloaded("a")
    assert driver.scheduler.load_failed("a", 0.0, "no") == [Refuse(2, Refusal.LOAD_FAILED, "no")]
    driver.serve("a")
    assert driver.ask("a", num_gpu=98) == [Grant(4, "a")]


@pytest.mark.parametrize("cost", [0.1, 10.0])
def test_who_wishes_otherwise_each_time_takes_a_tenth_of_the_time(cost: float) -> None:
    """One client asks once in ten seconds, another in between for the weights in ever other places."""
    driver = Driver()
    driver.serve("a", cost)
    until, loading = 3600.0, 0.0
    while driver.now < until:
        for wish in ({}, {"num_gpu": driver.tickets}):
            actions = driver.ask("a", **wish)
            asked = driver.tickets
            while Grant(asked, "a") not in actions:
                if actions == [Unload("a")]:
                    actions = driver.unloaded("a")
                else:
                    assert isinstance(actions[0], StartLoad)
                    driver.now += cost
                    loading += cost
                    actions = driver.loaded("a", cost)
            driver.finish(asked)
            driver.now += 5.0
    assert 0 < loading / driver.now < 0.1


def test_keep_alive_is_sticky_and_restarts_when_the_last_answer_ends() -> None:
    driver = Driver()
    driver.ask("a", 60.0)
    driver.now = 5.0
    driver.loaded("a")
    driver.now = 7.0
    assert driver.expiry("a") == 67.0, "while the first answer runs it is counted from now"
    assert driver.scheduler.next_deadline(driver.now) is None
    driver.finish(1)
    assert driver.scheduler.next_deadline(driver.now) == 67.0
    driver.now = 20.0
    driver.ask("a")
    driver.ask("a")
    driver.finish(2)
    assert driver.scheduler.next_deadline(driver.now) is None
    assert driver.expiry("a") == 67.0
    assert driver.scheduler.tick(1000.0) == []
    driver.finish(3)
    assert driver.expiry("a") == 80.0
    driver.ask("a", 3600.0)
    driver.finish(4)
    assert driver.expiry("a") == 3620.0
    assert driver.scheduler.tick(3619.9) == []
    assert driver.scheduler.tick(3620.0) == [Unload("a")]
    assert driver.unloaded("a") == []
    assert driver.states() == {}


def test_keep_alive_zero_unloads_after_the_answer() -> None:
    driver = Driver()
    driver.ask("a", 0.0)
    assert driver.loaded("a") == [Grant(1, "a")]
    assert driver.finish(1) == [Unload("a")]


def test_expire_waits_for_what_runs() -> None:
    driver = Driver()
    driver.serve("a")
    assert driver.scheduler.expire("a", 1.0) == [Unload("a")]
    assert driver.scheduler.expire("unknown", 1.0) == []
    driver.unloaded("a")
    driver.ask("a")
    driver.loaded("a")
    assert driver.scheduler.expire("a", 5.0) == []
    assert driver.expiry("a") == 5.0
    assert driver.ask("a") == [Grant(3, "a")]
    driver.finish(2)
    assert driver.finish(3) == [Unload("a")]


def test_a_request_for_a_model_that_is_going_loads_it_again() -> None:
    driver = Driver()
    driver.serve("a")
    driver.scheduler.expire("a", 0.0)
    assert driver.ask("a") == []
    assert driver.unloaded("a") == [StartLoad("a", spec("a"))]


def test_a_crash_forgets_what_ran_and_the_next_request_loads_anew() -> None:
    driver = Driver()
    driver.ask("a")
    driver.loaded("a")
    assert driver.scheduler.crashed("a", 0.0) == []
    assert driver.finish(1) == []
    assert driver.ask("a") == [StartLoad("a", spec("a"))]
    assert driver.scheduler.crashed("a", 0.0) == [
        Refuse(2, Refusal.LOAD_FAILED, "the process ended while loading"),
    ]
