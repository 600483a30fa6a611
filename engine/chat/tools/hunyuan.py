"""Hunyuan 3: GLM's markup under other names, with a suffix to each: `<tool_call:opensource>f<tool_sep:opensource>…`."""

from __future__ import annotations

import re

from engine.chat.tools.markup import Markup
from engine.chat.tools.shape import LINE, ArgumentShape, CallShape, Shape, bare_name

_SUFFIX = ":opensource"
THINKING = (f"<think{_SUFFIX}>", f"</think{_SUFFIX}>")
HUNYUAN = Markup(
    f"<tool_calls{_SUFFIX}>",
    f"</tool_calls{_SUFFIX}>",
    f"</tool_call{_SUFFIX}>",
    re.compile(
        rf"<tool_call{_SUFFIX}>\s*(?P<name>[^<\s]{{1,256}})\s*<tool_sep{_SUFFIX}>"
        rf"(?P<body>.*?)(?:</tool_call{_SUFFIX}>|(?=<tool_call{_SUFFIX}>)|\Z)",
        re.DOTALL,
    ),
    re.compile(
        rf"<arg_key{_SUFFIX}>(?P<name>[^<]*)</arg_key{_SUFFIX}>\s*<arg_value{_SUFFIX}>\n?(?P<value>.*?)\n?"
        rf"(?:</arg_value{_SUFFIX}>|(?=<arg_key{_SUFFIX}>)|(?=</tool_call{_SUFFIX}>)|\Z)",
        re.DOTALL,
    ),
)
PRESERVED = (
    *THINKING,
    *(HUNYUAN.opening, HUNYUAN.closing, HUNYUAN.last),
    *(f"<{tag}{_SUFFIX}>" for tag in ("tool_call", "tool_sep", "arg_key", "/arg_key", "arg_value", "/arg_value")),
)
SHAPE = Shape(
    THINKING,
    calls=CallShape(
        f"<tool_call{_SUFFIX}>",
        f"<tool_sep{_SUFFIX}>{LINE}",
        f"{HUNYUAN.last}{LINE}",
        f"{HUNYUAN.opening}{LINE}",
        HUNYUAN.closing,
        "",
        arguments=ArgumentShape(
            f"<arg_key{_SUFFIX}>",
            f"</arg_key{_SUFFIX}>{LINE}<arg_value{_SUFFIX}>",
            f"</arg_value{_SUFFIX}>{LINE}",
            names=bare_name("<"),
        ),
        reserved=(
            *(f"</arg_value{_SUFFIX}>", f"<arg_key{_SUFFIX}>"),
            *(f"<tool_call{_SUFFIX}>", HUNYUAN.last, HUNYUAN.closing),
        ),
        names=r"[^<\s]+",
        trims=True,
    ),
)
