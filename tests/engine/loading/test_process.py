"""Real children: what they answer, how they end, and what is left of them."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from bench.endless import make_endless
from engine.errors import ContextExceeded, EngineError, InvalidRequest, LoadCrashed, LoadFailed, RunnerDied
from engine.loading import token_stream
from engine.loading.process import RunnerProcess
from engine.loading.token_stream import TokenStream
from engine.messages import Done, Ping, Sampling
from engine.runner.repacking import copied_types
from engine.spawn import child_environment
from engine.stats import Stats
from registry.logfields import REQUEST_ID
from tests.engine.runner.harness import TINYCHAT, chat, load, submit

ENDLESS = submit(
    chat("Tell me a story."), num_predict=-1, sampling=Sampling(seed=1, temperature=2.0, top_k=0, top_p=1.0)
)
LONG_PROMPT = submit("The cat sat on the mat. " * 115, num_predict=4)  # some 920 tokens


@pytest.fixture
async def spare() -> AsyncIterator[RunnerProcess]:
    """A child that has no model yet."""
    process = await RunnerProcess.spawn(os.environ, patience=30)
    yield process
    await process.close()


@pytest.fixture
async def process(spare: RunnerProcess) -> RunnerProcess:
    """A child with the bundled model."""
    await spare.load(load(), math.inf)
    return spare


async def test_the_log_of_a_child_is_written_here(caplog: pytest.LogCaptureFixture) -> None:
    process = await RunnerProcess.spawn({**os.environ, "PRONK_RUNNER_LOG": "debug"})
    process.model = "tiny"
    token = REQUEST_ID.set("abc")
    try:
        await process.load(load(), math.inf)
        _, done = await whole(process.submit(submit(chat("Count to 5"), num_predict=3))[1])
        for _ in range(1000):  # it comes after the answer
            if "sequence ended" in caplog.messages:
                break
            await asyncio.sleep(0.01)
    finally:
        REQUEST_ID.reset(token)
        await process.close()
    lines = [record for record in caplog.records if record.name == "pronk.runner"]
    assert {record.levelname for record in lines} == {"DEBUG"}
    assert any(record.getMessage().startswith("llama.cpp: ") for record in lines)
    written = {record.getMessage(): vars(record)["fields"] for record in lines}
    for message in ("request prepared", "sequence queued", "sequence admitted", "sequence ended"):
        values = written[message]
        assert (values["pid"], values["model"], values["request_id"]) == (process.pid, "tiny", "abc")
    assert written["sequence ended"]["tokens"] == done.tokens
    assert written["context made"]["request_id"] is None


async def test_the_traceback_of_a_defect_is_in_the_log(spare: RunnerProcess, caplog: pytest.LogCaptureFixture) -> None:
    spare._send(Ping(1))  # not what it waits for
    await spare.exited.wait()
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("CRITICAL", "runner failed")
    assert (record.exc_text or "").endswith("TypeError: expected Load, got Ping")
    assert spare.ending


async def whole(answer: TokenStream) -> tuple[str, Done]:
    """All that a request is answered."""
    texts, done = [], None
    while done is None:
        chunks, done = await answer.read()
        texts += [chunk.text for chunk in chunks]
    return "".join(texts), done


async def begun(process: RunnerProcess, count: int = 1) -> list[TokenStream]:
    """Endless answers of which the first text has come."""
    answers = [process.submit(ENDLESS)[1] for _ in range(count)]
    for answer in answers:
        await answer.read()
    return answers


async def failure(answer: TokenStream) -> EngineError:
    with pytest.raises(EngineError) as failed:
        await whole(answer)
    return failed.value


def gone(pid: int) -> bool:
    """Whether there is no such process any more, not even as a zombie."""
    return not psutil.pid_exists(pid)


def await_end(pids: list[int]) -> None:
    """Wait until orphans have ended, as killed ones do soon."""
    deadline = time.monotonic() + 10
    while not all(_ended(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process outlives its parent"
        time.sleep(0.01)


async def test_it_says_hello_and_what_it_can(spare: RunnerProcess) -> None:
    await spare.greeted.wait()
    assert spare.alive
    assert spare.copied_types == frozenset(copied_types())


async def test_it_answers(process: RunnerProcess) -> None:
    assert process.weights_loaded == 1
    _, answer = process.submit(submit(chat("What is the capital of France?")))
    text, done = await whole(answer)
    assert text == "The capital of France is Paris."
    assert (done.reason, done.tokens) == ("stop", 8)
    tokens = await process.tokenize("Hello there")
    assert await process.detokenize(tokens) == "Hello there"
    with pytest.raises(ContextExceeded, match="exceeds the available context size"):
        await whole(process.submit(msgspec.structs.replace(submit("word " * 2000), overflow="reject"))[1])


async def test_it_tells_what_it_does_while_it_computes(process: RunnerProcess) -> None:
    assert process.stats == Stats()
    await begun(process, 2)
    async with asyncio.timeout(60):
        while not process.stats.steps:  # noqa: ASYNC110 - it tells within a second
            await asyncio.sleep(0.01)
    stats = process.stats
    assert stats.batch in (1, 2)
    assert 0 < stats.cells_used <= stats.cells
    assert 0 < stats.steps < stats.prompt_tokens + stats.generated_tokens


async def test_an_answer_that_nobody_reads_rests(
    spare: RunnerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_stream, "MOST_UNREAD", 10_000)
    path, process = tmp_path / "endless.gguf", spare
    path.write_bytes(make_endless(TINYCHAT))
    await process.load(load(path=str(path)), math.inf)
    id, answer = process.submit(submit("Write a story.", num_predict=-1, sampling=Sampling(seed=1, temperature=1.0)))
    async with asyncio.timeout(60):
        while process.stats.busy or not process.stats.running:  # noqa: ASYNC110 - it tells each second
            await asyncio.sleep(0.01)
    assert not answer.ended
    _, other = process.submit(submit("Another story.", num_predict=5))
    assert (await whole(other))[1].tokens == 5
    for _ in range(2):  # what has come, then more
        chunks, done = await answer.read()
        assert chunks
        assert done is None
    process.cancel(id)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_child_that_dies_fails_everybody_in_it_and_is_reaped(process: RunnerProcess, how: int) -> None:
    answers = await begun(process, 3)
    question = asyncio.create_task(process.tokenize("x" * 1_000_000))
    await asyncio.sleep(0)
    os.kill(process.pid, how)
    for answer in answers:
        error = await failure(answer)
        assert isinstance(error, RunnerDied)
        assert signal.Signals(how).name in str(error)
    with pytest.raises(RunnerDied):
        await question
    await process.exited.wait()
    assert not process.alive
    assert gone(process.pid)
    error = await failure(process.submit(ENDLESS)[1])
    assert isinstance(error, RunnerDied)
    assert signal.Signals(how).name in str(error)
    with pytest.raises(RunnerDied, match=signal.Signals(how).name):
        await process.ping()


async def test_a_child_that_dies_before_it_is_given_a_prompt_says_of_what(process: RunnerProcess) -> None:
    os.kill(process.pid, signal.SIGSEGV)
    await process._disconnected.wait()  # and the process is not buried yet
    at_once = process.submit(ENDLESS)[1], asyncio.create_task(process.ping())
    await process.exited.wait()
    later = process.submit(ENDLESS)[1], asyncio.create_task(process.tokenize("x"))
    message = r"it died of SIGSEGV \(Segmentation fault\) on .+: `pronk doctor` tests"
    for answer, question in (at_once, later):
        with pytest.raises(RunnerDied, match=message):
            await asyncio.wait_for(answer.read(), 60)
        with pytest.raises(RunnerDied, match=message):
            await asyncio.wait_for(question, 60)


async def test_a_child_that_hangs_is_found_out_and_killed() -> None:
    process = await RunnerProcess.spawn(os.environ, patience=0.3)
    await process.load(load(), math.inf)
    (answer,) = await begun(process)
    os.kill(process.pid, signal.SIGSTOP)
    assert "no sign of life for 0.3 s" in str(await failure(answer))
    await process.exited.wait()
    assert process.hung
    assert gone(process.pid)
    await process.close()


async def test_a_child_that_is_stopped_is_of_no_use_and_ends_also_without_a_model(spare: RunnerProcess) -> None:
    await spare.greeted.wait()
    assert spare.usable
    os.kill(spare.pid, signal.SIGSTOP)
    while spare.usable:  # noqa: ASYNC110 - until the signal has arrived
        await asyncio.sleep(0.01)
    watched = await RunnerProcess.spawn(os.environ, patience=0.3)
    os.kill(watched.pid, signal.SIGSTOP)
    with pytest.raises(LoadFailed, match="no sign of life"):
        await watched.load(load(), math.inf)
    assert watched.hung
    await watched.exited.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="it finds its socket in /proc")
async def test_a_child_that_computes_and_cannot_answer_lives(tmp_path: Path) -> None:
    """Its only core is busy in one thread, which keeps the interpreter's lock, for longer than the patience."""
    lines = [
        "import pathlib, threading, time",
        "here = pathlib.Path(__file__)",
        "def work():",
        "    while not here.with_name('go').exists(): time.sleep(0.01)",
        "    started = time.monotonic()",
        "    while time.monotonic() < started + 1.5: sorted(range(3000000), key=abs)",
        "    here.with_name('done').touch()",
        "threading.Thread(target=work, daemon=True).start()",
        "import sys; sys.setswitchinterval(100)",
    ]
    (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
    process = await RunnerProcess.spawn({**os.environ, "PYTHONPATH": str(tmp_path)}, patience=0.3)
    await process.load(load(), math.inf)
    (tmp_path / "go").touch()
    while not (tmp_path / "done").exists():
        assert process.alive
        await asyncio.sleep(0.01)
    assert await process.tokenize("Hello")
    await process.close()


async def test_a_child_that_reads_no_more_does_not_keep_us_from_closing(process: RunnerProcess) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    question = asyncio.create_task(process.tokenize("x" * (32 << 20)))
    await asyncio.sleep(0)
    await process.close()
    assert gone(process.pid)
    with pytest.raises(RunnerDied):
        await question


async def started_oddly(tmp_path: Path, first_line: str) -> RunnerProcess:
    """A child that does this first, while its end of the socket is open; `fd` is that."""
    lines = ["import os, pathlib, time", "fd = int(pathlib.Path('/proc/self/cmdline').read_text().split(chr(0))[-2])"]
    (tmp_path / "sitecustomize.py").write_text("\n".join([*lines, first_line]))
    return await RunnerProcess.spawn({**os.environ, "PYTHONPATH": str(tmp_path)})


@pytest.mark.skipif(sys.platform != "linux", reason="it finds its socket in /proc")
async def test_what_a_child_has_forked_neither_hides_its_end_nor_outlives_it(tmp_path: Path) -> None:
    process = await started_oddly(tmp_path, "if not os.fork(): time.sleep(600)")
    await process.load(load(), math.inf)
    (answer,) = await begun(process)
    (fork,) = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGABRT)
    assert isinstance(await failure(answer), RunnerDied)
    await process.exited.wait()
    await_end([fork.pid])


@pytest.mark.skipif(sys.platform != "linux", reason="it finds its socket in /proc")
async def test_a_child_that_closes_its_socket_and_lives_on_is_killed(tmp_path: Path) -> None:
    process = await started_oddly(tmp_path, "os.close(fd); time.sleep(600)")
    with pytest.raises(LoadFailed, match="has terminated"):
        await process.load(load(), math.inf)
    await process.exited.wait()
    assert gone(process.pid)


async def test_a_defect_of_the_child_is_said_and_ends_it(process: RunnerProcess) -> None:
    (answer,) = await begun(process)
    transport = process._transport
    assert transport is not None
    transport.write(b"\x02\0\0\0\xc1\xc1")  # no message: what the child does not expect, as any defect
    error = await failure(answer)
    assert isinstance(error, RunnerDied)
    assert str(error).endswith("internal error: DecodeError")
    await process.exited.wait()


async def test_it_goes_by_itself_in_the_middle_of_a_prompt_when_it_is_closed(process: RunnerProcess) -> None:
    _, answer = process.submit(LONG_PROMPT)
    await process.ping()
    await process.close()
    assert process._process is not None
    assert process._process.returncode == 0
    assert gone(process.pid)
    assert answer.ended
    await process.close()


async def test_a_load_that_fails_says_why_and_not_where(spare: RunnerProcess, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed) as failed:
        await spare.load(load(path=str(tmp_path / "secret.gguf")), math.inf)
    assert str(failed.value).startswith("failed to load model")
    assert str(tmp_path) not in str(failed.value)


async def test_a_child_that_dies_while_loading_fails_the_load(spare: RunnerProcess) -> None:
    loading = asyncio.create_task(spare.load(load(), math.inf))
    await asyncio.sleep(0)
    spare.kill()
    with pytest.raises(LoadFailed, match="has terminated"):
        await loading
    with pytest.raises(LoadFailed, match="has terminated"):
        await spare.load(load(), math.inf)


async def test_a_child_that_goes_wrong_while_loading_says_of_what_it_died(spare: RunnerProcess) -> None:
    await spare.greeted.wait()
    os.kill(spare.pid, signal.SIGSTOP)
    loading = asyncio.create_task(spare.load(load(), math.inf))
    await asyncio.sleep(0)
    os.kill(spare.pid, signal.SIGILL)
    with suppress(ProcessLookupError):  # it may not have been stopped yet, and is gone
        os.kill(spare.pid, signal.SIGCONT)
    with pytest.raises(LoadCrashed, match=r"it died of SIGILL \(Illegal instruction\) on .+: .* `make engine`"):
        await loading


async def test_a_child_that_went_wrong_before_its_load_says_so_too(spare: RunnerProcess) -> None:
    os.kill(spare.pid, signal.SIGSEGV)
    await spare.exited.wait()
    with pytest.raises(LoadCrashed, match=r"the process had ended before: it died of SIGSEGV"):
        await spare.load(load(), math.inf)


async def test_a_load_without_progress_times_out(spare: RunnerProcess) -> None:
    os.kill(spare.pid, signal.SIGSTOP)
    with pytest.raises(LoadFailed, match="timed out"):
        await spare.load(load(), 0.1)


async def test_a_thousand_cancels_leave_nothing(process: RunnerProcess) -> None:
    fds, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    for _ in range(100):
        for id, _ in [process.submit(ENDLESS if i % 3 else LONG_PROMPT) for i in range(10)]:
            process.cancel(id)
            process.cancel(id)
        await asyncio.sleep(0)
    text, _ = await whole(process.submit(submit(chat("What is the capital of France?")))[1])
    assert text == "The capital of France is Paris."
    pong = await process.ping()
    assert (pong.running, pong.waiting) == (0, 0)
    assert not process._streams
    assert not process._replies
    assert (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())) == (fds, tasks)


async def test_a_cancel_ends_a_running_answer(process: RunnerProcess) -> None:
    id, answer = process.submit(ENDLESS)
    await answer.read()
    process.cancel(id)
    while (await process.ping()).running:
        pass
    steps = (await process.ping()).steps
    await asyncio.sleep(0.05)
    assert (await process.ping()).steps == steps


HOSTILE: list[dict[str, Any]] = [
    {"num_ctx": -1},
    {"num_ctx": 2**62, "num_predict": 2},
    {"num_keep": -(2**62)},
    {"prompt": ""},
    {"prompt": "\0<|im_end|>" * 50, "num_predict": 2},
    {"stop": ("",) * 1000 + ("x" * 10_000,), "num_predict": 2},
    {"sampling": Sampling(temperature=math.nan), "num_predict": 2},
    {"sampling": Sampling(temperature=math.inf, seed=-(2**62)), "num_predict": 2},
    {"sampling": Sampling(temperature=-5.0, top_k=-(2**40)), "num_predict": 2},
    {"sampling": Sampling(top_p=math.nan, min_p=math.nan, typical_p=math.nan), "num_predict": 2},
    {"sampling": Sampling(repeat_penalty=0.0, repeat_last_n=2**40), "num_predict": 2},
    {"sampling": Sampling(frequency_penalty=math.inf, presence_penalty=-math.inf), "num_predict": 2},
    {"sampling": Sampling(mirostat=7, mirostat_tau=math.nan), "num_predict": 2},
    {"sampling": Sampling(mirostat=1, mirostat_tau=math.inf, mirostat_eta=math.nan), "num_predict": 4},
    {"sampling": Sampling(mirostat=2, mirostat_tau=-1e30), "num_predict": 4},
    {"sampling": Sampling(logit_bias=((2**40, 1.0), (-5, 1.0), (3, math.inf))), "num_predict": 2},
    {"sampling": Sampling(dry_multiplier=1e30, dry_base=0.0, dry_penalty_last_n=2**40), "num_predict": 2},
    {"sampling": Sampling(dry_multiplier=1.0, dry_sequence_breakers=("",) * 500), "num_predict": 2},
    {"sampling": Sampling(xtc_probability=math.nan, xtc_threshold=-1.0, top_n_sigma=math.inf), "num_predict": 2},
    {"sampling": Sampling(dynatemp_range=math.inf, dynatemp_exponent=math.nan), "num_predict": 2},
]


async def test_no_request_can_crash_a_child(process: RunnerProcess) -> None:
    for wishes in HOSTILE:
        fields = {"prompt": chat("Hello!"), **wishes}
        _, answer = process.submit(submit(fields.pop("prompt"), **fields))
        try:
            await whole(answer)
        except RunnerDied as error:
            pytest.fail(f"{wishes}: {error}")
        except EngineError:
            pass
    assert (await process.ping()).running == 0


async def test_a_frame_that_is_too_long_is_no_message(process: RunnerProcess) -> None:
    (answer,) = await begun(process)
    process.data_received(b"\xff\xff\xff\xff")
    assert "no message" in str(await failure(answer))


async def test_what_cannot_be_read_is_no_message(process: RunnerProcess) -> None:
    (answer,) = await begun(process)
    process.data_received(b"\x01\0\0\0\xc1")
    assert "no message" in str(await failure(answer))


async def test_a_request_that_is_too_large_fails_alone(process: RunnerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    (answer,) = await begun(process)
    monkeypatch.setattr("engine.loading.process.MAX_FRAME", 1000)
    with pytest.raises(InvalidRequest, match="too large"):
        await process.tokenize("x" * 1000)
    assert isinstance(await failure(process.submit(submit("x" * 1000))[1]), InvalidRequest)
    assert (await process.ping()).running == 1
    assert not answer.ended
    assert await process.detokenize([-1, 1 << 70]) == ""


async def test_the_environment_is_scrubbed(process: RunnerProcess) -> None:
    environ = {
        "PATH": "/bin",
        "AWS_SECRET": "x",
        "HTTPS_PROXY": "x",
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "2",
    }
    child = child_environment(environ)
    assert {"PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTHONPATH"} <= child.keys()
    assert not child.keys() & {"AWS_SECRET", "HTTPS_PROXY"}
    own = Path(child["PYTHONPATH"].split(os.pathsep)[0])
    assert (own / "engine" / "spawn.py").is_file(), "a child has the server's own code"
    assert child["GGML_NO_BACKTRACE"] == "1", "a failed assertion ends a child at once"
    running = psutil.Process(process.pid)
    assert running.environ().keys() <= child_environment(os.environ).keys() | {"LC_CTYPE"}
    assert running.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert os.getsid(process.pid) == process.pid


PARENT = f"""
import asyncio, math, os, sys
from engine.loading.process import RunnerProcess
from tests.engine.runner.harness import load
from tests.engine.loading.test_process import ENDLESS, LONG_PROMPT

async def main():
    spare = await RunnerProcess.spawn(os.environ)
    process = await RunnerProcess.spawn(os.environ)
    await process.load(load(path={str(TINYCHAT)!r}), math.inf)
    await process.submit(ENDLESS)[1].read()
    for _ in range(8):
        process.submit(LONG_PROMPT)
    print(spare.pid, process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


WITHOUT_STREAMS = """
import asyncio, math, os

async def main():
    from engine.loading.process import RunnerProcess
    from tests.engine.runner.harness import load
    for number in range(3):
        os.close(number)
    process = await RunnerProcess.spawn(os.environ)
    await process.load(load(), math.inf)
    await process.close()

asyncio.run(main())
"""


def test_a_child_does_not_lose_its_socket_to_a_standard_stream() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_STREAMS], check=True, timeout=60)


def test_no_child_outlives_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await_end(pids)


def _ended(pid: int) -> bool:
    """Whether an orphan has ended; who reaps it here is not ours to say."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
