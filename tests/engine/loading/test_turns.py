"""What a request waits for other models: no more than its share."""

from hypothesis import given
from hypothesis import strategies as st

from engine.loading.load_queue import PATIENCE
from engine.loading.scheduler import MAX_WAIT, Scheduler
from tests.engine.loading.simulation import LEAVING, Request, Simulation

FOUR = "abcd"
ROUNDING = 1e-6


def scheduler(places: int, loads: int = 2) -> Scheduler:
    return Scheduler(places, 10_000, None, loads)


def test_sixty_requests_for_three_models_in_turn_cost_few_loads_however_they_arrive() -> None:
    for gap in (0.0, 0.001, 0.01, 0.05):
        requests = [Request(gap * i, "abc"[i % 3], 0.1) for i in range(60)]
        loads = Simulation(scheduler(1), dict.fromkeys("abc", 0.5), requests).run().loads
        assert len(loads) <= 6, gap


def test_four_models_under_steady_load_share_two_places() -> None:
    """Each has a new request five times a second for four minutes."""
    requests = [Request(i / 20, FOUR[i % 4], 2.0) for i in range(4800)]
    simulation = Simulation(scheduler(2), dict.fromkeys(FOUR, 1.0), requests).run()
    waits = {key: [simulation.waits[i] for i in range(len(requests)) if requests[i].key == key] for key in FOUR}
    assert max(max(values) for values in waits.values()) <= 20.0
    means = [sum(values) / len(values) for values in waits.values()]
    assert max(means) <= 1.3 * min(means), "nobody has more than its share"
    counts = [simulation.loads.count(key) for key in FOUR]
    assert max(counts) - min(counts) <= 0.1 * max(counts)


def test_a_busy_model_starves_nobody() -> None:
    requests = [Request(i / 10, "busy", 1.0) for i in range(6000)] + [Request(300.0, "other", 1.0)]
    simulation = Simulation(scheduler(1), {"busy": 10.0, "other": 10.0}, requests).run()
    assert simulation.waits[6000] <= 1.0 + LEAVING + 10.0 + ROUNDING
    assert simulation.loads == ["busy", "other", "busy"], "and it has its turn again"
    assert max(simulation.waits.values()) <= 10.0 + 20.0 + 2 * LEAVING + 10.0 + 1.0 + ROUNDING


def test_an_answer_without_end_blocks_its_own_place_only() -> None:
    requests = [Request(0.0, "a", 3600.0), *(Request(1.0 + i / 10, "b", 1.0) for i in range(3000))]
    requests.append(Request(100.0, "c", 1.0))
    simulation = Simulation(scheduler(2), dict.fromkeys("abc", 1.0), requests).run()
    assert simulation.waits[len(requests) - 1] <= PATIENCE + 1.0 + LEAVING + 1.0


@st.composite
def crowds(draw: st.DrawFn) -> tuple[int, int, dict[str, float], list[Request]]:
    """Places, loads at once, and requests at any times for models with any costs."""
    keys = FOUR[: draw(st.integers(2, 4))]
    costs = {key: draw(st.sampled_from([0.1, 1.0, 20.0, 200.0])) for key in keys}
    arrivals = st.builds(
        Request,
        st.floats(0, 200).map(lambda at: round(at, 1)),
        st.sampled_from(keys),
        st.sampled_from([0.1, 5.0, 30.0]),
    )
    requests = sorted(draw(st.lists(arrivals, max_size=60)), key=lambda request: request.at)
    return draw(st.integers(1, 3)), draw(st.integers(1, 3)), costs, requests


@given(crowds())
def test_nobody_waits_longer_than_the_turns_loads_and_answers_before(
    crowd: tuple[int, int, dict[str, float], list[Request]],
) -> None:
    places, loads, costs, requests = crowd
    simulation = Simulation(scheduler(places, loads), costs, requests).run()
    longest = max((request.seconds for request in requests), default=0.0)
    most = MAX_WAIT + sum(cost + longest + LEAVING for cost in costs.values()) + max(costs.values())
    assert max(simulation.waits.values(), default=0.0) <= most
