"""Who gets more context, and whose context shrinks for it."""

from engine.loading.state import Grant, Grown, Resize, StartLoad, State, Unload
from tests.engine.loading.scheduling import CTX, Contexts, spec


def test_a_context_grows_to_the_target_where_there_is_room() -> None:
    driver = Contexts(budget=100 * CTX)
    ticket = driver.load("a")
    assert driver.grow(ticket, 3 * CTX, 4 * CTX) == [Resize("a", 4 * CTX, 4 * CTX)]
    assert driver.contexts() == {"a": CTX}
    assert driver.changed("a", 4 * CTX) == [Grown(ticket, 4 * CTX)]
    assert (driver.contexts(), driver.taken()) == ({"a": 4 * CTX}, {"a": 13 * CTX})
    assert driver.ask("a", num_ctx=4 * CTX, num_ctx_auto=False) == [Grant(2, "a")], "it serves them all"
    assert driver.grow(ticket, 4 * CTX) == [Grown(ticket, 4 * CTX)]


def test_what_is_there_is_had_at_once() -> None:
    driver = Contexts(budget=100 * CTX)
    driver.grow(driver.load("a"), 8 * CTX)
    driver.changed("a", 8 * CTX)
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(2, 2 * CTX, 4 * CTX) == [Grown(2, 4 * CTX)]
    assert driver.grow(99, CTX) == [Grown(99, 0)], "it has ended"


def test_what_is_there_is_had_while_it_changes() -> None:
    driver = Contexts(budget=32 * CTX)
    growing = driver.load("a")
    driver.grow(growing, 2 * CTX)
    driver.changed("a", 2 * CTX)
    assert driver.grow(growing, 8 * CTX) == [Resize("a", 8 * CTX, 8 * CTX)]
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(driver.tickets, CTX, 4 * CTX) == [Grown(driver.tickets, 2 * CTX)], "it need not wait for 8"
    assert driver.changed("a", 8 * CTX) == [Grown(growing, 8 * CTX)]
    driver.finish(growing)
    driver.finish(driver.tickets)
    driver.ask("b", bytes_needed=20 * CTX)
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(driver.tickets, CTX, 4 * CTX) == [Grown(driver.tickets, CTX)], "it shrinks just now"
    assert driver.changed("a", CTX) == [StartLoad("b", spec("b", bytes_needed=20 * CTX))]


def test_several_grow_in_one_change_and_then_another() -> None:
    driver = Contexts(budget=100 * CTX)
    driver.load("a")
    for _ in range(3):
        driver.ask("a", num_ctx=CTX)
    assert driver.grow(1, 2 * CTX) == [Resize("a", 2 * CTX, 2 * CTX)]
    assert driver.grow(2, 2 * CTX) == driver.grow(3, 5 * CTX) == driver.grow(4, 4 * CTX) == []
    assert driver.changed("a", 2 * CTX) == [Grown(1, 2 * CTX), Grown(2, 2 * CTX), Resize("a", 5 * CTX, 5 * CTX)]
    assert driver.changed("a", 5 * CTX) == [Grown(3, 5 * CTX), Grown(4, 4 * CTX)]


def test_there_are_cells_for_all_that_run_where_that_costs_nobody_anything() -> None:
    driver = Contexts(budget=32 * CTX)
    driver.streams = 3
    driver.load("a")
    for _ in range(4):
        driver.ask("a", num_ctx=CTX)
    assert driver.grow(1, 3 * CTX) == [Resize("a", 3 * CTX, 5 * CTX)], "of which three run at once"
    assert driver.changed("a", 3 * CTX, 5 * CTX) == [Grown(1, 3 * CTX)]
    assert driver.grow(2, 2 * CTX) == [Grown(2, 2 * CTX), Resize("a", 3 * CTX, 6 * CTX)]
    assert driver.grow(3, 3 * CTX) == [Grown(3, 3 * CTX)], "it need not wait for cells"
    assert driver.changed("a", 3 * CTX, 6 * CTX) == [Resize("a", 3 * CTX, 8 * CTX)]
    assert driver.changed("a", 3 * CTX, 8 * CTX) == []
    driver.finish(1)
    driver.ask("a", num_ctx=CTX)
    driver.ask("b", bytes_needed=20 * CTX)
    assert driver.grow(6, 3 * CTX) == [Grown(6, 3 * CTX)], "there are as many"
    for ticket in (2, 3, 4, 5):
        driver.finish(ticket)
    assert driver.finish(6) == [Resize("a", CTX, CTX)]
    assert driver.changed("a", CTX, CTX) == [StartLoad("b", spec("b", bytes_needed=20 * CTX))]


def test_cells_for_others_are_taken_from_nobody() -> None:
    driver = Contexts(max_loaded=9, budget=30 * CTX)
    driver.streams = 8
    driver.load("a")
    driver.serve("b", bytes_needed=10 * CTX, size=10 * CTX)
    for _ in range(4):
        driver.ask("a", num_ctx=CTX)
    assert driver.grow(1, 6 * CTX) == [Resize("a", 6 * CTX, 10 * CTX)]
    driver.changed("a", 6 * CTX, 10 * CTX)
    assert driver.grow(3, 6 * CTX) == [Grown(3, 6 * CTX)]
    driver.ask("a", num_ctx=6 * CTX, num_ctx_auto=False)
    assert driver.grow(4, 6 * CTX) == [Grown(4, 6 * CTX)]


def test_old_and_new_cells_must_fit_beside_the_others() -> None:
    driver = Contexts(budget=24 * CTX)
    ticket = driver.load("a")
    driver.load("b")
    assert driver.grow(ticket, 4 * CTX, 8 * CTX) == [Resize("a", 4 * CTX, 4 * CTX)], (
        "9 + 1 old + 4 new + 10 of the other"
    )
    driver = Contexts(budget=24 * CTX - 1)
    ticket = driver.load("a")
    driver.load("b")
    assert driver.grow(ticket, 4 * CTX, 8 * CTX) == [Resize("a", 4 * CTX - 256, 4 * CTX - 256)], "as much as there is"
    assert driver.changed("a", 4 * CTX - 256) == [Grown(ticket, 4 * CTX - 256)]


def test_while_a_context_changes_nobody_takes_its_memory() -> None:
    driver = Contexts(max_loaded=9, budget=30 * CTX)
    ticket = driver.load("a")
    driver.grow(ticket, 15 * CTX)
    assert driver.ask("b", bytes_needed=10 * CTX) == []
    driver.finish(ticket)
    assert driver.ask("c") == [], "what changes is not unloaded yet"
    assert driver.changed("a", 15 * CTX) == [Resize("a", CTX, CTX)], "nobody needs that now"
    assert driver.changed("a", CTX) == [StartLoad("b", spec("b", bytes_needed=10 * CTX))]


def test_idle_models_go_for_a_longer_context_and_busy_ones_do_not() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load("a")
    driver.serve("idle", bytes_needed=10 * CTX, size=10 * CTX)
    busy = driver.load("busy")
    assert driver.grow(ticket, 12 * CTX, 30 * CTX) == [Unload("idle")]
    assert driver.unloaded("idle") == [Resize("a", 20 * CTX, 20 * CTX)]
    assert driver.changed("a", 20 * CTX) == [Grown(ticket, 20 * CTX)]
    assert driver.grow(ticket, 21 * CTX) == [Grown(ticket, 20 * CTX)], "busy ones are not drained"
    assert driver.ask("busy", num_ctx=CTX) == [Grant(busy + 1, "busy")]


def test_alone_a_context_may_take_any_memory() -> None:
    driver = Contexts(budget=11 * CTX)
    ticket = driver.load("a")
    assert driver.grow(ticket, 99 * CTX) == [Resize("a", 99 * CTX, 99 * CTX)]


def test_without_memory_everybody_gets_what_there_is() -> None:
    driver = Contexts(budget=100 * CTX)
    driver.load("a")
    driver.ask("a", num_ctx=CTX)
    driver.grow(1, 8 * CTX)
    driver.grow(2, 9 * CTX)
    assert driver.changed("a", 2 * CTX) == [Grown(1, 2 * CTX), Grown(2, 2 * CTX)]
    assert driver.taken() == {"a": 11 * CTX}


def test_a_context_that_nobody_needs_shrinks_before_a_model_goes() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    driver.serve("idle", bytes_needed=10 * CTX, size=10 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.ask("a", num_ctx=CTX)
    driver.finish(ticket)
    assert driver.scheduler.tick(1.0) == [], "nobody wants the memory"
    assert driver.ask("b", bytes_needed=15 * CTX) == [Resize("a", CTX, CTX)], "though a request runs in it"
    assert driver.ask("a", num_ctx=2 * CTX, num_ctx_auto=False) == [], "it may be too small for that by now"
    assert driver.changed("a", CTX) == [
        Resize("a", 2 * CTX, 2 * CTX),
        StartLoad("b", spec("b", bytes_needed=15 * CTX)),
    ], "there is room for both"
    assert driver.taken() == {"idle": 10 * CTX, "a": 10 * CTX, "b": 15 * CTX}


def test_who_must_go_need_not_shrink() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.finish(ticket)
    assert driver.ask("b", bytes_needed=35 * CTX) == [Unload("a")]


def test_a_context_that_is_needed_does_not_shrink() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    assert driver.ask("b", bytes_needed=25 * CTX) == []
    assert driver.finish(ticket) == [Resize("a", CTX, CTX)]


def test_a_longer_context_makes_others_shrink() -> None:
    driver = Contexts(max_loaded=9, budget=42 * CTX)
    for key in "ab":
        ticket = driver.load_grown(key, 8 * CTX)
        driver.finish(ticket)
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(driver.tickets, 9 * CTX) == [Resize("b", CTX, CTX)]
    assert driver.changed("b", CTX) == [Resize("a", 9 * CTX, 9 * CTX)]


def test_what_cannot_shrink_is_not_asked_again_and_goes() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.finish(ticket)
    assert driver.ask("b", bytes_needed=25 * CTX) == [Resize("a", CTX, CTX)]
    assert driver.changed("a", 10 * CTX) == [Unload("a")]


def test_who_ends_or_crashes_waits_for_no_context() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    driver.serve("idle", bytes_needed=10 * CTX, size=10 * CTX)
    ticket = driver.load("a")
    assert driver.grow(ticket, 25 * CTX) == [Unload("idle")]
    driver.finish(ticket)
    assert driver.unloaded("idle") == []
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(driver.tickets, 5 * CTX) == [Resize("a", 5 * CTX, 5 * CTX)]
    assert driver.scheduler.crashed("a", 0.0) == [Grown(driver.tickets, CTX)]
    assert driver.grow(driver.tickets, 5 * CTX) == [Grown(driver.tickets, 0)]
    assert driver.changed("a", 5 * CTX) == []
    assert driver.taken() == {}


def test_what_embedding_takes_stays_when_a_context_shrinks() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.scheduler.size_changed("a", 22 * CTX)
    driver.finish(ticket)
    assert driver.ask("b", bytes_needed=27 * CTX) == [Resize("a", CTX, CTX)], "13 remain"
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.scheduler.size_changed("a", 22 * CTX)
    driver.finish(ticket)
    assert driver.ask("b", bytes_needed=27 * CTX + 1) == [Unload("a")]


LARGER = {"num_ctx": 4 * CTX, "num_ctx_auto": False}


def test_a_context_grows_for_a_request_that_has_set_a_longer_one() -> None:
    driver = Contexts(budget=100 * CTX)
    driver.streams = 4
    running = driver.load("a")
    assert driver.ask("a", **LARGER) == [Resize("a", 4 * CTX, 5 * CTX)], "with cells for what runs beside it"
    assert driver.ask("a", num_ctx=CTX) == [Grant(3, "a")], "others need not wait for it"
    assert driver.ask("a", **LARGER | {"num_ctx": 8 * CTX}) == []
    assert driver.changed("a", 4 * CTX, 5 * CTX) == [Grant(2, "a"), Resize("a", 8 * CTX, 14 * CTX)]
    assert driver.changed("a", 8 * CTX, 14 * CTX) == [Grant(4, "a")]
    assert driver.ask("a", **LARGER) == [Grant(5, "a"), Resize("a", 8 * CTX, 17 * CTX)], "and cells of its own"
    for ticket in range(running, 6):
        driver.finish(ticket)
    assert driver.states() == {"a": State.READY}


def test_idle_models_go_for_a_longer_context_that_was_set() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    driver.load("a")
    driver.serve("idle", bytes_needed=25 * CTX, size=25 * CTX)
    assert driver.ask("a", **LARGER | {"num_ctx": 6 * CTX}) == [Unload("idle")]
    assert driver.unloaded("idle") == [Resize("a", 6 * CTX, 6 * CTX)]


def test_without_room_for_a_longer_context_the_model_is_loaded_anew() -> None:
    driver = Contexts(max_loaded=9, budget=30 * CTX)
    running = driver.load("a")
    busy = driver.load("busy", size=17 * CTX)
    larger = {"bytes_needed": 13 * CTX, **LARGER}
    assert driver.ask("a", **larger) == [], "10 of its own and 4 new ones are 1 too many while it grows"
    assert driver.ask("a", num_ctx=CTX) == [], "it drains"
    driver.finish(running)
    assert driver.states()["a"] is State.LEAVING
    assert driver.unloaded("a") == [StartLoad("a", spec("a", **larger))]
    assert driver.finish(busy) == []


def test_a_longer_context_that_could_not_be_had_is_not_tried_again() -> None:
    driver = Contexts(budget=100 * CTX)
    running = driver.load("a")
    assert driver.ask("a", **LARGER) == [Resize("a", 4 * CTX, 4 * CTX)]
    assert driver.changed("a", 2 * CTX) == [], "the devices had less than the ledger"
    assert driver.ask("a", num_ctx=CTX) == [], "it drains for a load"
    assert driver.finish(running) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("a", spec("a", **LARGER))]


def test_who_leaves_or_crashes_while_a_context_grows_that_was_set() -> None:
    driver = Contexts(budget=100 * CTX)
    driver.load("a")
    driver.ask("a", **LARGER)
    assert driver.scheduler.crashed("a", 0.0) == [StartLoad("a", spec("a", **LARGER))], "it has not failed"
    driver = Contexts(budget=100 * CTX)
    driver.load("a")
    driver.ask("a", **LARGER)
    driver.finish(2)
    assert driver.changed("a", 4 * CTX) == []


def test_behind_another_load_a_context_grows_only_where_that_takes_nothing_from_it() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    driver.load("a")
    driver.load("busy")
    driver.ask("b", bytes_needed=19 * CTX)
    assert driver.states() == {"a": State.READY, "busy": State.READY, "b": State.LOADING}
    driver.scheduler.loaded("b", 0.0, 1.0, 19 * CTX)
    assert driver.ask("c", bytes_needed=15 * CTX) == []
    driver.ask("a", **LARGER)
    assert driver.contexts()["a"] == CTX
    driver.now = 100.0
    driver.scheduler.tick(driver.now)
    assert driver.finish(2) == [Unload("busy")]
    assert driver.contexts()["a"] == CTX
