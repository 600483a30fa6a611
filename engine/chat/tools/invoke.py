"""Calls written as `<invoke name="f"><parameter name="k">v</parameter></invoke>`, in several namespaces."""

from __future__ import annotations

import re

from engine.chat.tools.markup import Markup


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


MINIMAX = _markup("<minimax:tool_call>", "</minimax:tool_call>", "", r"\n?")
"""MiniMax M2."""

ATEM = _markup("<atem:function_calls>", "</atem:function_calls>", "atem:", "")
"""Muse Glimmer."""

DSML_CALLS = _markup("<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "｜DSML｜", "")
"""DeepSeek V3.2. A value says itself whether it is a string or JSON."""

DSML_TOOLS = _markup("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", "｜DSML｜", "")
"""DeepSeek V4."""

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
