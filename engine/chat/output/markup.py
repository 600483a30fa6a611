"""Calls written as elements, one for the function and one for each argument: `<function=f><parameter=k>v</parameter>…`.

The formats differ in their tags only. Values are bare text; the tool's schema says what they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.api import ToolCall
from engine.chat.output import json_calls
from engine.chat.output.format import KIND, LINE, ArgumentSpec, FormatSpec, ParseContext, ToolCallSpec, bare_name
from engine.chat.output.json_calls import parse
from engine.chat.output.stream import MalformedCall, ParserCoroutine, TextBuffer, Unreadable, content, emitted
from engine.chat.output.toolset import ToolSet
from engine.chat.output.values import JSON_TYPES, typed


@dataclass(frozen=True, slots=True)
class Markup:
    """A reader of one such format.

    `function` has the groups `name` and `body`, and finds every call in a block; `parameter` has `name` and `value`,
    may have `type`, and finds every argument in a body. `last` is what a whole block ends with before its closing
    tag: an answer may stop there. A block without a call is given back as content, or fails the answer with
    `complaint`. `trim_after`: whitespace behind a block is dropped.
    """

    opening: str
    closing: str
    last: str
    function: re.Pattern[str]
    parameter: re.Pattern[str]
    complaint: str | None = None
    trim_after: bool = False

    def __call__(self, buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
        """Read the content of an answer. Raises MalformedCall."""
        while (yield from buffer.emit_until(content, self.opening, trim=True)):
            yield from self.read_block(buffer, turn.tools)
            if self.trim_after:
                yield from buffer.skip_space()

    def read_block(self, buffer: TextBuffer, tools: ToolSet) -> ParserCoroutine[None]:
        """Emit the calls of one block. The opening tag is consumed. Raises MalformedCall."""
        body, closing = yield from buffer.read_until(self.closing)
        block = self.opening + body + closing
        calls = self.calls(block, tools) if closing or body.rstrip().endswith(self.last) else []
        if not calls and closing and self.complaint is not None:
            raise MalformedCall(self.complaint)
        yield from emitted(calls)
        if not calls:
            yield content(block)

    def calls(self, block: str, tools: ToolSet) -> list[ToolCall]:
        """The calls in a whole block. Models that mix up their formats write JSON in it."""
        found = [
            ToolCall(name, self._arguments(name, match["body"], tools))
            for match in self.function.finditer(block)
            if (name := match["name"].strip())
        ]
        return found or self._spoken(block, tools)

    def _spoken(self, block: str, tools: ToolSet) -> list[ToolCall]:
        try:
            return json_calls.read_calls(parse(block.removeprefix(self.opening).removesuffix(self.closing)), tools)
        except Unreadable:
            return []

    def _arguments(self, function: str, body: str, tools: ToolSet) -> dict[str, object]:
        return {
            (name := match["name"].strip()): typed(match["value"], tools.types(function, name) or _stated(match))
            for match in self.parameter.finditer(body)
        }


def _stated(match: re.Match[str]) -> frozenset[str]:
    """The types that an argument itself claims to have: `string="false"`, `type="number"`."""
    match match.groupdict().get("type"):
        case None | "true":
            return frozenset()
        case "false":
            return JSON_TYPES
        case kind:
            return frozenset({kind})


# Qwen's XML: `<tool_call><function=f><parameter=k>v</parameter></function></tool_call>`, in Seed's tags too.

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

QWEN_CALLS = ToolCallSpec(
    "<tool_call>\n<function=",
    ">\n",
    "</function>\n</tool_call>",
    between="\n",
    arguments=ArgumentSpec("<parameter=", ">\n", "\n</parameter>\n", names=_NAMES),
    reserved=(*_RESERVED, QWEN_XML.closing),
    names=_NAMES,
    strips_leading_space=True,
)

SEED_CALLS = ToolCallSpec(
    "<seed:tool_call>\n<function=",
    ">\n",
    "</function>\n</seed:tool_call>",
    between="\n",
    arguments=ArgumentSpec("<parameter=", ">", "</parameter>\n", names=_NAMES),
    reserved=(*_RESERVED, SEED_XML.closing),
    names=_NAMES,
    strips_leading_space=True,
)


# GLM's calls: `<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`, also Ling's and Laguna's.

GLM = Markup(
    "<tool_call>",
    "</tool_call>",
    "</arg_value>",
    re.compile(r"<tool_call>\s*(?P<name>[\w.:/-]+)\s*(?P<body>(?:<arg_key>.*)?)(?:</tool_call>|\Z)", re.DOTALL),
    # Closing tags that the model forgot are made up for.
    re.compile(
        r"<arg_key>(?P<name>[^<]*)(?:</arg_key>\s*)?"
        r"<arg_value>\n?(?P<value>.*?)\n?(?:</arg_value>|(?=<arg_key>)|(?=</tool_call>)|\Z)",
        re.DOTALL,
    ),
)

ARGUMENT_TAGS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")

GLM_CALLS = ToolCallSpec(
    GLM.opening,
    LINE,
    GLM.closing,
    between=LINE,
    arguments=ArgumentSpec("<arg_key>", f"</arg_key>{LINE}<arg_value>", f"</arg_value>{LINE}", names=bare_name("<")),
    reserved=("</arg_value>", "<arg_key>", GLM.closing),
    names=r"[\w.:/-]+",
    strips_leading_space=True,
)
"""On lines of their own, as GLM 4.5 writes the tags, or not, as 4.7 does."""


# Hunyuan 3: GLM's markup under other names, with a suffix to each: `<tool_call:opensource>f<tool_sep:opensource>…`.

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
SHAPE = FormatSpec(
    THINKING,
    calls=ToolCallSpec(
        f"<tool_call{_SUFFIX}>",
        f"<tool_sep{_SUFFIX}>{LINE}",
        f"{HUNYUAN.last}{LINE}",
        f"{HUNYUAN.opening}{LINE}",
        HUNYUAN.closing,
        "",
        arguments=ArgumentSpec(
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
        strips_leading_space=True,
    ),
)


# Calls written as `<invoke name="f"><parameter name="k">v</parameter></invoke>`, in several namespaces.

DSML = "｜DSML｜"
_QUOTED_NAMES = bare_name('"')


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


def _calls(
    markup: Markup, namespace: str = "", attribute: str = "", around: tuple[str, str] = ("", "")
) -> ToolCallSpec:
    """How calls are written in a namespace; `attribute` says what kind of value an argument has."""
    invoke, parameter = f"{namespace}invoke", f"{namespace}parameter"
    before, after = around
    tags = (f"</{parameter}>", f"<{parameter} ", f"</{invoke}>", f"<{invoke} ", markup.closing)
    return ToolCallSpec(
        f'<{invoke} name="',
        '">\n',
        f"</{invoke}>\n",
        before,
        after,
        "",
        arguments=ArgumentSpec(
            f'<{parameter} name="', f'"{attribute}>', f"</{parameter}>\n", kind=_is_string, names=_QUOTED_NAMES
        ),
        reserved=(f"<{namespace}", f"</{namespace}") if namespace else tags,
        names=_QUOTED_NAMES,
        strips_leading_space=True,
    )


def _dsml(markup: Markup) -> ToolCallSpec:
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

MINICPM_CALLS = ToolCallSpec(
    MINICPM.opening,
    '">',
    MINICPM.closing,
    between="\n",
    arguments=ArgumentSpec('<param name="', '">', "</param>", names=_QUOTED_NAMES),
    reserved=("</param>", "<param ", MINICPM.closing),
    names=_QUOTED_NAMES,
    strips_leading_space=True,
)
