"""Renders chat templates in other processes: templates come with model files, so they are programs of strangers.

A few quick processes serve everybody and keep the templates that they were sent, compiled. What takes long there is
begun anew by a slow one, which is made for this conversation alone and ends with it; what takes too long there as well
is refused. No template is in all quick processes at once, and of those that nobody knows yet there is one at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import signal
import time
from collections import Counter, deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import msgspec

from engine.api import Message, Think, Tool
from engine.chat.jinja.forkserver import DOES_NOT_START, ForkServer, Worker
from engine.chat.jinja.limits import Conduct, Limits
from engine.chat.jinja.messages import (
    LARGEST,
    ChatTemplates,
    Prompted,
    Refused,
    Render,
    encode_conversation,
    encode_frame,
    reply_decoder,
)
from engine.chat.prompt import Overstayed, Prompt, RemoteRenderer, Renderer, TemplateError
from engine.errors import EngineError, EngineStopped, ServerBusy

log = logging.getLogger("pronk.engine")

_QUICK, _SLOW = 3, 2  # processes
_EACH = 2  # quick ones that one template may be in
_WAITING = 256  # conversations that wait for a slow one
_LOSSES = 2  # times that a conversation is begun anew when all processes have ended
_KNOWN = 1024  # templates of which is remembered that a process has them
_MUCH = 1 << 18  # characters of a conversation, more or less, from which on it is not encoded on the event loop
_LATE = "chat template: it takes too long"
_HUNGRY = "chat template: it takes too much memory"
_DEADLY = "chat template: it is too complex"
_GRACE = 2.0  # seconds


@dataclass(slots=True, eq=False)
class _Job:
    """A conversation to render. `size` is its bytes, `allowance` the CPU time it may take in all."""

    number: int
    key: bytes
    templates: ChatTemplates
    conversation: msgspec.Raw
    size: int
    allowance: float
    prompt: asyncio.Future[Prompt]
    losses: int = 0

    def fail(self, error: Exception) -> None:
        """Tell whoever waits, if anybody does."""
        if not self.prompt.done():
            self.prompt.set_exception(error)


@dataclass(slots=True, eq=False)
class _Process:
    """A worker and what it is at. `known` are keys of templates that it was sent, `given` the CPU time of its job."""

    worker: Worker
    slow: bool
    known: set[bytes] = field(default_factory=set)
    job: _Job | None = None
    given: float = 0.0
    timer: asyncio.TimerHandle | None = None
    overdue: bool = False


class TemplateService:
    """Renders with the chat templates of all models. Lives on the server's event loop; `close` ends its processes.

    They start with the first conversation, or with `warm`.
    """

    def __init__(self, environ: Mapping[str, str], limits: Limits | None = None) -> None:
        self._environ = environ
        self._limits = limits or Limits()
        self._conduct = Conduct()
        self._numbers = itertools.count()
        self._lines: dict[bytes, deque[_Job]] = {}  # one for each template
        self._slow_line: deque[_Job] = deque()
        self._processes: dict[int, _Process] = {}
        self._server: ForkServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._closed = False

    def renderer(self, renderer: Renderer | ChatTemplates) -> Renderer | RemoteRenderer:
        """What renders with these templates; other renderers as they are."""
        return RemoteRenderer(partial(self.render, renderer)) if isinstance(renderer, ChatTemplates) else renderer

    async def render(
        self,
        templates: ChatTemplates,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        think: Think | None,
    ) -> Prompt:
        """The prompt for these messages, without images. Raises TemplateError, ServerBusy and EngineStopped.

        EngineError is raised if there is nothing that renders.
        """
        conversation = await _encoded(messages, tools, think)
        if self._closed:
            raise EngineStopped
        size, allowance = len(memoryview(conversation)), self._limits.allowance(len(messages) + len(tools))
        prompt: asyncio.Future[Prompt] = asyncio.get_running_loop().create_future()
        job = _Job(next(self._numbers), _key(templates), templates, conversation, size, allowance, prompt)
        self._place(job)
        self._dispatch()
        return await prompt

    def warm(self) -> None:
        """Start the processes, if they are not there yet: something is to be rendered soon."""
        if self._server is None and self._starting is None and not self._closed:
            self._starting = self._run(self._start())

    async def close(self) -> None:
        """End all processes. Whoever waits gets EngineStopped, and so does whoever comes later."""
        self._closed = True
        self._fail_all(EngineStopped())
        for process in list(self._processes.values()):
            self._dismiss(process)
        if self._starting is not None:
            self._starting.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    def _place(self, job: _Job) -> None:
        """Put a conversation in its line."""
        lane = self._conduct.lane(job.key, job.size, time.monotonic())
        if lane == "refused":
            job.fail(Overstayed(self._conduct.reason(job.key)))
        elif lane == "slow":
            self._place_slow(job)
        else:
            self._lines.setdefault(job.key, deque()).append(job)

    def _place_slow(self, job: _Job) -> None:
        if len(self._slow_line) < _WAITING:
            self._slow_line.append(job)
        else:
            job.fail(ServerBusy())

    def _dispatch(self) -> None:
        """Give all who are idle something to do."""
        if self._closed:
            return
        if self._server is None:
            self.warm()
            return
        quick = [process for process in self._processes.values() if not process.slow]
        quick += [self._fork(self._server, slow=False) for _ in range(_QUICK - len(quick))]
        for process in quick:
            if process.job is None and (job := self._next(quick)):
                self._begin(process, job)
        while job := self._next_slow():
            self._begin(self._fork(self._server, slow=True), job)

    def _next(self, quick: Sequence[_Process]) -> _Job | None:
        """Who came first of those that may be rendered by a quick process now."""
        busy = Counter(process.job.key for process in quick if process.job)
        crowded = not all(map(self._conduct.is_proven, busy))
        while lines := [
            line
            for key, line in self._lines.items()
            if busy[key] < _EACH and not (crowded and not self._conduct.is_proven(key))
        ]:
            line = min(lines, key=lambda line: line[0].number)
            job = line.popleft()
            if not line:
                del self._lines[job.key]
            if job.prompt.done():
                continue
            if self._conduct.lane(job.key, job.size, time.monotonic()) == "quick":
                return job
            self._place(job)  # it has overstayed since
        return None

    def _next_slow(self) -> _Job | None:
        """Who came first of those whose templates are in no slow process, if another of these may be forked."""
        running = [process.job.key for process in self._processes.values() if process.slow and process.job]
        if len(running) >= _SLOW:
            return None
        for job in [job for job in self._slow_line if job.key not in running]:
            self._slow_line.remove(job)
            if job.prompt.done():
                continue
            if self._conduct.lane(job.key, job.size, time.monotonic()) != "refused":
                return job
            self._place(job)
        return None

    def _fork(self, server: ForkServer, *, slow: bool) -> _Process:
        process = _Process(server.fork(self._received, slow=slow), slow)
        self._processes[process.worker.number] = process
        return process

    def _begin(self, process: _Process, job: _Job) -> None:
        """Have a conversation rendered by an idle process."""
        unknown = job.key not in process.known
        if process.slow:
            process.given = job.allowance
        else:
            process.given = self._limits.first if unknown else self._limits.quick
        if len(process.known) >= _KNOWN:
            process.known.clear()
        process.known.add(job.key)
        process.job = job
        patience = self._limits.patience + 10 * process.given
        process.timer = asyncio.get_running_loop().call_later(patience, self._give_up, process)
        render = Render(job.key, process.given, job.conversation, job.templates if unknown else None)
        process.worker.send(encode_frame(render))

    def _received(self, worker: Worker, body: bytes) -> None:
        """Called with each reply."""
        process = self._processes[worker.number]
        try:
            reply = reply_decoder.decode(body)
        except msgspec.DecodeError:
            self._kill(process)
            return
        job = self._finish(process)
        if process.slow or reply.last:
            self._dismiss(process)
        if job is None:
            self._kill(process)
            return
        if isinstance(reply, Prompted):
            self._conduct.praise(job.key, time.monotonic())
            if not job.prompt.done():
                job.prompt.set_result(Prompt(reply.text, reply.begun, reply.reject_overflow))
        else:
            self._refused(process, job, reply)
        self._dispatch()

    def _refused(self, process: _Process, job: _Job, reply: Refused) -> None:
        if reply.why == "template":
            self._conduct.praise(job.key, time.monotonic())
            job.fail(TemplateError(reply.text))
        elif reply.why == "unknown":
            process.known.discard(job.key)
            self._lines.setdefault(job.key, deque()).appendleft(job)
        elif reply.why == "defect":
            job.fail(RuntimeError(reply.text))
        elif reply.why == "memory":
            self._overstayed(job, _HUNGRY, at_last=process.slow)
        else:
            self._overstayed(job, _LATE, at_last=process.slow or process.given >= job.allowance)

    def _overstayed(self, job: _Job, reason: str, *, at_last: bool) -> None:
        """A conversation was not rendered in time; `at_last`: it had all the time that it may have."""
        now = time.monotonic()
        if at_last:
            log.warning("%s (template %s)", reason, job.key.hex()[:12])
            self._conduct.refuse(job.key, job.size, reason, now)
            job.fail(Overstayed(reason))
        else:
            self._conduct.slow(job.key, job.size, now)
            self._place_slow(job)

    def _ended(self, number: int, status: int) -> None:
        """Called when a worker has ended."""
        process = self._processes.get(number)
        if process is None:
            return  # as it should
        self._dismiss(process)
        if job := self._finish(process):
            if process.overdue or status == -signal.SIGPROF:
                had_all = process.given >= job.allowance and not process.overdue
                self._overstayed(job, _LATE, at_last=process.slow or had_all)
            else:
                log.warning("what renders chat templates has ended: %s (template %s)", status, job.key.hex()[:12])
                self._overstayed(job, _DEADLY, at_last=process.slow)
        self._dispatch()

    def _finish(self, process: _Process) -> _Job | None:
        """What a process was at, which it is no more."""
        job, process.job = process.job, None
        if process.timer is not None:
            process.timer.cancel()
        return job

    def _dismiss(self, process: _Process) -> None:
        """Let a process end, if it has not, and forget it."""
        process.worker.close()
        self._processes.pop(process.worker.number, None)

    def _give_up(self, process: _Process) -> None:
        """A process does not answer, even though it would have been killed if it had worked all the time."""
        process.overdue = True
        self._kill(process)

    def _kill(self, process: _Process) -> None:
        if self._server is not None:
            self._server.kill(process.worker)
            asyncio.get_running_loop().call_later(_GRACE, self._kill_all, self._server, process)

    def _kill_all(self, server: ForkServer, process: _Process) -> None:
        """What forks does not answer either, as long as the process is not known to have ended."""
        if process.worker.number in self._processes:
            server.kill_all()

    def _lost(self, server: ForkServer) -> None:
        """Called when what forks has ended, and with it all others."""
        if self._closed:
            return
        self._server = None
        self._run(server.close())
        self._begin_anew(EngineError("what renders chat templates ends again and again"))

    def _begin_anew(self, error: EngineError) -> None:
        """Nothing is rendered any more: try everything once more, but not for ever."""
        jobs = sorted(self._all_jobs(), key=lambda job: job.number)
        for process in list(self._processes.values()):
            self._finish(process)
            self._dismiss(process)
        self._lines.clear()
        self._slow_line.clear()
        for job in jobs:
            job.losses += 1
            if job.losses > _LOSSES:
                job.fail(error)
            else:
                self._place(job)
        if self._lines or self._slow_line:
            self._dispatch()

    def _all_jobs(self) -> Iterator[_Job]:
        yield from (process.job for process in self._processes.values() if process.job)
        yield from (job for line in (*self._lines.values(), self._slow_line) for job in line)

    async def _start(self) -> None:
        try:
            server = await ForkServer.start(self._environ, self._ended, self._lost)
        except (OSError, EngineError) as error:
            self._starting = None
            self._begin_anew(error if isinstance(error, EngineError) else EngineError(f"{DOES_NOT_START}: {error}"))
        else:
            self._server, self._starting = server, None
            self._dispatch()

    def _fail_all(self, error: Exception) -> None:
        for job in self._all_jobs():
            job.fail(error)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _encoded(messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> msgspec.Raw:
    """A conversation as it is sent. Raises TemplateError."""
    characters = sum(len(message.content) + len(message.thinking) for message in messages)
    if characters > LARGEST:
        raise Overstayed("chat template: the conversation is too long")
    try:
        if characters + 1024 * (len(messages) + len(tools)) > _MUCH:
            return await asyncio.to_thread(encode_conversation, messages, tools, think)
        return encode_conversation(messages, tools, think)
    except RecursionError:
        raise TemplateError("chat template: the tools or their arguments are too deeply nested") from None
    except ValueError as error:
        raise TemplateError(f"chat template: the conversation is no text: {error}") from None


@lru_cache(maxsize=64)
def _key(templates: ChatTemplates) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(templates)).digest()
