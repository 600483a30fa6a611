"""Qwen's XML: `<tool_call><function=f><parameter=k>v</parameter></function></tool_call>`, in Seed's tags too."""

from __future__ import annotations

import re

from engine.chat.tools.markup import Markup
from engine.chat.tools.shape import ArgumentShape, CallShape, bare_name

_FUNCTION = re.compile(r"<function=(?P<name>[^>\n]{1,256})>(?P<body>.*?)(?:</function>|(?=<function=)|\Z)", re.DOTALL)
_PARAMETER = re.compile(
    r"<parameter=(?P<name>[^>\n]{1,256})>\n?(?P<value>.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL
)

_RESERVED = ("</parameter>", "<parameter=", "</function>", "<function=")
_NAMES = bare_name(">")

QWEN_XML = Markup("<tool_call>", "</tool_call>", "</function>", _FUNCTION, _PARAMETER)
"""Qwen3-Coder, Qwen3.5, Nemotron 3, StepFun."""

SEED_XML = Markup("<seed:tool_call>", "</seed:tool_call>", "</function>", _FUNCTION, _PARAMETER)
"""Seed-OSS."""

QWEN_CALLS = CallShape(
    "<tool_call>\n<function=",
    ">\n",
    "</function>\n</tool_call>",
    between="\n",
    arguments=ArgumentShape("<parameter=", ">\n", "\n</parameter>\n", names=_NAMES),
    reserved=(*_RESERVED, QWEN_XML.closing),
    names=_NAMES,
    trims=True,
)

SEED_CALLS = CallShape(
    "<seed:tool_call>\n<function=",
    ">\n",
    "</function>\n</seed:tool_call>",
    between="\n",
    arguments=ArgumentShape("<parameter=", ">", "</parameter>\n", names=_NAMES),
    reserved=(*_RESERVED, SEED_XML.closing),
    names=_NAMES,
    trims=True,
)
