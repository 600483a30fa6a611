"""Which loads begin, who makes room for them, and how long others wait."""

import math

from engine.loading.scheduler import NO_ROOM
from engine.loading.state import AbortLoad, Grant, Refusal, Refuse, StartLoad, State, Unload
from engine.messages import HOST
from tests.engine.loading.scheduling import Driver, spec

LATER = 100.0  # seconds: all models that were loaded at 0 have had their turn


def test_one_load_at_a_time_goes_in_order() -> None:
    driver = Driver(max_loads=1)
    driver.ask("a")
    assert driver.ask("b") == []
    assert driver.ask("c") == []
    assert driver.loaded("a") == [Grant(1, "a"), StartLoad("b", spec("b"))]
    assert driver.loaded("b") == [Grant(2, "b"), StartLoad("c", spec("c"))]


def test_the_line_is_bounded_but_not_for_loaded_models() -> None:
    driver = Driver(max_queue=1)
    driver.ask("a")
    driver.ask("b")
    assert driver.ask("c") == [Refuse(3, Refusal.BUSY)]
    driver.loaded("a")
    assert driver.ask("c") == []
    assert driver.ask("d") == [Refuse(5, Refusal.BUSY)]
    assert driver.ask("a") == [Grant(6, "a")]


def test_places_count_those_whose_load_has_not_begun() -> None:
    driver = Driver(max_loaded=1)
    for key in "abab":
        driver.ask(key)
    assert driver.scheduler.places() == {1: 0, 2: 1, 3: 0, 4: 2}
    driver.loaded("a")
    assert driver.scheduler.places() == {2: 1, 4: 2}
    driver.finish(2)
    assert driver.scheduler.places() == {4: 1}


def test_sixty_mixed_requests_cost_three_loads() -> None:
    driver = Driver(max_loaded=1)
    actions = [action for _ in range(20) for key in "abc" for action in driver.ask(key)]
    loads = granted = 0
    while actions:
        action = actions.pop(0)
        if isinstance(action, StartLoad):
            loads += 1
            actions += driver.loaded(action.key)
        elif isinstance(action, Grant):
            granted += 1
            actions += driver.finish(action.ticket)
        elif isinstance(action, Unload):
            actions += driver.unloaded(action.key)
    assert (loads, granted) == (3, 60)


def test_a_busy_model_is_drained_for_the_head_of_the_line() -> None:
    driver = Driver(max_loaded=1)
    driver.ask("a")
    driver.loaded("a")
    driver.now = LATER
    assert driver.ask("b") == []
    assert driver.ask("a") == [], "what drains takes nothing new"
    assert driver.finish(1) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("b", spec("b"))]
    assert driver.loaded("b") == [Grant(2, "b")]
    assert driver.finish(2) == [Unload("b")]
    assert driver.unloaded("b") == [StartLoad("a", spec("a"))]


def test_draining_ends_when_the_head_gives_up() -> None:
    driver = Driver(max_loaded=1)
    driver.ask("a")
    driver.loaded("a")
    driver.now = LATER
    driver.ask("b")
    driver.ask("a")
    assert driver.finish(2) == [Grant(3, "a")]


def test_an_idle_model_goes_before_a_busy_one_drains() -> None:
    driver = Driver(max_loaded=2)
    driver.serve("a")
    driver.ask("b")
    driver.loaded("b")
    assert driver.ask("c") == [Unload("a")]
    assert driver.ask("b") == [Grant(4, "b")]


def test_what_was_idle_longest_for_its_cost_goes_first() -> None:
    driver = Driver(max_loaded=2)
    driver.serve("dear", cost=60.0)
    driver.now = 100.0
    driver.serve("cheap", cost=1.0)
    driver.now = 110.0
    assert driver.ask("c") == [Unload("cheap")], "10 s for 1 s of loading against 110 s for 60 s"
    driver = Driver(max_loaded=2)
    driver.serve("old")
    driver.now = 100.0
    driver.serve("new")
    assert driver.ask("c") == [Unload("old")]


def test_what_is_pinned_goes_last() -> None:
    driver = Driver(max_loaded=2)
    driver.serve("pinned", keep_alive=math.inf)
    driver.now = 100.0
    driver.serve("other")
    assert driver.ask("c") == [Unload("other")]
    driver = Driver(max_loaded=1)
    driver.serve("pinned", keep_alive=math.inf)
    assert driver.scheduler.tick(1e12) == []
    assert driver.ask("c") == [Unload("pinned")]


def test_room_is_counted_in_bytes() -> None:
    driver = Driver(max_loaded=10, budget=100)
    driver.serve("a", bytes_needed=40, size=40)
    driver.now = 1.0
    driver.serve("b", bytes_needed=40, size=30)
    assert driver.ask("c", bytes_needed=90) == [Unload("a"), Unload("b")], "all that must go goes at once"
    assert driver.unloaded("b") == []
    assert driver.unloaded("a") == [StartLoad("c", spec("c", bytes_needed=90))]


def test_a_model_that_has_grown_counts_as_what_it_is() -> None:
    driver = Driver(max_loaded=10, budget=100)
    driver.serve("a", bytes_needed=40, size=40)
    driver.scheduler.size_changed("a", 70)
    driver.scheduler.size_changed("unknown", 70)
    assert [view.size for view in driver.scheduler.runners()] == [70]
    assert driver.ask("b", bytes_needed=40) == [Unload("a")]


def test_a_model_too_large_for_the_budget_is_loaded_alone() -> None:
    driver = Driver(budget=100)
    driver.serve("a", bytes_needed=10, size=10)
    assert driver.ask("big", bytes_needed=500) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("big", spec("big", bytes_needed=500))]


def test_a_load_that_nobody_waits_for_is_aborted() -> None:
    driver = Driver()
    driver.ask("a")
    driver.ask("a")
    driver.ask("b")
    assert driver.finish(1) == []
    assert driver.finish(2) == [AbortLoad("a"), StartLoad("b", spec("b"))]
    assert driver.loaded("a") == [], "it was too late"
    assert driver.states() == {"a": State.LEAVING, "b": State.LOADING}
    assert driver.unloaded("a") == []
    assert driver.states() == {"b": State.LOADING}


def test_a_crash_makes_room() -> None:
    driver = Driver(max_loaded=1)
    driver.ask("a")
    driver.loaded("a")
    driver.ask("b")
    assert driver.scheduler.crashed("a", 0.0) == [StartLoad("b", spec("b"))]


def test_two_models_load_side_by_side_and_a_third_waits_for_its_place() -> None:
    driver = Driver(max_loads=2)
    assert driver.ask("a") == [StartLoad("a", spec("a"))]
    assert driver.ask("b") == [StartLoad("b", spec("b"))]
    assert driver.ask("c") == driver.ask("b") == []
    assert driver.loaded("b") == [Grant(2, "b"), Grant(4, "b"), StartLoad("c", spec("c"))]
    assert driver.scheduler.load_failed("a", 0.0, "no") == [Refuse(1, Refusal.LOAD_FAILED, "no")]
    assert driver.finish(3) == [AbortLoad("c")], "each load is its own"


def test_what_is_being_loaded_has_its_memory() -> None:
    driver = Driver(budget=100, max_loads=2)
    driver.ask("a", bytes_needed=60)
    assert driver.ask("b", bytes_needed=50) == [], "beside it there is no room"
    assert (driver.scheduler.room_for("a"), driver.scheduler.room_for("other")) == ({}, {HOST: 40})
    driver.scheduler.reserve("a", 80)
    assert (driver.scheduler.promised("b").total, driver.scheduler.promised("a").total) == (80, 0)
    assert driver.ask("c", bytes_needed=30) == []
    assert driver.loaded("a", size=40) == [Grant(1, "a"), StartLoad("b", spec("b", bytes_needed=50))]
    driver.scheduler.reserve("a", 90)
    assert [view.size for view in driver.scheduler.runners()] == [40, 50], "it is loaded"


def test_loads_in_progress_are_not_disturbed_for_what_does_not_fit_beside_them() -> None:
    driver = Driver(max_loaded=3, budget=100, max_loads=3)
    driver.serve("idle", bytes_needed=10, size=10)
    driver.ask("a", bytes_needed=50)
    assert driver.ask("large", bytes_needed=80) == [], "it would not help that the idle one goes"
    assert driver.loaded("a", size=50) == [Grant(2, "a"), Unload("idle")]


def test_a_model_behind_the_head_takes_what_the_head_does_not_need() -> None:
    driver = Driver(max_loaded=4, budget=100, max_loads=2)
    driver.ask("busy", bytes_needed=60)
    driver.loaded("busy", size=60)
    driver.now = LATER
    assert driver.ask("large", bytes_needed=70) == [], "it waits for the busy one"
    assert driver.ask("small", bytes_needed=31) == [], "the head will need that"
    assert driver.ask("tiny", bytes_needed=30) == [StartLoad("tiny", spec("tiny", bytes_needed=30))]
    assert driver.ask("busy") == [], "it drains all the same"
    assert driver.loaded("tiny", size=30) == [Grant(4, "tiny")]
    assert driver.finish(1) == [Unload("busy")]
    assert driver.unloaded("busy") == [StartLoad("large", spec("large", bytes_needed=70))]


def test_a_model_behind_the_head_makes_idle_ones_go_but_not_pinned_ones() -> None:
    driver = Driver(max_loaded=3, max_loads=2)
    driver.ask("a")
    driver.loaded("a")
    driver.serve("idle")
    driver.serve("pinned", keep_alive=math.inf)
    driver.now = LATER
    assert driver.ask("a", use_mmap=False) == [Grant(4, "a")]
    assert driver.ask("a", adapters=("x",)) == [], "it waits until that can be loaded again"
    assert driver.ask("b") == [Unload("idle")]
    assert driver.ask("c") == []
    assert driver.unloaded("idle") == [StartLoad("b", spec("b"))]
    assert driver.states()["pinned"] is State.READY


def test_one_place_for_loads_is_kept_for_the_head() -> None:
    driver = Driver(max_loaded=9, budget=100, max_loads=2)
    driver.ask("busy", bytes_needed=60)
    driver.loaded("busy", size=60)
    driver.now = LATER
    driver.ask("large", bytes_needed=50)
    assert driver.ask("b", bytes_needed=1) == [StartLoad("b", spec("b", bytes_needed=1))]
    assert driver.ask("c", bytes_needed=1) == []
    driver.finish(1)
    assert driver.unloaded("busy") == [StartLoad("large", spec("large", bytes_needed=50))]
    assert driver.loaded("b") == [Grant(3, "b"), StartLoad("c", spec("c", bytes_needed=1))]


def test_a_pinned_model_goes_only_when_the_others_have_gone() -> None:
    driver = Driver(max_loaded=9, budget=100)
    driver.serve("pinned", keep_alive=math.inf, bytes_needed=40, size=40)
    driver.ask("busy", bytes_needed=40)
    driver.loaded("busy", size=40)
    driver.now = LATER
    assert driver.ask("b", bytes_needed=50) == [], "the busy one drains, though the pinned one is idle"
    assert driver.finish(2) == [Unload("busy")]
    assert driver.unloaded("busy") == [StartLoad("b", spec("b", bytes_needed=50))]
    driver.loaded("b", size=50)
    driver.now += LATER
    assert driver.ask("c", bytes_needed=90) == [], "both must go"
    assert driver.finish(3) == [Unload("b"), Unload("pinned")]


def test_a_busy_model_has_its_turn_before_it_drains() -> None:
    driver = Driver(max_loaded=1)
    driver.ask("a")
    driver.loaded("a", cost=5.0)
    assert driver.ask("b") == []
    assert driver.ask("a") == [Grant(3, "a")]
    assert driver.scheduler.next_deadline(driver.now) == 10.0, "twice what its load took"
    driver.now = 10.0
    assert driver.scheduler.tick(driver.now) == []
    assert driver.ask("a") == []
    driver.finish(1)
    assert driver.finish(3) == [Unload("a")]
    driver.unloaded("a")
    driver.loaded("b", cost=600.0)
    assert driver.scheduler.next_deadline(driver.now) == 10.0 + 120.0, "nobody waits longer for turns"
    driver.ask("c")
    assert driver.scheduler.next_deadline(driver.now) == 10.0 + 60.0, "all of them together"
    assert driver.finish(2) == [Unload("b")], "who is idle has no turn"


def test_whichever_model_is_idle_first_goes_when_draining_takes_long() -> None:
    driver = Driver(max_loaded=2)
    for key in "ab":
        driver.ask(key)
        driver.loaded(key)
    driver.now = LATER
    assert driver.ask("c") == []
    assert driver.ask("a") == [], "it drains"
    assert driver.ask("b") == [Grant(5, "b")]
    assert driver.scheduler.next_deadline(driver.now) == LATER + 30.0
    driver.now += 30.0
    assert driver.scheduler.tick(driver.now) == []
    assert driver.scheduler.next_deadline(driver.now) is None
    assert driver.ask("b") == []
    driver.finish(2)
    assert driver.finish(5) == [Unload("b"), Grant(4, "a")], "a need not go any more"
    assert driver.unloaded("b") == [StartLoad("c", spec("c"))]


def test_a_load_without_memory_is_tried_again_without_others_and_then_given_up() -> None:
    driver = Driver(max_loaded=9, max_loads=2)
    driver.serve("idle")
    driver.serve("pinned", keep_alive=math.inf)
    driver.ask("busy")
    driver.loaded("busy")
    driver.ask("a")
    driver.ask("a")
    assert driver.scheduler.out_of_memory("a", 0.0, "no") == [Unload("idle")]
    assert driver.ask("b") == [StartLoad("b", spec("b"))], "it need not wait for that"
    driver.scheduler.load_failed("b", 0.0, "no")
    assert driver.unloaded("idle") == [StartLoad("a", spec("a"), 2)]
    assert driver.scheduler.out_of_memory("a", 0.0, "no") == [Unload("pinned")]
    assert driver.unloaded("pinned") == [StartLoad("a", spec("a"), 3)]
    assert driver.scheduler.out_of_memory("a", 0.0, "still no") == [
        Refuse(4, Refusal.LOAD_FAILED, "still no"),
        Refuse(5, Refusal.LOAD_FAILED, "still no"),
    ]
    assert driver.ask("a") == [StartLoad("a", spec("a"))], "a later request begins anew"
    assert driver.loaded("a") == [Grant(7, "a")]
    assert driver.states()["busy"] is State.READY


def test_who_may_evict_nobody_is_refused_where_somebody_would_have_to_go() -> None:
    driver = Driver(max_loaded=2)
    driver.serve("a")
    driver.serve("b")
    assert driver.ask("c", evicts=False) == [Refuse(3, Refusal.LOAD_FAILED, NO_ROOM)]
    assert driver.ask("a", evicts=False) == [Grant(4, "a")]
    assert driver.states() == {"a": State.READY, "b": State.READY}


def test_who_may_evict_nobody_is_loaded_where_there_is_room() -> None:
    driver = Driver(budget=20)
    driver.serve("a", size=10, bytes_needed=10)
    assert driver.ask("b", evicts=False, bytes_needed=11) == [Refuse(2, Refusal.LOAD_FAILED, NO_ROOM)]
    assert driver.ask("b", evicts=False, bytes_needed=10) == [StartLoad("b", spec("b", bytes_needed=10))]
    assert driver.loaded("b", size=10) == [Grant(3, "b")]


def test_who_may_evict_nobody_does_not_evict_later_either() -> None:
    driver = Driver(max_loaded=2)
    driver.ask("a")
    driver.ask("b")  # waits for its turn among the loads
    assert driver.ask("c", evicts=False) == []
    assert driver.loaded("a") == [Grant(1, "a"), StartLoad("b", spec("b"))]
    assert driver.finish(1) == [Refuse(3, Refusal.LOAD_FAILED, NO_ROOM)]
    assert driver.loaded("b") == [Grant(2, "b")]


def test_who_may_evict_nobody_has_no_other_options_loaded() -> None:
    driver = Driver()
    driver.serve("a")
    assert driver.ask("a", evicts=False, adapters=("x",)) == [Refuse(2, Refusal.LOAD_FAILED, NO_ROOM)]


def test_without_memory_who_may_evict_nobody_unloads_nobody() -> None:
    driver = Driver()
    driver.serve("a")
    driver.ask("b", evicts=False)
    again = driver.scheduler.out_of_memory("b", driver.now, "no memory")
    assert again == [StartLoad("b", spec("b"), attempt=2)]
    driver.ask("b")  # somebody else, for whom others may go
    assert Unload("a") in driver.scheduler.out_of_memory("b", driver.now, "no memory")
