"""Calls written as `<invoke name="f"><parameter name="k">v</parameter></invoke>`, in several namespaces."""

from __future__ import annotations

import re

from engine.chat.tools.markup import Markup
from engine.chat.tools.shape import KIND, ArgumentShape, CallShape, bare_name

DSML = "｜DSML｜"
_NAMES = bare_name('"')


def _markup(opening: str, closing: str, namespace: str, newline: str) -> Markup:
    invoke, parameter = f"{namespace}invoke", f"{namespace}parameter"
    return Markup(
        opening,
        closing,
        f"</{invoke}>",
        re.compile(
            rf'<{invoke} name="(?P<name>[^"]{{1,256}})"[^>]{{0,256}}>(?P<body>.*?)(?:</{invoke}>|(?=<{invoke} )|\Z)',
            re.DOTALL,
        ),
        re.compile(
            rf'<{parameter} name="(?P<name>[^"]{{1,256}})"(?: string="(?P<type>true|false)")?[^>]{{0,256}}>'
            rf"{newline}(?P<value>.*?){newline}(?:</{parameter}>|(?=<{parameter} )|\Z)",
            re.DOTALL,
        ),
    )


def _calls(markup: Markup, namespace: str = "", attribute: str = "", around: tuple[str, str] = ("", "")) -> CallShape:
    """How calls are written in a namespace; `attribute` says what kind of value an argument has."""
    invoke, parameter = f"{namespace}invoke", f"{namespace}parameter"
    before, after = around
    tags = (f"</{parameter}>", f"<{parameter} ", f"</{invoke}>", f"<{invoke} ", markup.closing)
    return CallShape(
        f'<{invoke} name="',
        '">\n',
        f"</{invoke}>\n",
        before,
        after,
        "",
        arguments=ArgumentShape(
            f'<{parameter} name="', f'"{attribute}>', f"</{parameter}>\n", kind=_is_string, names=_NAMES
        ),
        reserved=(f"<{namespace}", f"</{namespace}") if namespace else tags,
        names=_NAMES,
        trims=True,
    )


def _dsml(markup: Markup) -> CallShape:
    return _calls(markup, DSML, f' string="{KIND}"', (f"{markup.opening}\n", markup.closing))


def _is_string(kind: str) -> str:
    return "true" if kind == "string" else "false"


MINIMAX = _markup("<minimax:tool_call>", "</minimax:tool_call>", "", r"\n?")
"""MiniMax M2."""

MINIMAX_CALLS = _calls(MINIMAX, around=(f"{MINIMAX.opening}\n", MINIMAX.closing))

ATEM = _markup("<atem:function_calls>", "</atem:function_calls>", "atem:", "")
"""Muse Glimmer."""

ATEM_CALL = _calls(ATEM, "atem:")
"""One call, without the tags around it."""

DSML_CALLS = _markup("<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "｜DSML｜", "")
"""DeepSeek V3.2. A value says itself whether it is a string or JSON."""

DSML_CALLS_SHAPE = _dsml(DSML_CALLS)

DSML_TOOLS = _markup("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", "｜DSML｜", "")
"""DeepSeek V4."""

DSML_TOOLS_SHAPE = _dsml(DSML_TOOLS)

MINICPM = Markup(
    '<function name="',
    "</function>",
    "</param>",
    re.compile(r'<function name="(?P<name>[^"]{1,256})">(?P<body>.*?)(?:</function>|\Z)', re.DOTALL),
    re.compile(
        r'<param name="(?P<name>[^"]{1,256})">(?:<!\[CDATA\[)?'
        r"(?P<value>.*?)(?:\]\]>)?(?:</param>|(?=<param )|\Z)",
        re.DOTALL,
    ),
)
"""MiniCPM 5."""

MINICPM_CALLS = CallShape(
    MINICPM.opening,
    '">',
    MINICPM.closing,
    between="\n",
    arguments=ArgumentShape('<param name="', '">', "</param>", names=_NAMES),
    reserved=("</param>", "<param ", MINICPM.closing),
    names=_NAMES,
    trims=True,
)
