"""Parsers of answers: text in, reasoning, content and tool calls out, in every format that models write.

A `Format` comes from a parser's name (`NAMED`), from the tag in a Go template (`template_format`) or from the chat
template in a model's file (`native_format`). `OutputParser` reads one answer in it; its `spec` tells the grammar how
such an answer is written. To add a format, add a row to `markup`, `tagged_json`, `pythonic` or `delimited` and one to
the table in `detect`.
"""

from engine.chat.output.detect import native_format
from engine.chat.output.format import Format, FormatSpec, ParseContext
from engine.chat.output.named import NAMED
from engine.chat.output.parser import OutputParser
from engine.chat.output.stream import MalformedCall
from engine.chat.output.tagged_json import template_format
from engine.chat.output.toolset import ToolSet

__all__ = [
    "NAMED",
    "Format",
    "FormatSpec",
    "MalformedCall",
    "OutputParser",
    "ParseContext",
    "ToolSet",
    "native_format",
    "template_format",
]
