"""From a GBNF grammar to rules in llguidance's dialect of Lark that allow the same texts.

llguidance reads an answer as terminals, each as long as possible; GBNF knows only characters. A part of a rule that is
a regular expression becomes one terminal where that changes nothing: where no character that may follow one of its
texts could also continue a terminal. All other parts become smaller ones, single characters in the end.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from engine.chat.grammar.gbnf import ROOT, BadGrammar, Rules
from engine.chat.grammar.json_terminals import times
from engine.chat.grammar.lexing import Bytes, find_conflicts, first_bytes
from engine.chat.regex.char_class import CharClass
from engine.chat.regex.nodes import EMPTY, NEVER, Cat, Node, Or, Ref, Repeat, cat, either, terminal

_LARGEST_INLINED = 4_000  # characters of a rule that is written into others
_LARGEST_TERMINAL = 1_000  # characters of a terminal's pattern, repetitions not written out
_MOST_ROUNDS = 200


def gbnf_rules(rules: Rules, name: str) -> str:
    """The rule `name` for the texts of a grammar, and the rules that it needs, whose names begin with `name`.

    Raises BadGrammar if it is too complex.
    """
    bodies = _inlined(_ending(rules))
    cuts: dict[Node, int] = {}
    for _ in range(_MOST_ROUNDS):
        writer = _Writer(bodies, name, cuts)
        text = writer.text()
        conflicts = find_conflicts(writer.followed_by)
        if conflicts is None:
            break
        if not conflicts:
            return text
        cuts |= conflicts
    raise BadGrammar("it is too complex")


def _ending(rules: Rules) -> dict[str, Node]:
    """The rules without alternatives that never end. Raises BadGrammar if nothing of `root` is left."""
    ends: set[str] = set()
    before = -1
    while before < len(ends):
        before = len(ends)
        ends |= {name for name, body in rules.items() if name not in ends and _pruned(body, ends) != NEVER}
    if ROOT not in ends:
        raise BadGrammar("no text matches it: its rules never end")
    return {name: _pruned(body, ends) for name, body in rules.items()}


def _pruned(node: Node, ends: Container[str]) -> Node:
    """A tree without what refers to other rules than those in `ends`."""
    match node:
        case Ref(name):
            return node if name in ends else NEVER
        case Cat(parts):
            return cat(_pruned(part, ends) for part in parts)
        case Or(parts):
            return either(_pruned(part, ends) for part in parts)
        case Repeat(body, least, most):
            pruned = _pruned(body, ends)
            return Repeat(pruned, least, most) if pruned != NEVER else NEVER if least else EMPTY
    return node


def _inlined(rules: Rules) -> dict[str, Node]:
    """The rules that `root` needs. References to small rules without recursion are replaced by what these are."""
    bodies: dict[str, Node] = {}
    sizes: dict[str, int] = {}  # of the rules that are written into others
    for name in _callees_first(rules):
        body = rules[name]
        size = _size(body, sizes)
        if size <= _LARGEST_INLINED:
            body = _replaced(body, bodies, sizes)
            if _is_regular(body):
                sizes[name] = size
        bodies[name] = body
    return {name: bodies[name] for name in _callees_first(bodies)}


def _callees_first(rules: Rules) -> Iterator[str]:
    """The names of the rules that `root` needs, each behind those that it refers to, unless these refer back."""
    seen = {ROOT}
    path = [(ROOT, _leaves(rules[ROOT]))]
    while path:
        name, parts = path[-1]
        callee = next((part.name for part in parts if isinstance(part, Ref) and part.name not in seen), None)
        if callee is None:
            path.pop()
            yield name
        else:
            seen.add(callee)
            path.append((callee, _leaves(rules[callee])))


def _leaves(node: Node) -> Iterator[Node]:
    match node:
        case Cat(parts) | Or(parts):
            for part in parts:
                yield from _leaves(part)
        case Repeat(body):
            yield from _leaves(body)
        case _:
            yield node


def _replaced(node: Node, bodies: Mapping[str, Node], names: Mapping[str, int]) -> Node:
    """A tree in which references to these names are replaced by their bodies."""
    match node:
        case Ref(name):
            return bodies[name] if name in names else node
        case Cat(parts):
            return cat(_replaced(part, bodies, names) for part in parts)
        case Or(parts):
            return either(_replaced(part, bodies, names) for part in parts)
        case Repeat(body, least, most):
            return Repeat(_replaced(body, bodies, names), least, most)
    return node


def _size(node: Node, sizes: Mapping[str, int]) -> int:
    """Number of characters in a tree, with references replaced by as many as `sizes` says."""
    return sum(sizes.get(part.name, 1) if isinstance(part, Ref) else 1 for part in _leaves(node))


def _is_regular(node: Node) -> bool:
    return not any(isinstance(part, Ref) for part in _leaves(node))


class _Writer:
    """Writes rules. Trees in `cuts` do not become terminals as a whole; sequences are cut before this part.

    `followed_by`: for each terminal, by its tree, the bytes that characters behind it may begin with.
    """

    def __init__(self, rules: Mapping[str, Node], name: str, cuts: Mapping[Node, int]) -> None:
        self._rules = rules
        self._name = name
        self._cuts = cuts
        self._names = {rule: f"{name}_{n}" for n, rule in enumerate(rules)} | {ROOT: name}
        self._first = dict.fromkeys(rules, 0)
        self._nullable = dict.fromkeys(rules, False)
        self._behind = dict.fromkeys(rules, 0)
        self._numbers: dict[Node, int] = {}
        self.followed_by: dict[Node, Bytes] = {}
        self._settle()

    def text(self) -> str:
        """All rules and terminals; sets `followed_by`."""
        lines = [f"{self._names[ROOT]}: {self._items(self._rules[ROOT], self._behind[ROOT])}"]
        lines += [
            f"{self._names[rule]}: {self._items(body, self._behind[rule])}"
            for rule, body in self._rules.items()
            if rule != ROOT
        ]
        lines += [
            f"{self._terminal_name(n)}: {terminal(tree, quoted=False)}" for n, tree in enumerate(self.followed_by)
        ]
        return "\n".join(lines)

    def _terminal_name(self, number: int) -> str:
        return f"{self._name.upper()}_{number}"

    def _settle(self) -> None:
        """Find what each rule may begin with, whether it may be empty, and what may follow it."""
        changed = True
        while changed:
            changed = False
            for rule, body in self._rules.items():
                found = self._begins(body)
                changed |= found != (self._first[rule], self._nullable[rule])
                self._first[rule], self._nullable[rule] = found
        before: dict[str, Bytes] = {}
        while before != self._behind:
            before = dict(self._behind)
            for rule, body in self._rules.items():
                self._follow(body, before[rule])

    def _begins(self, node: Node) -> tuple[Bytes, bool]:
        """What a tree may begin with, and whether it may be empty, as far as it is known yet."""
        match node:
            case CharClass():
                return first_bytes(node), False
            case Ref(rule):
                return self._first[rule], self._nullable[rule]
            case Cat(parts):
                first = 0
                for part in parts:
                    more, nullable = self._begins(part)
                    first |= more
                    if not nullable:
                        return first, False
                return first, True
            case Or(parts):
                options = [self._begins(part) for part in parts]
                first = 0
                for more, _ in options:
                    first |= more
                return first, any(nullable for _, nullable in options)
            case Repeat(body, least, _):
                first, nullable = self._begins(body)
                return first, nullable or least == 0
        raise TypeError(type(node))

    def _follow(self, node: Node, behind: Bytes) -> None:
        """Add to `_behind` what may follow the references in a tree."""
        match node:
            case Ref(rule):
                self._behind[rule] |= behind
            case Cat(parts):
                for part, after in self._with_followers(parts, behind):
                    self._follow(part, after)
            case Or(parts):
                for part in parts:
                    self._follow(part, behind)
            case Repeat(body):
                self._follow(body, self._behind_body(node, behind))

    def _behind_body(self, repeat: Repeat, behind: Bytes) -> Bytes:
        """What may follow the body of a repetition: also the next time."""
        return behind if repeat.most == 1 else behind | self._begins(repeat.body)[0]

    def _with_followers(self, parts: tuple[Node, ...], behind: Bytes) -> list[tuple[Node, Bytes]]:
        """The parts of a sequence, each with what may follow it."""
        pairs = []
        for part in reversed(parts):
            pairs.append((part, behind))
            first, nullable = self._begins(part)
            behind = first | behind if nullable else first
        return pairs[::-1]

    def _items(self, node: Node, behind: Bytes) -> str:
        """A tree as the items of a rule."""
        if node == Cat():
            return '""'
        if isinstance(node, CharClass) or (node not in self._cuts and _is_regular(node) and _fits(node)):
            return self._terminal(node, behind)
        match node:
            case Ref(rule):
                return self._names[rule]
            case Cat(parts):
                groups = [parts[: self._cuts[node]], parts[self._cuts[node] :]] if node in self._cuts else _runs(parts)
                pairs = self._with_followers(tuple(cat(group) for group in groups), behind)
                return " ".join(self._items(part, after) for part, after in pairs)
            case Or(options):
                if node not in self._cuts:
                    options = tuple(either(group) for group in _runs(sorted(options, key=_is_regular)))
                return f"({' | '.join(self._items(option, behind) for option in options)})"
            case Repeat(body, least, most):
                return f"({self._items(body, self._behind_body(node, behind))}){times(least, most)}"
        raise TypeError(type(node))

    def _terminal(self, node: Node, behind: Bytes) -> str:
        self.followed_by[node] = self.followed_by.get(node, 0) | behind
        return self._terminal_name(self._numbers.setdefault(node, len(self._numbers)))


def _fits(node: Node) -> bool:
    return _size(node, {}) <= _LARGEST_TERMINAL


def _runs(parts: Iterable[Node]) -> list[list[Node]]:
    """Parts that stand together: regular ones in groups that fit into a terminal, each other one alone."""
    groups: list[list[Node]] = []
    room = 0  # in the last group
    for part in parts:
        size = _size(part, {}) if _is_regular(part) else _LARGEST_TERMINAL + 1
        if not groups or size > room:
            groups.append([])
            room = _LARGEST_TERMINAL
        groups[-1].append(part)
        room -= size
    return groups
