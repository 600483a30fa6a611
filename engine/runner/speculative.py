"""Whether drafted tokens are worth a pass, by how often such drafts were right and by what passes cost on this machine.

A pass verifies a draft with a row for each of its tokens. A row counts as long as the tokens before it are those that
the rows before it gave. On some processors four rows cost little more than one, on others two cost as much as three
passes of one row: what they cost is measured while the model works. How often drafts are right shows without a pass,
as each token that comes can be compared with the one that a match foretold.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass
from statistics import median

from engine.messages import DraftMode
from engine.runner.lookup import LONGEST, Lookup

ROWS = (2, 3, 4, 6, 8)
"""Rows that a pass with a draft may have: few different numbers, as what each costs must be measured."""
LEAST_SECONDS = 0.001  # of a pass of one row; of shorter ones, the work around them takes the most
FIRST = 3  # passes of one row that are measured before anything is drafted
RECENT = 9  # passes of one row whose median counts
TRIES = 5  # passes of several rows whose median counts
OLD = 400  # passes after which what passes of several rows cost is measured anew
GUESS = 0.3  # of a row, that each further one costs before it was measured
WORTH = 1.1  # times its cost that a pass with a draft must be expected to give
DEBT = 3.0  # rows that may be lost by wrong estimates; after that a draft must be
SURE = 1.5  # times as good as it costs,
MOST_DEBT = 8.0  # and after that, nothing is drafted
REPAYMENT = 0.01  # rows of the debt that each pass without a draft pays back
CREDIT = 3.0  # rows that were won, that count against later losses
OF_ALL, OF_ONE = 100, 20  # matches that the acceptance of all sequences, and of one, remembers
PRIOR = 4.0  # matches that count as seen before the first one

_KINDS = ((1, 0.4), (2, 0.3), (3, 0.4), (4, 0.5), (6, 0.6), (9, 0.7), (13, 0.8), (20, 0.85), (LONGEST, 0.9))
"""Lengths of matches up to which they count as one kind, and how many are right, as long as nobody knows."""
_KIND = [next(i for i, (longest, _) in enumerate(_KINDS) if length <= longest) for length in range(LONGEST + 1)]


class Acceptance:
    """How often the token behind a match was the expected one, by the match's length. The last ones count most.

    It remembers about `memory` matches of each kind, and begins with what is known of `others`.
    """

    __slots__ = ("_hits", "_keep", "_rates", "_tries")

    def __init__(self, memory: int, others: Acceptance | None = None) -> None:
        self._rates: list[float] = [rate for _, rate in _KINDS] if others is None else list(others._rates)
        self._keep = 1 - 1 / memory
        self._tries = [PRIOR] * len(_KINDS)
        self._hits = [PRIOR * rate for rate in self._rates]

    def count(self, length: int, *, hit: bool) -> None:
        """Note whether the token behind a match of this length was the expected one."""
        kind = _KIND[length]
        tries = self._tries[kind] = self._keep * self._tries[kind] + 1
        hits = self._hits[kind] = self._keep * self._hits[kind] + hit
        self._rates[kind] = hits / tries

    def tokens(self, length: int, count: int) -> list[float]:
        """How many tokens passes with 0 to `count` drafted ones should give, behind a match of this length."""
        total = share = 1.0
        tokens = [total]
        for ahead in range(length, length + count):
            share *= self._rates[_KIND[min(ahead, LONGEST)]]
            total += share
            tokens.append(total)
        return tokens


class RowCosts:
    """What passes cost by their number of rows, all of one sequence, in passes of one row.

    Those are for one number of threads. The first pass behind one of another size costs more, as llama.cpp prepares it
    anew: `again` is how much.
    """

    def __init__(self) -> None:
        self._single: deque[float] = deque(maxlen=RECENT)
        self._again: deque[float] = deque(maxlen=RECENT)
        self._ratios: dict[int, deque[float]] = {}
        self._measured_at: dict[int, int] = {}
        self._passes = 0
        self._last = 0  # rows of the last pass
        self._unsettled = 0  # passes of one row in a row of which each came behind others
        self._costs: dict[int, float] = {}

    @property
    def known(self) -> bool:
        """Whether passes of one row were measured, and drafts can be worth it."""
        return len(self._single) >= FIRST and self.single >= LEAST_SECONDS

    @property
    def single(self) -> float:
        """Seconds of a pass of one row."""
        return median(self._single)

    def of(self, rows: int) -> float:
        """The cost of a pass with so many of ROWS."""
        if not self._costs:
            self._costs = self._estimate()
        return self._costs[rows]

    def measured(self, rows: int, seconds: float) -> None:
        """Record how long a pass took."""
        self._passes += 1
        last, self._last = self._last, rows
        if rows > 1 and self._single:
            self._ratios.setdefault(rows, deque(maxlen=TRIES)).append(seconds / self.single)
            self._measured_at[rows] = self._passes
            self._costs = {}
        elif rows == 1 and (last == 1 or self._unsettled >= RECENT or not self._single):
            self._single.append(seconds)
            self._unsettled = 0
        elif rows == 1:
            self._unsettled += 1
            self._again.append(seconds / self.single - 1)
            self._costs = {}
        if self._passes % OLD == 0:
            self._forget_old()

    def _forget_old(self) -> None:
        """Forget what was measured long ago: texts are longer now, or something has slowed the machine then."""
        for rows in [rows for rows, at in self._measured_at.items() if at + OLD <= self._passes]:
            del self._measured_at[rows], self._ratios[rows]
        self._costs = {}

    def _estimate(self) -> dict[int, float]:
        """The costs of all ROWS; where they were not measured, by those that were."""
        known = {1: 1.0}
        for rows, ratios in self._ratios.items():
            few = [1 + GUESS * (rows - 1)] if len(ratios) < TRIES else []  # something may have disturbed a pass
            known[rows] = max(median([*ratios, *few]), 1.0)
        again = min(max(median(self._again), 0.0), 1.0) if self._again else 0.0
        costs = {}
        for rows in ROWS:
            below = max(other for other in known if other <= rows)
            above = min((other for other in known if other >= rows), default=0)
            cost = known[below]
            if above > below:
                cost += (known[above] - cost) * (rows - below) / (above - below)
            elif not above:
                cost += GUESS * (rows - below)
            costs[rows] = cost + again
        return costs


@dataclass(slots=True)
class Drafts:
    """What is drafted for one sequence: its matches, how often they were right, and the numbers of tokens so far."""

    lookup: Lookup
    acceptance: Acceptance
    drafted: int = 0
    accepted: int = 0


class Speculation:
    """Drafts tokens for the sequence that decodes alone. Owned by the loop thread; other threads may read the counters.

    `most_rows`: rows of logits that a pass has room for. `_debt` is what passes with drafts have taken longer than
    their tokens would have without, in passes of one row: estimates may be wrong, but what that costs is bounded.
    """

    def __init__(self, mode: DraftMode, most_rows: int) -> None:
        self._mode = mode
        self._most_rows = most_rows
        self._acceptance = Acceptance(OF_ALL)
        self._costs: dict[int, RowCosts] = {}
        self._debt = 0.0
        self.drafted = self.accepted = 0

    @property
    def off(self) -> bool:
        """Whether nothing is ever drafted."""
        return self._mode == "off"

    def begin(self, tokens: array[int]) -> Drafts:
        """The drafts of a sequence with these tokens, its own array."""
        return Drafts(Lookup(tokens), Acceptance(OF_ONE, self._acceptance))

    def draft(self, drafts: Drafts, threads: int, most: int) -> list[int]:
        """Tokens to verify in the next pass, at most so many; [] if they are not worth it."""
        lookup = drafts.lookup
        for length, hit in lookup.follow():
            drafts.acceptance.count(length, hit=hit)
            self._acceptance.count(length, hit=hit)
        most = min(most, self._most_rows - 1)
        if self._mode == "always":
            return lookup.draft(most) if most > 0 else []
        costs = self._costs.get(threads)
        if most < 1 or not lookup.length or costs is None or not costs.known or self._debt >= MOST_DEBT:
            return []
        tokens = drafts.acceptance.tokens(lookup.length, min(most, ROWS[-1] - 1))
        rows = max((rows for rows in ROWS if rows <= most + 1), key=lambda rows: tokens[rows - 1] / costs.of(rows))
        wanted = WORTH if self._debt < DEBT else SURE
        return lookup.draft(rows - 1) if tokens[rows - 1] >= wanted * costs.of(rows) else []

    def computed(self, threads: int, seconds: float) -> None:
        """Record a pass of one row, of the sequence that decodes alone."""
        self._of(threads).measured(1, seconds)
        if self._debt > 0:
            self._debt = max(self._debt - REPAYMENT, 0.0)

    def verified(self, drafts: Drafts, threads: int, seconds: float, drafted: int, accepted: int) -> None:
        """Record a pass with so many drafted tokens, of which so many were accepted."""
        drafts.drafted += drafted
        drafts.accepted += accepted
        self.drafted += drafted
        self.accepted += accepted
        costs = self._of(threads)
        costs.measured(drafted + 1, seconds)
        if costs.known and drafted + 1 in ROWS:
            estimate = costs.of(drafted + 1)
            cost = min(seconds / costs.single, 2 * estimate)  # a disturbed pass says nothing of the next ones
            self._debt = max(self._debt + cost - accepted - 1, -CREDIT)

    def _of(self, threads: int) -> RowCosts:
        return self._costs.setdefault(threads, RowCosts())
