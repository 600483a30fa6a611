"""Calls written as elements, one for the function and one for each argument: `<function=f><parameter=k>v</parameter>…`.

The formats differ in their tags. Values are bare text; the tool's schema gives their types.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from engine.api import ToolCall
from engine.chat.output import json_calls
from engine.chat.output.format import KIND, LINE, NUMBER, ArgumentSpec, Format, FormatSpec, ParseContext, ToolCallSpec
from engine.chat.output.json_calls import parse
from engine.chat.output.stream import (
    MalformedCall,
    ParserCoroutine,
    TextBuffer,
    Unreadable,
    complete,
    content,
    emitted,
    reasoning,
)
from engine.chat.output.toolset import ToolSet
from engine.chat.output.values import JSON_TYPES, typed

_TYPE = r'(?: (?:string|type)="(?P<type>\w{1,16})")?'
_LINES = (r"\n?", r"\n?")
_CDATA = (r"(?:<!\[CDATA\[)?", r"(?:\]\]>)?")
_NOTHING = ("", "")


class Element(NamedTuple):
    """How an element is written: `opening`, a name, `middle`, a body, `closing`; `names` is a pattern of names."""

    opening: str
    middle: str
    closing: str
    names: str

    @property
    def start(self) -> str:
        """What every such element begins with: its opening up to the first attribute."""
        return self.opening[: self.opening.find(" ") + 1] or self.opening

    @property
    def end(self) -> str:
        """The closing tag without whitespace."""
        return _bare(self.closing)

    def pattern(self, body: str, ends: str, behind_name: str = "") -> re.Pattern[str]:
        """A pattern that finds such elements, with the group `name` and those of `body`; `ends` matches their ends.

        `behind_name` matches what follows the name if `middle` is only whitespace. Whitespace is optional between tags,
        and around names that contain none.
        """
        gap = "" if re.fullmatch(self.names, " ") else r"\s*"
        middle = _middle_pattern(self.middle) or behind_name
        return re.compile(rf"{re.escape(self.opening)}{gap}(?P<name>{self.names}){gap}{middle}{body}{ends}", re.DOTALL)


@dataclass(frozen=True)
class Markup:
    """The markup of one family, declared once for the reader and, by `spec`, for the grammar.

    `block` are the tags around all calls, or around each call if there is a `separator`; ("", "") if the function's
    tags are the block's. `padding` are patterns of what may surround a value inside of its tags. `types` maps a JSON
    type to the format's word. `reserved` are texts that no string may contain, by default all tags. `preserved` are the
    special tokens that the reader must see, by default the block's tags.

    A block without a call becomes content or, if `complaint` is set, fails the answer with it. `trims`: whitespace
    before a block is dropped; `trim_after`: also whitespace behind it.
    """

    block: tuple[str, str]
    function: Element
    argument: Element
    separator: str = ""
    padding: tuple[str, str] = _LINES
    types: Callable[[str], str] = str
    reserved: tuple[str, ...] = ()
    preserved: tuple[str, ...] | None = None
    complaint: str | None = None
    trims: bool = True
    trim_after: bool = False

    @property
    def opening(self) -> str:
        """The tag that a block begins with."""
        return _bare(self.block[0]) or self.function.opening

    @property
    def closing(self) -> str:
        """The tag that a block ends with."""
        return self.block[1] or self.function.end

    @property
    def last(self) -> str:
        """What a whole block ends with before its closing tag: an answer may stop there."""
        return self.function.end if self.block[1] else self.argument.end

    @property
    def spec(self) -> ToolCallSpec:
        """How calls are written."""
        function, argument = self.function, self.argument
        tags = (argument.end, argument.start, function.end, *[function.start] * bool(self.block[0]), self.closing)
        calls = ToolCallSpec(
            *function[:3],
            separator=self.separator,
            arguments=ArgumentSpec(*argument[:3], kind=self.types, names=_names(argument)),
            reserved=self.reserved or tuple(dict.fromkeys(tags)),
            names=_names(function),
            strips_leading_space=self.trims,
            tag="" if '"' in self.opening else self.opening,
        )
        return calls.within(*self.block) if self.separator else calls.around(*self.block)

    @property
    def format(self) -> Format:
        """Answers of content and such calls."""
        preserved = (self.opening, self.closing) if self.preserved is None else self.preserved
        return Format(self, FormatSpec(calls=self.spec), preserved)

    def __call__(self, buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
        """Read the content of an answer. Raises MalformedCall."""
        while (yield from buffer.emit_until(content, self.opening, trim=self.trims)):
            yield from self.read_block(buffer, context.tools)
            if self.trim_after:
                yield from buffer.skip_space()

    def read_block(self, buffer: TextBuffer, tools: ToolSet) -> ParserCoroutine[None]:
        """Emit the calls of one block, whose opening tag is consumed. Raises MalformedCall.

        Of a block that is held and that the answer's end cuts only the complete calls are emitted.
        """
        body, closing = yield from buffer.read_until(self.closing)
        block = self.opening + body + closing
        if buffer.held and not closing:
            calls = self.complete_calls(block, tools)
        else:
            calls = self.calls(block, tools) if closing or body.rstrip().endswith(self.last) else []
        if not calls and closing and self.complaint is not None:
            raise MalformedCall(self.complaint)
        yield from emitted(calls)
        if not calls:
            yield content(block)

    def calls(self, block: str, tools: ToolSet) -> list[ToolCall]:
        """The calls in a whole block, which may be JSON: some models mix up the formats."""
        calls = [
            ToolCall(name, self._arguments(name, match["body"], tools))
            for match in self._functions.finditer(block)
            if (name := match["name"].strip())
        ]
        return calls or self._json_calls(block, tools)

    def complete_calls(self, block: str, tools: ToolSet) -> list[ToolCall]:
        """The calls in a block that the answer's end cuts, without the one that it cuts."""
        return self.calls(complete(block, self.function.end), tools)

    def _json_calls(self, block: str, tools: ToolSet) -> list[ToolCall]:
        try:
            return json_calls.read_calls(parse(block.removeprefix(self.opening).removesuffix(self.closing)), tools)
        except Unreadable:
            return []

    def _arguments(self, function: str, body: str, tools: ToolSet) -> dict[str, object]:
        return {
            (name := match["name"].strip()): typed(match["value"], tools.types(function, name) or _stated(match))
            for match in self._parameters.finditer(body)
        }

    @cached_property
    def _functions(self) -> re.Pattern[str]:
        end, start = re.escape(self.function.end), re.escape(self.function.start)
        argument = re.escape(self.argument.start)
        ends = rf"(?:{end}|(?={start})|\Z)" if self.block[0] else rf"(?:{end}|\Z)"
        return self.function.pattern("(?P<body>.*?)", ends, behind_name=rf"(?={argument}|{end}|\Z)")

    @cached_property
    def _parameters(self) -> re.Pattern[str]:
        before, after = self.padding
        ends = rf"(?:{re.escape(self.argument.end)}|(?={re.escape(self.argument.start)})|\Z)"
        return self.argument.pattern(f"{before}(?P<value>.*?){after}", ends)


def _bare(tag: str) -> str:
    return tag.replace(LINE, "").strip()


def _names(element: Element) -> str:
    """A pattern of the names that can be written: on one line, without whitespace around them."""
    return rf"(?=\S)(?!.*\n){element.names}(?<!\s)"


def _middle_pattern(middle: str) -> str:
    """A pattern of what stands between a name and a body: with any attributes, or with the last tag alone."""
    if middle.startswith('"'):
        end = middle.rpartition('"')[2].strip()
        return f'"{_TYPE}[^{end.lstrip("<")[0]}]{{0,256}}{re.escape(end)}'
    *tags, last = map(re.escape, middle.replace(LINE, "\n").strip().split("\n"))
    return "".join(rf"(?:{tag}\s*)?" for tag in tags) + last


def _stated(match: re.Match[str]) -> frozenset[str]:
    """The types that an argument's own attribute gives: `string="false"`, `type="number"`."""
    match match.groupdict().get("type"):
        case None | "true":
            return frozenset()
        case "false":
            return JSON_TYPES
        case kind:
            return frozenset({kind})


# Qwen: `<tool_call><function=f><parameter=k>v</parameter></function></tool_call>`; Seed has other tags.

_LINE_NAMES, _QUOTED_NAMES = r"[^>\n]{1,256}", r'[^"]{1,256}'
_FUNCTION = Element("<function=", ">\n", "</function>\n", _LINE_NAMES)

QWEN_XML = Markup(
    ("<tool_call>\n", "</tool_call>"),
    _FUNCTION,
    Element("<parameter=", ">\n", "\n</parameter>\n", _LINE_NAMES),
    separator="\n",
)
"""Qwen3-Coder, Qwen3.5, Nemotron 3, StepFun."""

SEED_XML = Markup(
    ("<seed:tool_call>\n", "</seed:tool_call>"),
    _FUNCTION,
    Element("<parameter=", ">", "</parameter>\n", _LINE_NAMES),
    separator="\n",
)
"""Seed-OSS."""


# GLM, Ling, Laguna: `<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`.


def _argument(suffix: str = "") -> Element:
    """GLM's argument: tags on lines of their own as in GLM 4.5, or not as in 4.7."""
    middle = f"</arg_key{suffix}>{LINE}<arg_value{suffix}>"
    return Element(f"<arg_key{suffix}>", middle, f"</arg_value{suffix}>{LINE}", r"[^<]*")


ARGUMENT_TAGS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")

GLM = Markup(
    ("", ""),
    Element("<tool_call>", LINE, "</tool_call>", r"[\w.:/-]+"),
    _argument(),
    separator=LINE,
    preserved=("<tool_call>", "</tool_call>", *ARGUMENT_TAGS),
)

# Hunyuan 3: GLM's arguments, with a suffix to each tag.

_SUFFIX = ":opensource"
HUNYUAN_THINKING = (f"<think{_SUFFIX}>", f"</think{_SUFFIX}>")
_TAGS = ("tool_calls", "/tool_calls", "tool_call", "/tool_call", "tool_sep")

HUNYUAN = Markup(
    (f"<tool_calls{_SUFFIX}>{LINE}", f"</tool_calls{_SUFFIX}>"),
    Element(f"<tool_call{_SUFFIX}>", f"<tool_sep{_SUFFIX}>{LINE}", f"</tool_call{_SUFFIX}>{LINE}", r"[^<\s]{1,256}"),
    _argument(_SUFFIX),
    preserved=(
        *(f"<{tag}{_SUFFIX}>" for tag in _TAGS),
        *(f"{tag[:-1]}{_SUFFIX}>" for tag in ARGUMENT_TAGS),
    ),
)

# `<invoke name="f"><parameter name="k">v</parameter></invoke>`, in several namespaces.


def _invoke(namespace: str, attribute: str = "") -> tuple[Element, Element]:
    """The elements of a function and an argument; `attribute` gives the type of an argument's value."""
    return (
        Element(f'<{namespace}invoke name="', '">\n', f"</{namespace}invoke>\n", _QUOTED_NAMES),
        Element(f'<{namespace}parameter name="', f'"{attribute}>', f"</{namespace}parameter>\n", _QUOTED_NAMES),
    )


MINIMAX = Markup(("<minimax:tool_call>\n", "</minimax:tool_call>"), *_invoke(""))
"""MiniMax M2."""

ATEM = Markup(
    ("<atem:function_calls>\n", "</atem:function_calls>"),
    *_invoke("atem:"),
    separator="\n",
    padding=_NOTHING,
    reserved=("<atem:", "</atem:"),
)
"""Muse Glimmer."""

DSML = "｜DSML｜"
DSML_CALLS = Markup(
    (f"<{DSML}function_calls>\n", f"</{DSML}function_calls>"),
    *_invoke(DSML, f' string="{KIND}"'),
    padding=_NOTHING,
    types=lambda kind: "true" if kind == "string" else "false",
    reserved=(f"<{DSML}", f"</{DSML}"),
    preserved=(DSML,),
)
"""DeepSeek V3.2. An attribute says whether a value is a string or JSON."""

DSML_TOOLS = replace(DSML_CALLS, block=(f"<{DSML}tool_calls>\n", f"</{DSML}tool_calls>"))
"""DeepSeek V4."""

MINICPM = Markup(
    ("", ""),
    Element('<function name="', '">', "</function>", _QUOTED_NAMES),
    Element('<param name="', '">', "</param>", _QUOTED_NAMES),
    separator="\n",
    padding=_CDATA,
    preserved=(),
)
"""MiniCPM 5."""

# Kimi K3: all parts of an answer are elements.

_TOOLS = Markup(
    ("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),
    Element('<|open|>call tool="', f'" index="{NUMBER}"<|sep|>', "<|close|>call<|sep|>", _QUOTED_NAMES),
    Element('<|open|>argument key="', f'" type="{KIND}"<|sep|>', "<|close|>argument<|sep|>", _QUOTED_NAMES),
    padding=_NOTHING,
    types=lambda kind: "number" if kind == "integer" else kind,
    reserved=("<|open|>", "<|close|>"),
    trims=False,
)

THINK, END_THINK = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
_RESPONSE, _END_RESPONSE = "<|open|>response<|sep|>", "<|close|>response<|sep|>"
_END_MESSAGE = "<|close|>message<|sep|>"


def read_kimi3(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read a whole answer of Kimi K3."""
    if context.opened(THINK):
        buffer.push_back(THINK)
    tags = (THINK, _RESPONSE, _END_RESPONSE, _END_MESSAGE, _TOOLS.opening)
    while tag := (yield from buffer.emit_until(content, *tags)):
        if tag == THINK:
            yield from buffer.emit_until(reasoning, END_THINK)
            yield from buffer.skip_space()
        elif tag == _TOOLS.opening:
            yield from _TOOLS.read_block(buffer, context.tools)


KIMI_K3 = Format(
    read_kimi3,
    FormatSpec((THINK, END_THINK), _RESPONSE, _TOOLS.spec),
    ("<|open|>", "<|close|>", "<|sep|>"),
    thinking=True,
)
