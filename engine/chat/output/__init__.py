"""Text to thinking, content and tool calls, in every format that models write.

A `Format` comes from a parser's name (`NAMED`), from what a Go template shows (`template_format`) or from the chat
template in a model's file (`native_format`); an `OutputParser` reads one answer in it.
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
