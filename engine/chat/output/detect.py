"""Finds the format in which a model answers in the text of the chat template in its file.

llama.cpp finds the families in the first part of the table by the same marks, and the rest by rendering calls and
comparing. Here all are found by marks.
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
    """A row of the table: a template with all of the `marks` and none in `without` is of this format.

    `whole`: the format describes whole answers, so it is read without tools too, and its reader finds reasoning; the
    model reasons if the template contains `thinks`. `tags` are those around reasoning if the template's text does not
    show them.
    """

    marks: tuple[str, ...]
    answer_format: Format
    without: tuple[str, ...] = ()
    whole: bool = False
    thinks: str = ""
    tags: tuple[str, str] | None = None

    def suits(self, template: str) -> bool:
        """Whether a template is of this format."""
        return all(mark in template for mark in self.marks) and not any(mark in template for mark in self.without)


def _calls(answer_format: Format, *marks: str, without: tuple[str, ...] = ()) -> _Family:
    """A format of calls."""
    return _Family(marks, answer_format, without)


def _whole(answer_format: Format, *marks: str, without: tuple[str, ...] = (), thinks: str = "") -> _Family:
    """A format of whole answers."""
    return _Family(marks, answer_format, without, whole=True, thinks=thinks)


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
        mistral.MISTRAL,
        *("[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]"),
        without=("[CALL_ID]",),
        thinks=mistral.THINK,
    ),
    _whole(harmony.HARMONY, "<|channel|>"),
    _whole(glimmer.GLIMMER, "<atem:function_calls>", "<|eom|>"),
    _whole(functionary.FUNCTIONARY, ">>>all", ">>>${recipient}"),
    _calls(delimited.KIMI_K2, "<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
    _whole(markup.KIMI_K3, "<|open|>", "<|close|>", "<|end_of_msg|>"),
    _whole(delimited.SOLAR, "<|tool_call:begin|>", "<|tool_call:args|>"),
    _Family(("HYTK", ":opensource", "<arg_key{}>"), markup.HUNYUAN.format, tags=markup.HUNYUAN_THINKING),
    _calls(markup.GLM.format, "<role>ASSISTANT</role>", "<arg_key>"),
    _whole(cohere.COMMAND, "<|START_TEXT|>", "<|START_ACTION|>"),
    _calls(LFM2, "<|tool_list_start|>", "<|tool_list_end|>"),
    _calls(LFM2, "List of tools: [", without=("<|tool_list_start|>",)),
    _json("<|function_call|>", "<|message_sep|>", "<|function_call|>", "<|message_sep|>", inside=json_call()),
    _json(_GIGA, "<|message_sep|>", "<|role_sep|>", "<|message_sep|>", inside=json_call()),
    _calls(minimax.MINIMAX3, minimax.SPACE, "<tool_call>", "<invoke name="),
    _calls(markup.DSML_CALLS.format, "dsml_token", "DSML", "function_calls"),
    _calls(markup.DSML_TOOLS.format, "dsml_token", "DSML", "tool_calls"),
    _whole(gemma.GEMMA4, "'<|tool_call>call:'"),
    _calls(markup.MINICPM.format, "Tool usage guidelines:", '<function name="', '<param name="'),
    _calls(markup.QWEN_XML.format, "<tool_call>", "<function=", "<parameter="),
    _calls(markup.SEED_XML.format, markup.SEED_XML.opening),
    _calls(markup.MINIMAX.format, markup.MINIMAX.opening),
    _calls(gemma.FUNCTION_GEMMA, gemma.FUNCTION_CALL),
    _whole(cohere.COMMAND_RESPONSE, "<|START_ACTION|>"),
    _calls(markup.GLM.format, "<arg_key>"),
    _calls(delimited.DEEPSEEK_FENCED, "tool▁calls▁begin", "```json"),
    _calls(delimited.DEEPSEEK, "tool▁calls▁begin"),
    _whole(mistral.MISTRAL, "[TOOL_CALLS]", "[ARGS]", thinks=mistral.THINK),
    _whole(mistral.MISTRAL_LISTED, "[TOOL_CALLS]", thinks=mistral.THINK),
    _calls(LFM2, LFM.opening),
    _calls(OLMO.format, OLMO.opening),
    _json("<TOOLCALL>", "</TOOLCALL>"),
    _json("<|tools_prefix|>", "<|tools_suffix|>", inside=ToolCallSpec('{"', '": ', "}", "[", "]", ", ")),
    _json("<|tool_call|>", "<|/tool_call|>", "<|/tool_call|>"),
    _json("<|tool_call|>", ""),
    _json(_PLUGIN, "<|action_end|>", inside=json_call("\n", arguments="parameters")),
    _json("<tool_calls>", "</tool_calls>"),
    _calls(HERMES.format, HERMES.opening),
    _json("Action: ```json", "```", "Action:", "```json", "tool_name", inside=_FENCE, also=("Action:\n```json",)),
    _json("functools[", "", inside=json_list("")),
    _calls(functionary.FUNCTION_TAGS, "<function="),
    _calls(LLAMA4, "[func_name1("),
    _calls(LLAMA3, "<|python_tag|>"),
    _calls(functionary.GLM4, "可用工具"),
    _calls(template_format("{"), "tools"),
)
"""The first row that suits a template counts."""


def native_format(template: str) -> Format:
    """The format in which a model with this chat template answers."""
    family = next((family for family in _FAMILIES if family.suits(template)), None)
    answer_format = Format(read_content) if family is None else family.answer_format
    if family is not None and family.whole:
        return replace(answer_format, thinking=answer_format.thinking and family.thinks in template)
    if family is not None:
        answer_format = replace(answer_format, read=with_tools(answer_format.read))
    tags = (family and family.tags) or next((pair for pair in _THINKING if pair[1] in template), None)
    if tags is None:
        return answer_format
    preserved = tuple(dict.fromkeys((*tags, *answer_format.preserved)))
    return replace(
        after_thinking(_without_closing(answer_format, tags[1]), *tags, only_if_asked=False), preserved=preserved
    )


def _without_closing(answer_format: Format, closing: str) -> Format:
    """The format without a closing tag at the start: a model that skips reasoning may still close the block."""

    def read_rest(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
        if (yield from buffer.accept(closing, after_space=True)):
            yield from buffer.skip_space()
        yield from answer_format.read(buffer, context)

    return replace(answer_format, read=read_rest)
