"""How an answer is cut into pieces never changes what it says, in any format and however odd the answer is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Delta, Message
from engine.chat.output import (
    NAMED,
    Format,
    MalformedCall,
    OutputParser,
    ParseContext,
    ToolSet,
    native_format,
    template_format,
)
from tests.engine.chat.output.test_detect import EXCERPTS
from tests.engine.chat.reading import TOOLS, cut, joined

FORMATS: dict[str, Format] = {
    **NAMED,
    **{template: native_format(f"{template} <think></think>") for template, _ in EXCERPTS},
    **{tag: template_format(tag, ("<think>", "</think>")) for tag in ("<call>", "{", "[", "[TOOL_CALLS] [")},
}
PIECES = (
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<think", "<tool", ">", "text", " ", "\n"),
    *('{"name": "add", "arguments": {"a": 1}}', '{"name": "nope"}', '{"a":1,}', "{", "}", "[", "]", '"', "\\", ","),
    *(
        "add",
        "add(",
        "a=1",
        ")",
        "call:add{a:1}",
        "to=functions.add",
        "to=self",
        "to=add",
        "all\n",
        "add\n",
        "functions.add:0",
    ),
    *("<function=add>", "<parameter=a>", "</function>", "<arg_key>a</arg_key>", "<arg_value>2</arg_value>"),
    *('<invoke name="add">', '<parameter name="a">', "</invoke>", "add[ARGS]", "<｜tool▁sep｜>", ">>>", "thought\n"),
    *("analysis", "final", "<|message|>", "<|start|>assistant", "<|tool_call_argument_begin|>", "```json\n"),
)
ALWAYS_THINKING = {"olmo3-think", "qwen3-vl-thinking"}
SILENT = {"gemma4-no-thinking"}  # drops what the model reasons, whoever asks
PROMPTS = ("", "<think>\n", "<|START_THINKING|>", "[THINK]")
LAST = (None, Message("user", "x"), Message("assistant", "x"), Message("assistant", thinking="x"))


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, str]:
    """The key of a format, and an answer made of its markup and other pieces."""
    name = draw(st.sampled_from(sorted(FORMATS)))
    answer = dict(EXCERPTS).get(name, "")
    own = (*FORMATS[name].preserved, *cut(answer, draw(st.lists(st.integers(0, 200), max_size=4))), answer)
    pieces = st.sampled_from(own) | st.sampled_from(PIECES)
    return name, "".join(draw(st.lists(pieces, max_size=10)))


def outcome(format: Format, context: ParseContext, chunks: list[str]) -> tuple[Delta, str, list[tuple[int, int]]]:
    """All that an answer says, the fault that ends it, and where its blocks of reasoning are."""
    parser, parsed = OutputParser(format, context, lambda: "id"), []
    try:
        for at, chunk in enumerate(chunks):
            parsed.extend(parser.feed(chunk, at == len(chunks) - 1))
    except MalformedCall as fault:
        return joined(parsed), str(fault), list(parser.thoughts)
    return joined(parsed), "", list(parser.thoughts)


@settings(max_examples=500)
@given(
    answers(),
    st.lists(st.integers(0, 500), max_size=8),
    st.builds(
        ParseContext,
        st.sampled_from([ToolSet(TOOLS), ToolSet()]),
        st.booleans(),
        st.sampled_from(LAST),
        st.sampled_from(PROMPTS),
    ),
)
def test_cuts(given_answer: tuple[str, str], places: list[int], context: ParseContext) -> None:
    name, text = given_answer
    whole = outcome(FORMATS[name], context, [text])
    assert outcome(FORMATS[name], context, cut(text, places)) == whole
    assert outcome(FORMATS[name], context, [*text, ""]) == whole
    delta, _, thoughts = whole
    reasoning = "".join(text[start:end] for start, end in thoughts)
    assert delta.thinking.split() == ([] if name in SILENT else reasoning.split()) or not context.think


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(FORMATS.keys() - ALWAYS_THINKING)),
    st.lists(st.sampled_from(["a", "b ", "<", "[", ", ", "\n", "1"]), max_size=20),
)
def test_what_is_no_markup_is_content(name: str, parts: list[str]) -> None:
    text = "Well, " + "".join(parts)
    parsed, fault, _ = outcome(FORMATS[name], ParseContext(ToolSet(TOOLS), think=False), [text])
    assert (parsed.content.split(), parsed.thinking, parsed.tool_calls, fault) == (text.split(), "", (), "")
