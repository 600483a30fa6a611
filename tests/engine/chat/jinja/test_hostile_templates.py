"""Chat templates that want all the time or memory there is, and the service that survives them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from engine.api import Message
from engine.chat.jinja.limits import RenderLimits
from engine.chat.jinja.messages import ChatTemplates
from engine.chat.jinja.service import TemplateService
from engine.chat.prompt import RenderError
from tests.processes import descendants

WIDE = "{% set w = 'x' * 8000000 %}"
"""As long a text as there may be."""

DOUBLED = "{% set n = namespace(l=[1]) %}{% for i in range(40) %}{% set n.l = [n.l, n.l] %}{% endfor %}"
"""A list of a trillion numbers in forty pairs."""

DEEP = "{% set n = namespace(l=[]) %}{% for i in range(99999) %}{% set n.l = [n.l] %}{% endfor %}"
"""A list in a list in a list."""

NUMBER = "{% set n = namespace(x=2 ** 64) %}{% for i in range(40) %}{% set n.x = n.x * n.x %}{% endfor %}"


def _again(source: str) -> str:
    """The same under another name."""
    return source.replace("n.", "k.").replace("set n ", "set k ")


AGAIN = _again(DOUBLED)


def _often(expression: str, before: str = WIDE) -> str:
    """Something that takes a moment inside of C, a hundred thousand times."""
    return before + "{% for i in range(99999) %}{% set y = " + expression + " %}{% endfor %}"


HOSTILE: dict[str, str] = {
    # loops that the template writes
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a loop in itself": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "a macro in itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "two of itself": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "two of itself by name": "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n else '' }}{% endmacro %}{{ f(60) }}",
    "callers": "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call f() %}" * 40
    + "x"
    + "{% endcall %}" * 40,
    "loops over products": "{% for a in range(99999) if range(99999) | select('eq', -a) | list %}{% endfor %}",
    "blocks that double": "{% set x = 'aaaa' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60 + "{{ x }}",
    "blocks through filters": "{% filter upper %}" * 90 + "{{ 'x' * 8000000 }}" + "{% endfilter %}" * 90,
    "text that doubles": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "sums that double": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "lists that double": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "lists in themselves": "{% set l = [1] %}{% for i in range(60) %}{% set _ = l.extend(l) %}{% endfor %}",
    "many texts": "{% set l = [] %}{% for i in range(999) %}{% set _ = l.append('x' * 8000000 ~ i) %}{% endfor %}",
    "many lists": "{% set l = [] %}{% for i in range(999) %}{% set _ = l.append([i] * 8000000) %}{% endfor %}",
    "many wide texts": "{% set l = [] %}{% for i in range(99) %}{% set _ = l.append('😀' * 8000000 ~ i) %}{% endfor %}",
    "much output": "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    # one call that takes for ever, or all memory
    "wrapping": WIDE + "{{ w | wordwrap(1) | wordwrap(1) | wordwrap(1) | length }}",
    "wrapping words": "{{ ('x ' * 4000000) | wordwrap(79) | wordwrap(2) | wordwrap(9) | length }}",
    "sorting characters": WIDE + "{{ w | sort | join | sort | join | sort | join | length }}",
    "characters": WIDE + "{{ w | list | map('upper') | list | map('lower') | list | length }}",
    "unique characters": WIDE + "{{ w | unique | list }}{{ w | unique | list }}{{ w | unique | list }}",
    "groups": WIDE + "{{ w | groupby('upper') | length }}",
    "batches": WIDE + "{{ w | batch(1) | list | length }}",
    "slices": WIDE + "{{ w | slice(8000000) | list | length }}",
    "sums of lists": "{{ ([[1] * 1000] * 99999) | sum(start=[]) | length }}",
    "sums of numbers": "{{ ([1] * 8000000) | sum + ([1] * 8000000) | map('string') | map('int') | sum }}",
    "links": "{{ ('http://a.b ' * 700000) | urlize | length }}",
    "comments": "{{ ('<!---->' * 1000000) | striptags | length }}",
    "markup": WIDE + "{{ ('<' * 8000000) | forceescape | forceescape | forceescape | length }}",
    "titles": "{{ ('x-' * 4000000) | title | title | title | title | title | length }}",
    "words": "{{ ('x ' * 4000000) | wordcount + ('y ' * 4000000) | wordcount + ('z ' * 4000000) | wordcount }}",
    "dates": "{{ strftime_now('%c' * 4000000) | length }}",
    "tabs": "{{ ('\\t' * 8000000).expandtabs(8000000) | length }}",
    "tabs by name": "{{ ('\\t' * 8000000).expandtabs(tabsize=8000000) | length }}",
    "pads by name": "{{ 'x' | center(width=10 ** 9) | length }}",
    "margins": "{{ ('x\\n' * 4000000) | indent(1000, true) | length }}",
    "margins of text": "{{ ('x\\n' * 4000000) | indent('y' * 1000, true) | length }}",
    "separators": WIDE + "{{ ([1] * 8000000) | join(w) | length }}",
    "joins": WIDE + "{{ w.join(w) | length }}",
    "joins of generators": WIDE + "{{ w.join(['a'] | map('upper')) ~ w.join(range(99999) | map('string')) }}",
    "replacements": "{{ ('x' * 8000000) | replace('', 'yyyy' * 1000) | length }}",
    "replacements by name": "{{ ('x' * 800000).replace('x', new='y' * 800000) | length }}",
    "translations": "{{ ('x' * 8000000).translate({120: 'y' * 100000}) | length }}",
    "formats": "{{ ('%s' * 99999 * 80) | format(*(range(99999) | list * 80)) | length }}" * 9,
    "wide formats": "{{ '%0999999s%0999999s' % (('%s' * 1000) % ((('x' * 8000,) * 1000)), 1) }}",
    "formats of lists": DOUBLED + "{{ '%s' % (n.l,) }}",
    "formats of format": "{{ ('{0:>999999}' * 99999).format(1) | length }}",
    "powers": "{{ 10 ** 10 ** 10 }}",
    "powers of fractions": "{{ (10 ** 60) ** (10 ** 60) }}",
    "squares": NUMBER,
    "long numbers": NUMBER.replace("40", "25") + "{{ n.x | string | length }}",
    "rounding": "{% for i in range(99999) %}{% set y = (10 ** 60) | round(9999999) %}{% endfor %}",
    "rounding up": "{{ 1 | round(999999999, 'ceil') }}",
    "hexadecimal": _often("w | int(0, 16)", "{% set w = 'f' * 8000000 %}"),
    "nested JSON": "{{ ('[' * 4000000) | from_json }}",
    "much JSON": "{{ ('[' ~ '[],' * 2500000 ~ '0]') | from_json | from_json }}",
    # what shares its parts
    "shared as JSON": DOUBLED + "{{ n.l | tojson }}",
    "shared as JSON with margins": DOUBLED + "{{ n.l | tojson(indent=2) }}",
    "shared as text": DOUBLED + "{{ n.l | string | length }}",
    "shared printed": DOUBLED + "{{ n.l }}",
    "shared pretty": DOUBLED + "{{ n.l | pprint }}",
    "shared compared": DOUBLED + AGAIN + "{{ n.l == k.l }}",
    "shared found": DOUBLED + AGAIN + "{{ n.l in [k.l] }}",
    "shared sorted": DOUBLED + AGAIN + "{{ [n.l, k.l] | sort }}",
    "shared flattened": DOUBLED + "{% for i in n.l recursive %}{{ loop(i) if i is iterable }}{% endfor %}",
    "shared joined": DOUBLED + "{{ n.l | join }}",
    "shared in a message": DOUBLED + "{{ raise_exception(n.l) }}",
    "shared objects": "{% set n = namespace(o={}) %}{% for i in range(40) %}{% set n.o = {'a': n.o, 'b': n.o} %}"
    "{% endfor %}{{ n.o | tojson }}",
    "deep": DEEP + "{{ n.l }}",
    "deep as JSON": DEEP + "{{ n.l | tojson }}",
    "deep compared": DEEP + _again(DEEP) + "{{ n.l == k.l }}",
    "itself": "{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}",
    "itself compared": "{% set l = [] %}{% set k = [] %}{% set _ = l.append(k) or k.append(l) %}{{ l == k }}",
    # many calls that each take a moment
    "upper case": _often("w | upper"),
    "comparisons": _often("w == v", WIDE + WIDE.replace("set w", "set v")),
    "searches": _often("'y' in w"),
    "counts": _often("w.count('y')"),
    "splits": _often("w.split('y')"),
    "reverse": _often("w | reverse"),
    "lengths": _often("w | trim | length"),
    "parts": _often("w[1:]"),
    "cut": _often("w | truncate(7999999)"),
    "in JSON": _often("w | tojson"),
    "bytes": _often("w | urlencode"),
    "copies": _often("l + [1]", "{% set l = [1] * 8000000 %}"),
    "sorted": _often("l | sort", "{% set l = range(99999) | list %}"),
    "largest": _often("l | max", "{% set l = range(99999) | list %}"),
    # what takes long to be compiled
    "parentheses": "{{ " + "(" * 90_000 + "1" + ")" * 90_000 + " }}",
    "brackets": "{{ " + "[" * 2_000 + "1" + "]" * 2_000 + " }}",
    "minuses": "{{ " + "-" * 90_000 + "1 }}",
    "negations": "{{ " + "not " * 50_000 + "1 }}",
    "conditions": "{% if a %}" * 9_000 + "{% endif %}" * 9_000,
    "nested loops": "{% for a in b %}" * 300 + "{% endfor %}" * 300,
    "alternatives": "{% if a %}" + "{% elif a %}x" * 60_000 + "{% endif %}",
    "sums": "{{ 1" + " + 1" * 90_000 + " }}",
    "filters": "{{ 1" + " | abs" * 90_000 + " }}",
    "members": "{{ a" + ".a" * 90_000 + " }}",
    "comparisons of comparisons": "{{ 1" + " == 1" * 90_000 + " }}{{ 1 / 0 }}",
    "statements": "{% set a = 1 %}" * 60_000 + "{{ 1 / 0 }}",
    "folded": "{{ " + " ~ ".join(["'x' | center(8000000) | upper | title | length"] * 60) + " }}{{ 1 / 0 }}",
}

GOOD = "{% for m in messages %}{{ m.content }}{% endfor %}"


async def ask(templates: TemplateService, source: str) -> str:
    return (await templates.render(ChatTemplates(source), [Message("user", "Hi")], [], None)).text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty() -> AsyncIterator[TemplateService]:
    """Processes that have little time."""
    templates = TemplateService(os.environ, RenderLimits(quick=0.02, first=0.05))
    yield templates
    await templates.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_templates_end_and_others_go_on(hasty: TemplateService, name: str) -> None:
    hostile = asyncio.create_task(ask(hasty, HOSTILE[name]))
    while not hostile.done():
        assert await ask(hasty, GOOD) == "Hi"
        await asyncio.wait([hostile], timeout=0.02)
    with pytest.raises(RenderError, match=r"^chat template: "):
        await hostile
    assert len(descendants(os.getpid(), "engine.chat.jinja.worker")) <= 6
