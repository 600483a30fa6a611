"""Text to thinking, content and tool calls, in every format that models write.

A `Format` comes from a parser's name (`NAMED`), from what a Go template shows (`template_format`) or from the chat
template in a model's file (`native_format`); an `OutputParser` reads one answer in it.
"""

from engine.chat.tools.calls import MalformedCall
from engine.chat.tools.declared import Toolbox
from engine.chat.tools.detected import native_format
from engine.chat.tools.format import Format, Turn
from engine.chat.tools.generic import template_format
from engine.chat.tools.harmony import identifiers
from engine.chat.tools.named import NAMED
from engine.chat.tools.output import OutputParser
from engine.chat.tools.shape import Shape

__all__ = [
    "NAMED",
    "Format",
    "MalformedCall",
    "OutputParser",
    "Shape",
    "Toolbox",
    "Turn",
    "identifiers",
    "native_format",
    "template_format",
]
