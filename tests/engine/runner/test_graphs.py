"""Into how many graphs llama.cpp cuts a pass: each reads all weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from engine.runner.batch import Batch
from engine.runner.context import Context
from engine.runner.llamacpp import C
from engine.runner.shape import Shape
from tests.engine.runner.harness import LIKELIEST, Runner, chat
from tests.engine.runner.passes import Passes, tokens

LAST = b"result_output"  # llama.cpp's name for the last tensor of each graph
SHAPE = Shape(8, 256)


class Graphs:
    """Counts the graphs that contexts compute."""

    def __init__(self) -> None:
        self._count = 0
        name = C._lib.ggml_get_name
        name.argtypes, name.restype = [C.ctypes.c_void_p], C.ctypes.c_char_p

        def see(tensor: int, ask: bool, _user_data: object) -> bool:
            self._count += ask and name(tensor) == LAST
            return False

        self.callback = C.ggml_backend_sched_eval_callback(see)

    def of(self, action: Callable[[], object]) -> int:
        """How many this takes."""
        before = self._count
        action()
        return self._count - before


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    """What contexts that are made from now on compute."""
    counter = Graphs()
    make = Context.params

    def counted(context: Context) -> C.llama_context_params:
        params = make(context)
        params.cb_eval = counter.callback
        return params

    monkeypatch.setattr(Context, "params", counted)
    return counter


@pytest.fixture
def passes(graphs: Graphs) -> Iterator[Passes]:
    """Eight streams that hold ten tokens each."""
    made = Passes(SHAPE)
    for seq in range(SHAPE.streams):
        made.run(seq, tokens(10, seq))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("streams", "count"),
    [([3], 1), ([0, 1, 2, 3, 4, 5], 1), ([2, 3], 1), ([0, 2, 4, 6], 4), ([0, 2, 4, 5, 7], 4), ([3, 2, 1, 0], 4)],
    ids=str,
)
def test_rows_of_neighbouring_streams_cost_one_graph(
    graphs: Graphs, passes: Passes, streams: list[int], count: int
) -> None:
    assert graphs.of(lambda: passes.rows(streams, 10)) == count


def test_a_prompt_beside_rows_costs_a_graph_of_its_own(graphs: Graphs, passes: Passes) -> None:
    batch = Batch(passes.context.n_batch)
    batch.add_row([0, 1, 2], [7] * 3, [10] * 3)
    batch.add(3, tokens(30), 10, output=True)
    assert graphs.of(lambda: passes.context.decode(batch)) == 2


def test_the_gaps_that_finished_answers_leave_are_closed(graphs: Graphs) -> None:
    runner = Runner(n_ctx=256, n_cells=2048)
    seqs = [runner.submit(chat(f"Tell me about {thing}."), sampling=LIKELIEST) for thing in ("a", "fox", "the", "sun")]
    runner.run(until=lambda: all(seq.decoding for seq in seqs))
    assert graphs.of(runner.step) == 1
    for seq in seqs[1:3]:
        runner.loop.cancel(seq.id)
    assert sorted(seq.slot for seq in (seqs[0], seqs[3])) == [0, 3]
    assert graphs.of(runner.step) == 1
    assert abs(seqs[0].slot - seqs[3].slot) == 1
    runner.close()
