"""An answer while it comes in: marks around the thinking, what is remembered."""

import io
from collections.abc import Iterator

import pytest

from cli.answer import AnswerPrinter, Look, timings
from cli.reply import Reply


def chat(content: str = "", thinking: str = "", *, done: bool = False) -> Reply:
    return Reply({"message": {"role": "assistant", "content": content, "thinking": thinking}, "done": done})


def shown(*responses: Reply, width: int = 0) -> str:
    out = io.StringIO()
    AnswerPrinter(out, Look(width=width)).follow(responses)
    return out.getvalue()


def test_content_alone() -> None:
    assert shown(chat("Hel"), chat("lo"), chat(done=True)) == "Hello"
    assert shown(Reply({"response": "Hello"})) == "Hello"


@pytest.mark.parametrize("end", ["", "\n"])
def test_thinking_stands_between_marks(end: str) -> None:
    text = shown(chat(thinking="I "), chat(thinking=f"think{end}"), chat("so"))
    assert text == "Thinking...\nI think\n...done thinking.\n\nso"


def test_thinking_is_dimmed_at_a_terminal() -> None:
    text = shown(chat(thinking="hm"), chat("so"), width=80)
    assert text == "\x1b[90mThinking...\nhm\n...done thinking.\n\n\x1b[0mso"


def test_thinking_without_an_answer_leaves_the_terminal_as_it_was() -> None:
    assert shown(chat(thinking="hm"), width=80) == "\x1b[90mThinking...\nhm\x1b[0m"


def test_hidden_thinking_is_remembered() -> None:
    out = io.StringIO()
    answer = AnswerPrinter(out, Look(hide_thinking=True))
    final = chat(done=True)
    answer.follow([chat(thinking="hm"), chat("so"), final])
    assert out.getvalue() == answer.content == "so"
    assert answer.thinking == "hm"
    assert answer.final is final


def test_what_came_before_a_failure_is_shown() -> None:
    out = io.StringIO()
    answer = AnswerPrinter(out, Look(width=80))

    def broken() -> Iterator[Reply]:
        yield chat("one two")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer.follow(broken())
    assert out.getvalue() == answer.content == "one two"


def test_timings() -> None:
    final = Reply(
        {
            "total_duration": 2_000_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": 10,
            "prompt_eval_duration": 500_000_000,
            "eval_count": 20,
            "eval_duration": 1_000_000_000,
        }
    )
    assert timings(final) == (
        "total duration:       2s\n"
        "load duration:        1ms\n"
        "prompt eval count:    10 token(s)\n"
        "prompt eval duration: 500ms\n"
        "prompt eval rate:     20.00 tokens/s\n"
        "eval count:           20 token(s)\n"
        "eval duration:        1s\n"
        "eval rate:            20.00 tokens/s\n"
    )
