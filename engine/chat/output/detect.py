"""Which format a model writes, read off the text of the chat template in its file.

llama.cpp knows the families in the first part of the table by the same marks; the rest it finds by rendering calls
and looking at the difference. Here marks do for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.chat.output import cohere, delimited, functionary, gemma, glimmer, harmony, markup, minimax, mistral
from engine.chat.output.format import Format, ParseContext, ToolCallSpec, json_call, json_list
from engine.chat.output.pythonic import LFM, LFM2, LLAMA3, LLAMA4, OLMO
from engine.chat.output.reasoning import after_thinking, read_content, with_tools
from engine.chat.output.stream import ParserCoroutine, TextBuffer
from engine.chat.output.tagged_json import HERMES, TaggedJSON, template_format

_THINKING = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    ("<thinking>", "</thinking>"),
)


@dataclass(frozen=True, slots=True)
class _Family:
    """A format and the marks that a template of it has, all of them; `without` are marks that it has not.

    `whole`: the format is more than calls, so it is read even when there are no tools, and finds reasoning itself;
    the model thinks if the template has the mark `thinks`. `tags` surround reasoning where the template's text does
    not show them.
    """

    marks: tuple[str, ...]
    format: Format
    without: tuple[str, ...] = ()
    whole: bool = False
    thinks: str = ""
    tags: tuple[str, str] | None = None

    def suits(self, template: str) -> bool:
        """Whether a template is of this family."""
        return all(mark in template for mark in self.marks) and not any(mark in template for mark in self.without)


def _calls(*marks: str, format: Format, without: str = "") -> _Family:
    """A format of calls."""
    return _Family(marks, format, tuple(filter(None, (without,))))


def _whole(*marks: str, format: Format, without: str = "", thinks: str = "") -> _Family:
    """A format that is more than calls."""
    return _Family(marks, format, tuple(filter(None, (without,))), whole=True, thinks=thinks)


def _json(
    opening: str, closing: str, *marks: str, inside: ToolCallSpec | None = None, also: tuple[str, ...] = ()
) -> _Family:
    """Calls as JSON between two tags: in one array, unless `inside` says otherwise."""
    return _Family(marks or (opening,), TaggedJSON(opening, closing, inside or json_list(), also=also).format)


_GIGA = "<|message_sep|>\n\nfunction call<|role_sep|>\n"
_PLUGIN = "<|action_start|><|plugin|>"
_FENCE = json_list("\n[", name="tool_name", arguments="parameters")

_FAMILIES = (
    _whole(
        *("[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]"),
        format=mistral.MISTRAL,
        without="[CALL_ID]",
        thinks=mistral.THINK,
    ),
    _whole("<|channel|>", format=harmony.HARMONY),
    _whole("<atem:function_calls>", "<|eom|>", format=glimmer.GLIMMER),
    _whole(">>>all", ">>>${recipient}", format=functionary.FUNCTIONARY),
    _calls("<|tool_calls_section_begin|>", "<|tool_call_begin|>", format=delimited.KIMI_K2),
    _whole("<|open|>", "<|close|>", "<|end_of_msg|>", format=markup.KIMI_K3),
    _whole("<|tool_call:begin|>", "<|tool_call:args|>", format=delimited.SOLAR),
    _Family(("HYTK", ":opensource", "<arg_key{}>"), markup.HUNYUAN.format, tags=markup.HUNYUAN_THINKING),
    _calls("<role>ASSISTANT</role>", "<arg_key>", format=markup.GLM.format),
    _whole("<|START_TEXT|>", "<|START_ACTION|>", format=cohere.COMMAND),
    _calls("<|tool_list_start|>", "<|tool_list_end|>", format=LFM2),
    _calls("List of tools: [", format=LFM2, without="<|tool_list_start|>"),
    _json("<|function_call|>", "<|message_sep|>", "<|function_call|>", "<|message_sep|>", inside=json_call()),
    _json(_GIGA, "<|message_sep|>", "<|role_sep|>", "<|message_sep|>", inside=json_call()),
    _calls(minimax.SPACE, "<tool_call>", "<invoke name=", format=minimax.MINIMAX3),
    _calls("dsml_token", "DSML", "function_calls", format=markup.DSML_CALLS.format),
    _calls("dsml_token", "DSML", "tool_calls", format=markup.DSML_TOOLS.format),
    _whole("'<|tool_call>call:'", format=gemma.GEMMA4),
    _calls("Tool usage guidelines:", '<function name="', '<param name="', format=markup.MINICPM.format),
    _calls("<tool_call>", "<function=", "<parameter=", format=markup.QWEN_XML.format),
    _calls(markup.SEED_XML.opening, format=markup.SEED_XML.format),
    _calls(markup.MINIMAX.opening, format=markup.MINIMAX.format),
    _calls(gemma.FUNCTION_CALL, format=gemma.FUNCTION_GEMMA),
    _whole("<|START_ACTION|>", format=cohere.COMMAND_RESPONSE),
    _calls("<arg_key>", format=markup.GLM.format),
    _calls("tool▁calls▁begin", "```json", format=delimited.DEEPSEEK_FENCED),
    _calls("tool▁calls▁begin", format=delimited.DEEPSEEK),
    _whole("[TOOL_CALLS]", "[ARGS]", format=mistral.MISTRAL, thinks=mistral.THINK),
    _whole("[TOOL_CALLS]", format=mistral.MISTRAL_LISTED, thinks=mistral.THINK),
    _calls(LFM.opening, format=LFM2),
    _calls(OLMO.opening, format=OLMO.format),
    _json("<TOOLCALL>", "</TOOLCALL>"),
    _json("<|tools_prefix|>", "<|tools_suffix|>", inside=ToolCallSpec('{"', '": ', "}", "[", "]", ", ")),
    _json("<|tool_call|>", "<|/tool_call|>", "<|/tool_call|>"),
    _json("<|tool_call|>", ""),
    _json(_PLUGIN, "<|action_end|>", inside=json_call("\n", arguments="parameters")),
    _json("<tool_calls>", "</tool_calls>"),
    _calls(HERMES.opening, format=HERMES.format),
    _json("Action: ```json", "```", "Action:", "```json", "tool_name", inside=_FENCE, also=("Action:\n```json",)),
    _json("functools[", "", inside=json_list("")),
    _calls("<function=", format=functionary.FUNCTION_TAGS),
    _calls("[func_name1(", format=LLAMA4),
    _calls("<|python_tag|>", format=LLAMA3),
    _calls("可用工具", format=functionary.GLM4),
    _calls("tools", format=template_format("{")),
)
"""The first that suits counts."""


def native_format(template: str) -> Format:
    """The format in which a model answers whose own chat template is `template`."""
    family = next((family for family in _FAMILIES if family.suits(template)), None)
    format = Format(read_content) if family is None else family.format
    if family is not None and family.whole:
        return replace(format, thinking=format.thinking and family.thinks in template)
    if family is not None:
        format = replace(format, read=with_tools(format.read))
    tags = (family and family.tags) or next((pair for pair in _THINKING if pair[1] in template), None)
    if tags is None:
        return format
    preserved = tuple(dict.fromkeys((*tags, *format.preserved)))
    return replace(after_thinking(_without_closing(format, tags[1]), *tags, asks=False), preserved=preserved)


def _without_closing(format: Format, closing: str) -> Format:
    """A model that may choose whether it thinks, and does not, may close the block that it never opened."""

    def read_rest(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
        if (yield from buffer.accept(closing, after_space=True)):
            yield from buffer.skip_space()
        yield from format.read(buffer, turn)

    return replace(format, read=read_rest)
