"""The objects of generate and chat: which keys, in which order, and none too many."""

import json
import time

from engine.api import CallPart, Delta, Final, ModelLoading, PromptRead, Queued, Rendered, TokenLogprob, ToolCall
from server.ollama.writer import ChatWriter, GenerateWriter

FINAL = Final(
    done_reason="stop",
    context=[1, 2],
    load_duration=5,
    prompt_eval_count=7,
    prompt_eval_duration=8,
    eval_count=9,
    eval_duration=10,
)
METRICS = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]
CALLS = (ToolCall("f", {"b": 1, "a": "<"}, id="call_1"), ToolCall("g", {}, index=1))


def test_generate_line() -> None:
    line = GenerateWriter('T"x', stream=True).event(Delta("He<llo\n"))
    assert line.endswith(b'"response":"He<llo\\n","done":false}\n')
    assert list(json.loads(line)) == ["model", "created_at", "response", "done"]
    assert json.loads(line)["model"] == 'T"x'


def test_lines_of_progress() -> None:
    line = json.loads(GenerateWriter("t", stream=True).event(Queued(3)))
    assert list(line) == ["model", "created_at", "response", "done", "progress"]
    assert (line["response"], line["done"], line["progress"]) == ("", False, {"stage": "queued", "position": 3})
    writer = ChatWriter("t", stream=True)
    data = writer.event(ModelLoading(0.12345))
    assert data.endswith(b"}\n")
    line = json.loads(data)
    assert line["message"] == {"role": "assistant", "content": ""}
    assert line["progress"] == {"stage": "loading", "completed": 0.123, "total": 1}
    told = json.loads(writer.event(PromptRead(512, 2048, 128, 5)))["progress"]
    assert told == {"stage": "prompt", "completed": 512, "total": 2048, "cached": 128}


def test_generate_thinking_line() -> None:
    line = json.loads(GenerateWriter("t", stream=True).event(Delta(thinking="hm")))
    assert list(line) == ["model", "created_at", "response", "thinking", "done"]
    assert (line["response"], line["thinking"]) == ("", "hm")


def test_generate_last_line() -> None:
    line = json.loads(GenerateWriter("t", stream=True).event(FINAL))
    assert list(line) == ["model", "created_at", "response", "done", "done_reason", "context", *METRICS]
    assert (line["done"], line["context"], line["eval_duration"]) == (True, [1, 2], 10)
    assert line["total_duration"] > 0


def test_generate_whole() -> None:
    writer = GenerateWriter("t", stream=False)
    assert [writer.event(Delta("te", "thought")), writer.event(Delta("xt"))] == [b"", b""]
    whole = writer.event(FINAL)
    assert not whole.endswith(b"\n")
    body = json.loads(whole)
    assert list(body)[:6] == ["model", "created_at", "response", "thinking", "done", "done_reason"]
    assert body["response"] == "text"


def test_zero_metrics_and_no_context_are_left_out() -> None:
    line = json.loads(GenerateWriter("t", stream=True).event(Final(done_reason="length", context=None)))
    assert list(line) == ["model", "created_at", "response", "done", "done_reason", "total_duration"]


def test_cached_tokens_are_reported() -> None:
    line = json.loads(
        ChatWriter("t", stream=True).event(Final(done_reason="stop", prompt_eval_count=9, prompt_eval_cached=4))
    )
    assert (line["prompt_eval_cached_count"], line["prompt_eval_cached"]) == (4, 4)


def test_what_was_left_out_of_the_prompt_is_reported() -> None:
    line = json.loads(GenerateWriter("t", stream=True).event(Final(done_reason="stop", prompt_left_out=2)))
    assert line["prompt_truncated"] == {"messages": 2}
    line = json.loads(ChatWriter("t", stream=True).event(Final(done_reason="stop", prompt_cut=7)))
    assert line["prompt_truncated"] == {"tokens": 7}


def test_generate_keeps_tool_calls_for_the_end() -> None:
    writer = GenerateWriter("t", stream=True)
    assert "tool_calls" not in json.loads(writer.event(Delta(tool_calls=CALLS)))
    assert [call["function"]["name"] for call in json.loads(writer.event(FINAL))["tool_calls"]] == ["f", "g"]


def test_chat_lines() -> None:
    line = json.loads(ChatWriter("t", stream=True).event(Delta("Hi", "hm")))
    assert list(line) == ["model", "created_at", "message", "done"]
    assert list(line["message"].items()) == [("role", "assistant"), ("content", "Hi"), ("thinking", "hm")]
    last = json.loads(ChatWriter("t", stream=True).event(FINAL))
    assert list(last) == ["model", "created_at", "message", "done", "done_reason", *METRICS]
    assert last["message"] == {"role": "assistant", "content": ""}


def test_chat_gives_each_tool_call_a_line() -> None:
    lines = ChatWriter("t", stream=True).event(Delta("text", tool_calls=CALLS)).splitlines()
    messages = [json.loads(line)["message"] for line in lines]
    assert messages[0] == {"role": "assistant", "content": "text"}
    first = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"b": 1, "a": "<"}}}
    assert messages[1]["tool_calls"] == [first]
    assert list(messages[1]["tool_calls"][0]["function"]["arguments"]) == ["b", "a"]
    assert messages[2]["tool_calls"] == [{"function": {"index": 1, "name": "g", "arguments": {}}}]


def test_chat_whole_has_all_tool_calls() -> None:
    writer = ChatWriter("t", stream=False)
    assert [writer.event(Delta(tool_calls=(call,))) for call in CALLS] == [b"", b""]
    body = json.loads(writer.event(FINAL))
    assert len(body["message"]["tool_calls"]) == 2
    assert body["message"]["content"] == ""


def test_parts_of_calls_have_no_lines() -> None:
    parts = (CallPart(0, name="f", id="call_1"),)
    for writer in (GenerateWriter("t", stream=True), ChatWriter("t", stream=True)):
        assert writer.event(Delta(call_parts=parts)) == b""
        assert json.loads(writer.event(Delta(call_parts=parts, logprobs=(HALF,))))["logprobs"] == [HALF_JSON]


def test_notices() -> None:
    load = json.loads(GenerateWriter("t", stream=True).notice("load"))
    assert list(load) == ["model", "created_at", "response", "done", "done_reason"]
    unload = json.loads(ChatWriter("t", stream=True).notice("unload"))
    assert unload["message"] == {"role": "assistant", "content": ""}
    assert (unload["done"], unload["done_reason"]) == (True, "unload")


def test_rendered() -> None:
    body = json.loads(GenerateWriter("t", stream=True).rendered(Rendered("<|im_start|>", 1)))
    assert list(body) == ["model", "created_at", "response", "done", "_debug_info"]
    assert body["_debug_info"] == {"rendered_template": "<|im_start|>", "image_count": 1}
    body = json.loads(ChatWriter("t", stream=True).rendered(Rendered("p")))
    assert (body["message"], body["done"]) == ({"role": "", "content": ""}, False)
    assert body["_debug_info"] == {"rendered_template": "p"}


def test_created_at_is_stamped_for_each_line() -> None:
    writer = ChatWriter("t", stream=True)
    stamps = []
    for _ in range(3):
        stamps.append(json.loads(writer.event(Delta("x")))["created_at"])
        time.sleep(0.001)
    assert len(set(stamps)) == 3
    assert all(stamp.endswith("Z") for stamp in stamps)


HI = TokenLogprob(b"Hi", -0.5, (TokenLogprob(b"Hi", -0.5), TokenLogprob(b"", -3.0)))
HALF = TokenLogprob(b"\xc3", -1.5)
HI_JSON = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}, {"token": "", "logprob": -3.0}],
}
HALF_JSON = {"token": "\ufffd", "logprob": -1.5, "bytes": [0xC3]}


def test_logprobs_stand_on_their_line() -> None:
    line = json.loads(GenerateWriter("t", stream=True).event(Delta("Hi", logprobs=(HI, HALF))))
    assert list(line) == ["model", "created_at", "response", "done", "logprobs"]
    assert line["logprobs"] == [HI_JSON, HALF_JSON]
    line = json.loads(ChatWriter("t", stream=True).event(Delta(logprobs=(HALF,))))
    assert (line["message"]["content"], line["logprobs"]) == ("", [HALF_JSON])
    lines = ChatWriter("t", stream=True).event(Delta(tool_calls=CALLS, logprobs=(HALF,))).splitlines()
    assert [json.loads(line).get("logprobs") for line in lines] == [[HALF_JSON], None]


def test_without_a_stream_all_logprobs_come_in_the_end() -> None:
    for writer in (GenerateWriter("t", stream=False), ChatWriter("t", stream=False)):
        assert [writer.event(Delta("Hi", logprobs=(HI,))), writer.event(Delta(logprobs=(HALF,)))] == [b"", b""]
        assert json.loads(writer.event(FINAL))["logprobs"] == [HI_JSON, HALF_JSON]
    streaming = GenerateWriter("t", stream=True)
    streaming.event(Delta("Hi", logprobs=(HI,), tool_calls=CALLS))
    assert "logprobs" not in json.loads(streaming.event(FINAL))
