"""Which chunks of prompts the next step computes, beside the sequences that decode.

A step is a pass with a row for each of those, then a pass for each chunk. Long chunks make the others wait, short ones
cost more passes: what a pass costs decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from engine.runner.pass_costs import PassCosts, PassWork

GAP_TARGET = 0.4  # seconds between two tokens of a running sequence, where no more prompts wait than sequences run
ALONE_TARGET = 2.0  # seconds of a chunk while nobody decodes; a request that arrives meanwhile waits for its end
FIRST_GUESS = 128  # tokens of a chunk before any pass was measured
WORTH = 8  # a chunk takes so many times what it costs to end it there, even if the gap exceeds its target
CROWD = 4  # times what a split costs that prompts behind may make of it; more of them would silence the few rows
MUCH_SHORTER = 4  # a prompt shorter by this factor overtakes a longer one
PATIENCE = 4  # a prompt is overtaken for so many times what its next chunk takes


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that is being computed.

    `pending`: tokens to compute, 1 or more. `start`: position of the first of them. `limit`: most tokens of one of its
    passes (the request's `num_batch`), or 0. `grid`: its chunks end at multiples of so many tokens from position 0, or
    at its end; 0 for anywhere, at most `n_batch`, and stronger than `limit`. `waited`: seconds since its last pass, or
    since it arrived.
    """

    pending: int
    start: int = 0
    limit: int = 0
    grid: int = 0
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class PrefillPolicy:
    """Chooses chunks; knows no clock.

    `n_batch`: most tokens of a pass. `n_ubatch`: most tokens of a graph. `abortable`: whether a running pass can be
    stopped. Where it can, a gap exceeds `gap_target` (seconds) if splitting a prompt would cost more than it saves;
    where not, prompts never take more than that beside rows, but for a cell of a grid and for graphs that alone do.
    """

    n_batch: int
    n_ubatch: int
    abortable: bool = True
    gap_target: float = GAP_TARGET

    def chunks(self, prompts: Sequence[Prompt], decoding: PassWork, costs: PassCosts) -> list[tuple[int, int]]:
        """Choose the next step's chunks: (index of the prompt, tokens) in the order of their passes.

        `prompts`: in the order of their arrival. `decoding`: the step's pass of rows, with `rows` 0 if nobody decodes.
        A prompt may have several chunks. Without rows there is at least one chunk; beside rows a step may have none if
        all prompts are slowed by their own `limit`.
        """
        return _Step(self, prompts, decoding, costs).fill() if prompts else []


def _overtakes(prompt: Prompt, other: Prompt) -> bool:
    return prompt.pending * MUCH_SHORTER <= other.pending


class _Step:
    """One step being filled.

    `_room`: seconds for all chunks. `_target`: seconds of the first chunk, not to be exceeded if `_strict`. `_between`:
    seconds of what comes between two chunks, the pass of rows and that of a slowed prompt.
    """

    def __init__(self, policy: PrefillPolicy, prompts: Sequence[Prompt], decoding: PassWork, costs: PassCosts) -> None:
        self._policy = policy
        self._prompts = prompts
        self._costs = costs
        self._rows = decoding.rows
        self._strict = bool(decoding.rows) and not policy.abortable
        self._graph_seconds = costs.graph_seconds
        self._slowed = [i for i in range(len(prompts)) if self._is_slowed(prompts[i])] if costs.known else []
        self._queue = [i for i in range(len(prompts)) if i not in self._slowed]
        if not self._queue and not self._rows:
            self._queue.append(self._slowed.pop(0))
        self._target = ALONE_TARGET
        self._last = self._due_slowed()
        self._between = sum(self._seconds(prompts[i], tokens) for i, tokens in self._last)
        if self._rows:
            self._between += costs.seconds(decoding)
            self._target = self._left(policy.gap_target)
        self._room = self._left(self._longest_gap())

    def fill(self) -> list[tuple[int, int]]:
        """The chunks: a share of the first prompt, then others that fit whole into the room that it leaves.

        A part of another would only delay what comes next.
        """
        if not self._queue:
            return self._last
        i = self._next(self._queue)
        prompt = self._prompts[i]
        tokens = self._share(prompt)
        passes = self._passes(prompt, tokens)
        if not self._rows:
            passes = islice(passes, 1)  # what arrives meanwhile comes between
        chosen = [(i, count) for count in passes]
        if self._costs.known and (self._rows or chosen[0][1] == prompt.pending):
            chosen += self._others(i, self._room - self._seconds(prompt, tokens))
        return chosen + self._last

    def _longest_gap(self) -> float:
        """Seconds between two tokens: longer where more prompts wait behind the first than rows are there.

        In such a burst, a pass of few rows between any two prompts would hold up all that wait, and the rows would be
        no sooner at their own end: a pass of few costs hardly less than one of all that will run.
        """
        target = self._policy.gap_target
        if not self._policy.abortable:
            return target
        behind = len(self._queue) - 1
        return min(target * (1 + behind / max(self._rows, 1)), ALONE_TARGET)

    def _left(self, gap: float) -> float:
        """Seconds of a gap that are for prompts. However long the rows take, prompts get on."""
        return max(gap - self._between, self._policy.gap_target / 2)

    def _others(self, first: int, room: float) -> list[tuple[int, int]]:
        chosen: list[tuple[int, int]] = []
        queue = [i for i in self._queue if i != first]
        while queue and room > 0:
            i = self._next(queue)
            queue.remove(i)
            prompt = self._prompts[i]
            seconds = self._seconds(prompt, prompt.pending)
            if seconds <= room:
                room -= seconds
                chosen += [(i, count) for count in self._passes(prompt, prompt.pending)]
        return chosen

    def _is_slowed(self, prompt: Prompt) -> bool:
        """Whether a request's own `num_batch` makes passes so small that the fixed part of their cost prevails."""
        most = self._most_tokens(prompt)
        return most < min(prompt.pending, self._policy.n_batch) and (
            self._seconds(prompt, most) < WORTH * self._graph_seconds
        )

    def _due_slowed(self) -> list[tuple[int, int]]:
        """A pass of the slowed prompt that waited longest, if all of them together do not take too much time."""
        if not self._slowed:
            return []
        i = max(self._slowed, key=lambda i: self._prompts[i].waited)
        prompt = self._prompts[i]
        tokens = next(self._passes(prompt, prompt.pending))
        due = prompt.waited >= PATIENCE * len(self._slowed) * self._seconds(prompt, tokens)
        return [(i, tokens)] if due else []

    def _next(self, queue: list[int]) -> int:
        """The oldest prompt, or a much shorter one, as long as the oldest can wait."""
        oldest = self._prompts[queue[0]]
        shorter = [i for i in queue if _overtakes(self._prompts[i], oldest)]
        if not shorter or not self._costs.known:
            return queue[0]
        chunk = self._seconds(oldest, self._share(oldest))
        return queue[0] if oldest.waited >= PATIENCE * chunk else self._next(shorter)

    def _split(self, prompt: Prompt) -> float:
        """What it costs, in seconds, to end a chunk before its prompt ends: another graph and a pass of rows between.

        These hold up everybody, but rows and shorter prompts also have their turn sooner: it counts for more, the more
        prompts there are behind.
        """
        if not self._rows or self._strict:
            return self._graph_seconds
        shorter = sum(_overtakes(self._prompts[i], prompt) for i in self._queue)
        crowd = 1 + (len(self._queue) - shorter) / (self._rows + shorter)
        return (self._graph_seconds + self._between) * min(crowd, CROWD)

    def _share(self, prompt: Prompt) -> int:
        """Tokens of a chunk among equal ones: as few as keep to the target, but none that is not worth its cost."""
        if not self._costs.known:
            return self._part(prompt, max(1, round(prompt.pending / FIRST_GUESS)))
        seconds = self._seconds(prompt, prompt.pending)
        least = WORTH * self._split(prompt)
        if self._strict:
            least = min(least, self._target / 2)
        worth = max(1, int(seconds / least))
        count = min(worth, math.ceil(seconds / self._target))
        tokens = self._part(prompt, count)
        longer = True
        while count < worth and tokens > max(prompt.grid, 1) and self._seconds(prompt, tokens) > self._target:
            count += not longer
            longer = False
            tokens = self._part(prompt, count, longer=False)
        small_rest = seconds - self._seconds(prompt, tokens) < least
        return prompt.pending if small_rest and not self._strict else tokens

    def _seconds(self, prompt: Prompt, tokens: int) -> float:
        n_ubatch = min(self._policy.n_ubatch, self._most_tokens(prompt))
        return self._costs.seconds(PassWork.prompt(tokens, prompt.start, n_ubatch))

    def _part(self, prompt: Prompt, count: int, *, longer: bool = True) -> int:
        """Tokens of the first of `count` equal chunks, on the nearest border; not `longer`: at most so many."""
        tokens = -(-prompt.pending // count)
        over = (prompt.start + tokens) % prompt.grid if prompt.grid and tokens < prompt.pending else 0
        if not over:
            return tokens
        if tokens <= over or (longer and 2 * over > prompt.grid):
            return min(tokens - over + prompt.grid, prompt.pending)
        return tokens - over

    def _most_tokens(self, prompt: Prompt) -> int:
        """Most tokens of one pass."""
        return max(min(prompt.limit or self._policy.n_batch, self._policy.n_batch), prompt.grid)

    def _passes(self, prompt: Prompt, tokens: int) -> Iterator[int]:
        """The next `tokens` of a prompt in as few passes as it may have, about equal ones."""
        most = self._most_tokens(prompt)
        at, end = prompt.start, prompt.start + tokens
        while at < end:
            rest = Prompt(end - at, at, grid=prompt.grid)
            count = self._part(rest, -(-rest.pending // most), longer=False)
            yield count
            at += count
