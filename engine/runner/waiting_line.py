"""The sequences that wait to run, in the order in which clients have their turns."""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import count

from engine.client import Client
from engine.runner.sequence import Sequence
from engine.runner.turns import Turns

SECONDS_PER_TOKEN = 0.05  # by which a sequence of a client stands behind a shorter one of the same client
PREFILL_SHARE = 0.1  # what a token of a prompt takes, as a part of what one of an answer does
MUCH_SHORTER = 4  # only a sequence shorter by about this factor overtakes an older one of its client

Place = tuple[bool, float, int, Sequence]
"""Whether it has not begun yet, its place among the others of its client, a number, and the sequence."""


class WaitingLine:
    """Sequences by client. Owned by the loop thread; others may ask for its length.

    The client of which the fewest run is next, then the one served longest ago. Of one client's, those that were
    suspended come first, then the older and the much shorter ones. `asking`: how many are told their place.
    """

    def __init__(self) -> None:
        self._lines: defaultdict[Client, list[Place]] = defaultdict(list)
        self._turns = Turns()
        self._numbers = count()
        self.asking = 0

    def __len__(self) -> int:
        return sum(map(len, [*self._lines.values()]))  # a list: other threads ask, too

    def __iter__(self) -> Iterator[Sequence]:
        return (place[-1] for line in self._lines.values() for place in line)

    def add(self, seq: Sequence) -> None:
        """Queue a sequence that has arrived."""
        self.asking += seq.progress is not None
        answer = max(0, min(seq.max_new, seq.limit - seq.n_prompt))
        size = answer + PREFILL_SHARE * seq.n_prompt
        size = MUCH_SHORTER ** round(math.log(max(size, 1), MUCH_SHORTER))
        insort(self._lines[seq.client], (True, seq.arrived + SECONDS_PER_TOKEN * size, next(self._numbers), seq))

    def put_back(self, seq: Sequence) -> None:
        """Queue a sequence that was suspended, before all others of its client."""
        self.asking += seq.progress is not None
        number = next(self._numbers)
        insort(self._lines[seq.client], (False, -number, number, seq))

    def remove(self, seq: Sequence) -> None:
        """Take a sequence out that waits no more."""
        self.asking -= seq.progress is not None
        line = [place for place in self._lines[seq.client] if place[-1] is not seq]
        self._lines[seq.client] = line
        if not line:
            del self._lines[seq.client]

    def served(self, client: Client) -> None:
        """Note that a sequence of a client runs now."""
        self._turns.serve(client)

    def in_turn(self, running: Iterable[Sequence]) -> Iterator[Sequence]:
        """All of them, in the order in which they would be admitted beside those that run."""
        counts: Counter[str | Client] = Counter()
        for seq in running:
            counts.update((seq.client[0], seq.client))
        programs: defaultdict[str, list[Iterator[tuple[int, int, Sequence]]]] = defaultdict(list)
        for client, line in self._lines.items():
            programs[client[0]].append(_ranked(counts[client], self._turns.rank(client)[1], (p[-1] for p in line)))
        clients = []
        for name, lines in programs.items():
            merged = (seq for _, _, seq in heapq.merge(*lines, key=lambda entry: entry[:2]))
            clients.append(_ranked(counts[name], self._turns.rank((name, ""))[0], merged))
        return (seq for _, _, seq in heapq.merge(*clients, key=lambda entry: entry[:2]))


def _ranked(running: int, served: int, seqs: Iterable[Sequence]) -> Iterator[tuple[int, int, Sequence]]:
    """Each with how many of its owner's would run before it, and when that was served."""
    return ((running + index, served, seq) for index, seq in enumerate(seqs))


def surplus(running: list[Sequence], client: Client) -> Sequence | None:
    """The youngest sequence of a client that has two places more than this one, or of such a program of its own."""
    clients = Counter(seq.client[0] for seq in running)
    name, most = max(clients.items(), key=lambda entry: entry[1])
    if most >= clients[client[0]] + 2:
        return [seq for seq in running if seq.client[0] == name][-1]
    programs = Counter(seq.client for seq in running if seq.client[0] == client[0])
    program, most = max(programs.items(), key=lambda entry: entry[1], default=(client, 0))
    return [seq for seq in running if seq.client == program][-1] if most >= programs[client] + 2 else None
