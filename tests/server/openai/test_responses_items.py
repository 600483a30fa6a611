"""The input of `/v1/responses`: the messages that its items stand for, and what is refused."""

from typing import Any

import pytest

from engine.api import Message, ToolCall
from server.http.body import FieldError
from server.openai.responses_items import parse_input

PNG = "data:image/png;base64,aGk="
QUESTION = {"role": "user", "content": "What is the weather?"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "I call f.\n"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "warm"}
SAID = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}
USER = Message("user", "What is the weather?")
CALLED = ToolCall("f", {"a": 1}, "c1")


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("", []),
        ("Hi", [Message("user", "Hi")]),
        ([], []),
        ([{"role": "Developer", "content": None}], [Message("developer")]),
        ([{"type": "message", "role": "user", "content": "Hi"}], [Message("user", "Hi")]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]}],
            [Message("user", "a\nb")],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PNG}],
                }
            ],
            [Message("user", "a", images=(b"hi",))],
        ),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}], [Message("assistant", "no")]),
        ([{"type": "web_search_call", "id": "ws_1"}, QUESTION], [USER]),
    ],
)
def test_messages(value: Any, messages: list[Message]) -> None:
    assert parse_input(value) == messages


def test_reasoning_text_and_calls_in_a_row_are_one_message() -> None:
    calls = [CALL, CALL | {"call_id": "c2", "arguments": ""}]
    outputs = [OUTPUT, OUTPUT | {"call_id": "c2", "output": [{"type": "input_text", "text": "cold"}]}]
    assert parse_input([QUESTION, REASONING, SAID, *calls, *outputs]) == [
        USER,
        Message("assistant", "I look.", "I call f.\n", tool_calls=(CALLED, ToolCall("f", {}, "c2", 1))),
        Message("tool", "warm", tool_name="f", tool_call_id="c1"),
        Message("tool", "cold", tool_name="f", tool_call_id="c2"),
    ]


def test_each_round_of_a_tool_loop_keeps_its_reasoning() -> None:
    again = [REASONING | {"encrypted_content": "Once more."}, CALL | {"call_id": "c2"}]
    assert parse_input([QUESTION, REASONING, CALL, OUTPUT, *again]) == [
        USER,
        Message("assistant", "", "I call f.\n", tool_calls=(CALLED,)),
        Message("tool", "warm", tool_name="f", tool_call_id="c1"),
        Message("assistant", "", "Once more.", tool_calls=(ToolCall("f", {"a": 1}, "c2"),)),
    ]


def test_reasoning_between_text_and_call_begins_a_message() -> None:
    assert parse_input([SAID, REASONING, CALL]) == [
        Message("assistant", "I look."),
        Message("assistant", "", "I call f.\n", tool_calls=(CALLED,)),
    ]


@pytest.mark.parametrize(
    ("item", "thinking"),
    [
        ({"encrypted_content": "a", "summary": [{"type": "summary_text", "text": "b"}]}, "a"),
        ({"content": [{"type": "reasoning_text", "text": "a"}], "summary": [{"text": "b"}]}, "a"),
        ({"encrypted_content": None, "summary": [{"text": "a"}, {"text": "b"}]}, "a\nb"),
        ({"encrypted_content": "gAAAAABo0penAI", "summary": [{"text": "a"}]}, "a"),
        ({"encrypted_content": "gAAAAABo0penAI", "summary": []}, ""),
    ],
    ids=["ours", "content", "summary", "ciphertext", "ciphertext alone"],
)
def test_the_text_of_reasoning(item: dict[str, Any], thinking: str) -> None:
    assert parse_input([{"type": "reasoning", **item}, SAID]) == [Message("assistant", "I look.", thinking)]


def test_reasoning_that_nothing_followed() -> None:
    assert parse_input([QUESTION, REASONING, QUESTION]) == [USER, USER]
    assert parse_input([QUESTION, REASONING]) == [USER, Message("assistant", "", "I call f.\n")]


def test_custom_tools_and_namespaces() -> None:
    call = {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "+a"}
    output = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}
    assert parse_input([call, output, CALL | {"namespace": "ns"}]) == [
        Message("assistant", tool_calls=(ToolCall("patch", {"input": "+a"}, "c1"),)),
        Message("tool", "done", tool_name="patch", tool_call_id="c1"),
        Message("assistant", tool_calls=(ToolCall("ns.f", {"a": 1}, "c1"),)),
    ]


NOT_A_LIST = "must be a string or array: json: cannot unmarshal number into Go value of type []json.RawMessage"


@pytest.mark.parametrize(
    ("value", "message", "path"),
    [
        (5, f"input {NOT_A_LIST}", ""),
        ([{}], "input[0]: input item missing required 'type' field", "[0]"),
        ([QUESTION, {"type": "foo"}], 'input[1]: unknown input item type: "foo"', "[1]"),
        ([{"role": "user", "content": 5}], f"input[0]: content {NOT_A_LIST}", "[0].content"),
        (
            [{"role": "user", "content": [{"type": "x"}]}],
            "input[0]: content[0]: unknown content type: x",
            "[0].content[0]",
        ),
        (
            [{"role": "user", "content": [{"type": "input_file"}]}],
            "input[0]: content[0]: file inputs are not currently supported",
            "[0].content[0]",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/a.png"}]}],
            "input[0]: content[0]: image URLs are not currently supported, please use base64 encoded data instead",
            "[0].content[0]",
        ),
        ([OUTPUT | {"output": 5}], f"input[0]: output {NOT_A_LIST}", "[0].output"),
        ([CALL | {"arguments": "[]"}], "input[0]: function call arguments must be a JSON object", "[0].arguments"),
        ([CALL | {"arguments": "{"}], "input[0]: function call arguments must be a JSON object", "[0].arguments"),
        (
            [{"type": "item_reference", "id": "msg_1"}],
            "input[0]: item_reference is not supported: no items are stored; send the item itself",
            "[0].type",
        ),
        (
            [QUESTION | {"role": 5}],
            "input[0]: json: cannot unmarshal number into Go struct field ResponsesInputItem.role of type string",
            "[0].role",
        ),
        ([{"type": "message", "content": "x"}], "input[0]: role is required", "[0].role"),
        (
            [QUESTION, {"role": "bogus", "content": "x"}],
            'input[1]: invalid role: "bogus" '
            '(must be "system", "developer", "user", "assistant", "tool" or "function")',
            "[1].role",
        ),
        ([REASONING, {"type": "web_search_call"}], "input has no content that a model can read", ""),
        ([QUESTION] * 4097, "too many input items: 4097, at most 4096 are accepted", ""),
    ],
)
def test_refusals(value: Any, message: str, path: str) -> None:
    with pytest.raises(FieldError) as error:
        parse_input(value)
    assert (str(error.value), error.value.param) == (message, path)
