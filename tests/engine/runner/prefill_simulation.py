"""A simulated machine on which the prefill policy drives steps: time is counted, none passes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from engine.runner.pass_costs import PassCosts, PassWork
from engine.runner.prefill_policy import PrefillPolicy, Prompt

Chooser = Callable[[Sequence[Prompt], PassWork, PassCosts], list[tuple[int, int]]]


@dataclass(frozen=True)
class Machine:
    """What passes truly take, in seconds: other sums than the policy assumes.

    `weights`: reading all weights; a graph of a prompt takes no less. `noise`: spread of each pass; with noise, one of
    20 passes takes ten times as long.
    """

    weights: float
    graph: float
    token: float
    row: float
    token_cell: float
    row_cell: float
    n_batch: int = 2048
    n_ubatch: int = 512
    abortable: bool = True
    noise: float = 0.0

    def slower(self, factor: float) -> Machine:
        """The same with all times multiplied: a slower processor or a larger model."""
        names = ("weights", "graph", "token", "row", "token_cell", "row_cell")
        return replace(self, **{name: getattr(self, name) * factor for name in names})

    def seconds(self, work: PassWork, chance: random.Random) -> float:
        """What a pass takes."""
        if work.prompt_tokens:
            computed = work.graphs * self.graph + work.prompt_tokens * self.token + work.cells * self.token_cell
            seconds = max(computed, work.graphs * self.weights)
        else:
            seconds = work.graphs * self.weights + work.rows * self.row + work.cells * self.row_cell
        if self.noise:
            seconds *= chance.lognormvariate(0, self.noise) * (10 if chance.random() < 0.05 else 1)
        return seconds

    def quiet(self) -> Machine:
        """The same without noise."""
        return replace(self, noise=0.0)

    def policy(self) -> PrefillPolicy:
        """The policy under test, for this machine."""
        return PrefillPolicy(self.n_batch, self.n_ubatch, self.abortable)


SLOW = Machine(weights=0.025, graph=0.004, token=0.0096, row=0.0155, token_cell=5e-7, row_cell=3e-6)  # two old cores
MACHINES = {
    "slow CPU": SLOW,
    "fast CPU": SLOW.slower(1 / 10),
    "large model": SLOW.slower(4),
    "busy CPU": replace(SLOW, noise=0.15),
    "GPU": Machine(0.005, 0.001, 0.0001, 0.0001, 1e-9, 1e-8, abortable=False),
    "old GPU": Machine(0.05, 0.005, 0.0012, 0.001, 1e-8, 1e-7, abortable=False),
}


@dataclass
class Request:
    """A request and what became of it: `times` at which its tokens were there, `chunks` of its prompt."""

    prompt: int
    answer: int = 64
    arrives: float = 0.0
    limit: int = 0
    grid: int = 0
    done: int = 0
    waits_since: float = 0.0
    times: list[float] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)

    @property
    def first(self) -> float:
        """Seconds from its arrival to its first token."""
        return self.times[0] - self.arrives

    @property
    def gap(self) -> float:
        """The longest time between two of its tokens."""
        return max((b - a for a, b in zip(self.times, self.times[1:], strict=False)), default=0.0)


def simulate(
    machine: Machine, requests: Sequence[Request], choose: Chooser | None = None, costs: PassCosts | None = None
) -> float:
    """Run requests, all at once if they have arrived. `choose`: the policy of the machine if None.

    Returns when the last token was there, in seconds.
    """
    choose = choose or machine.policy().chunks
    costs = costs or PassCosts()
    chance = random.Random(7)
    coming = sorted(requests, key=lambda request: request.arrives)
    running: list[Request] = []
    now = 0.0

    def run(work: PassWork) -> None:
        nonlocal now
        seconds = machine.seconds(work, chance)
        costs.measured(work, seconds)
        now += seconds

    while coming or running:
        if not running:
            now = max(now, coming[0].arrives)
        while coming and coming[0].arrives <= now:
            running.append(coming.pop(0))
            running[-1].waits_since = running[-1].arrives
        rows = [request for request in running if request.times]
        prompts = [request for request in running if not request.times]
        depths = [request.prompt + len(request.times) for request in rows]
        decoding = PassWork(0, len(rows), sum(depths), int(bool(rows)))
        waiting = [Prompt(p.prompt - p.done, p.done, p.limit, p.grid, now - p.waits_since) for p in prompts]
        chunks = choose(waiting, decoding, costs) if waiting else []
        assert rows or chunks, "nothing to do"
        if rows:
            run(decoding)
            for request in rows:
                request.times.append(now)
        for i, tokens in chunks:
            request = prompts[i]
            run(PassWork.prompt(tokens, request.done, machine.n_ubatch))
            request.done += tokens
            request.chunks.append(tokens)
            request.waits_since = now
            if request.done == request.prompt:
                request.times.append(now)
        running = [request for request in running if len(request.times) < request.answer]
    return now


def whole_prompts(prompts: Sequence[Prompt], decoding: PassWork, costs: PassCosts) -> list[tuple[int, int]]:
    """One whole prompt in each step, in the order of their arrival."""
    return [(0, prompts[0].pending)]


def every_prompt(prompts: Sequence[Prompt], decoding: PassWork, costs: PassCosts) -> list[tuple[int, int]]:
    """All prompts whole, in one step."""
    return [(i, prompt.pending) for i, prompt in enumerate(prompts)]


def chunks_of(seconds: float, machine: Machine) -> Chooser:
    """Chunks sized in seconds by the rate of prefill."""

    def choose(prompts: Sequence[Prompt], decoding: PassWork, costs: PassCosts) -> list[tuple[int, int]]:
        return [(0, min(prompts[0].pending, max(1, int(seconds / machine.token))))]

    return choose
