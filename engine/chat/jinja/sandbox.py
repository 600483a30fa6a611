"""The Jinja environment for chat templates, which come with model files and are untrusted programs.

On top of Jinja's immutable sandbox, every loop turn and macro call counts against a budget of steps and CPU time, and
nothing that a template computes may grow beyond `LARGEST`, so most hostile templates just fail. What gets past that,
such as loops inside C code, is killed with its process: templates are rendered only in `engine.chat.jinja.worker`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.chat.jinja.messages import LARGEST
from engine.chat.prompt import RenderError, TemplateOverBudget

MOST_STEPS = 2_000_000
MOST_SECONDS = 1.0  # of CPU time of the rendering thread, unless `allowance` says otherwise
_CHECK_EVERY = 256  # steps between two checks of the clock
_WIDENING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_WIDTH = re.compile(r"\d{7,}|\*")


class RenderBudget:
    """What one rendering may still use: MOST_STEPS steps and `seconds` of CPU time. Belongs to one thread."""

    def __init__(self, seconds: float) -> None:
        self._steps = 0
        self._deadline = time.thread_time() + seconds

    def step(self) -> None:
        """Count one turn of a loop or call of a macro. Raises TemplateOverBudget."""
        self._steps += 1
        if self._steps % _CHECK_EVERY:
            return
        if self._steps > MOST_STEPS or time.thread_time() > self._deadline:
            raise TemplateOverBudget("chat template: it takes too long")


budget: ContextVar[RenderBudget] = ContextVar("budget")
allowance: ContextVar[float] = ContextVar("allowance", default=MOST_SECONDS)
"""CPU time in seconds that a rendering may take."""


def too_much(what: str) -> RenderError:
    """The error for a template that does `what`."""
    return RenderError(f"chat template: it {what}")


def tick() -> str:
    """Count a step; compiled templates call this at every loop turn and macro call."""
    budget.get().step()
    return ""


def bounded(value: Any) -> Any:
    """Returns `value` unless it is longer than LARGEST. Raises RenderError."""
    if isinstance(value, str | list | tuple) and len(value) > LARGEST:
        raise too_much("makes too much text")
    return value


def joined(*parts: Any) -> str:
    """The operator `~`, with a bound on its result."""
    return str(bounded("".join(map(str, parts))))


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox with a budget. All templates share it; rendering needs `budget` to be set."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols], cache_size=0)
        self.tick = tick
        self.joined = joined
        self.filters |= {"tojson": to_json, "from_json": json.loads, "join": self._guarded_filter("join")}
        self.filters |= {name: self._guarded_filter(name) for name in ("center", "indent", "format", "replace")}
        self.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = Parser(self, source, name, filename).parse()
        _count_steps(tree)
        _replace_joins(tree)
        tree.set_environment(self)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """As the sandbox's, but lists may change: what a template gets was made for it alone."""
        if isinstance(obj, list) and attr in ("append", "extend", "pop"):
            return True
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic with bounded operands and results. Raises RenderError."""
        if operator == "*":
            _check_repetition(left, right)
        elif operator == "%" and isinstance(left, str):
            _check_widths(left)
        elif operator == "**" and not (abs(left) <= 1 << 32 and abs(right) <= 64):
            raise too_much("computes too large a number")
        return bounded(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The sandbox's `str.format`, with its widths checked first."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def formatted(*args: Any, **kwargs: Any) -> str:
            _check_widths(value.__self__)
            if any(isinstance(arg, int) and arg > LARGEST for arg in (*args, *kwargs.values())):
                raise too_much("pads too far")
            return str(bounded(wrapped(*args, **kwargs)))

        return formatted

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls, with bounds on what methods of strings and lists may make."""
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            _check_growth(owner, __obj.__name__, args)
        elif isinstance(owner, list) and len(owner) > LARGEST:
            raise too_much("makes too long a list")
        return super().call(__context, __obj, *args, **kwargs)

    def _guarded_filter(self, name: str) -> Callable[..., Any]:
        """A filter with a bound on what it makes."""
        original: Any = self.filters[name]
        at = 1 if hasattr(original, "jinja_pass_arg") else 0  # such filters get the context or environment first

        def guarded(*args: Any, **kwargs: Any) -> Any:
            value, rest = args[at], (*args[at + 1 :], *kwargs.values())
            if name == "join":
                value = list(value)
                separator = str(rest[0]) if rest else ""
                _check_total(sum(len(str(item)) + len(separator) for item in value))
                args = (*args[:at], value, *args[at + 1 :])
            else:
                _check_growth(str(value), "center" if name == "indent" else name, rest)
            return bounded(original(*args, **kwargs))

        if hasattr(original, "jinja_pass_arg"):
            guarded.jinja_pass_arg = original.jinja_pass_arg  # type: ignore[attr-defined]
        return guarded


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks answers for training, renders its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as chat templates expect it: keys in their order, spaces after `,` and `:`, no HTML escapes."""
    if indent is not None and indent > 64:
        raise too_much("indents too far")
    if isinstance(value, Undefined):
        raise too_much("prints an undefined value as JSON")
    if isinstance(value, Iterable) and not isinstance(value, str | list | tuple | dict):
        value = list(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _count_steps(tree: nodes.Template) -> None:
    """Insert a `tick` into every loop body, macro and call block."""
    loops = [node.body for node in tree.find_all(nodes.For)]
    macros = [node.body for node in tree.find_all(nodes.Macro)]
    calls = [node.body for node in tree.find_all(nodes.CallBlock)]
    for body in (*loops, *macros, *calls):
        call = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
        body.insert(0, nodes.ExprStmt(call).set_lineno(1))


def _replace_joins(node: nodes.Node) -> None:
    """Replace every `~` below a node by a call of `joined`."""
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _without_join(value))
        elif isinstance(value, list):
            setattr(node, name, [_without_join(item) if isinstance(item, nodes.Node) else item for item in value])


def _without_join(node: nodes.Node) -> nodes.Node:
    _replace_joins(node)
    if not isinstance(node, nodes.Concat):
        return node
    return nodes.Call(nodes.EnvironmentAttribute("joined"), node.nodes, [], None, None, lineno=node.lineno)


def _check_repetition(left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            _check_total(len(value) * times)
        elif isinstance(value, int) and value.bit_length() > 4096:
            raise too_much("computes too large a number")


def _check_growth(text: str, method: str, args: tuple[Any, ...]) -> None:
    if method in _WIDENING:
        _check_total(sum(arg for arg in args if isinstance(arg, int)))
    elif method == "replace" and len(args) > 1:
        _check_total(len(text) + (text.count(str(args[0])) if args[0] else len(text) + 1) * len(str(args[1])))
    elif method == "join" and args and isinstance(args[0], list | tuple):
        _check_total(sum(len(str(item)) + len(text) for item in args[0]))
    elif method == "format":  # the filter, which takes printf directives
        _check_widths(text)


def _check_widths(text: str) -> None:
    if _WIDTH.search(text):
        raise too_much("pads too far")


def _check_total(size: int) -> None:
    if size > LARGEST:
        raise too_much("makes too much text")


def _raise(message: str) -> str:
    raise RenderError(str(message))


def _strftime_now(format_: str) -> str:
    return datetime.now().strftime(format_)


environment: jinja2.Environment = ChatEnvironment()
