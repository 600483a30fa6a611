"""Renders chat templates in child processes: templates come with model files, so they are untrusted programs.

A few quick processes serve all conversations and keep compiled templates. A conversation that exceeds its budget there
starts over in a slow process, forked for it alone; if it exceeds that budget too, it is refused. No template may occupy
all quick processes, and at most one of them runs a template that has never succeeded.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import math
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
from engine.chat.jinja.limits import CircuitBreaker, RenderLimits
from engine.chat.jinja.messages import (
    LARGEST,
    ChatTemplates,
    Refused,
    Render,
    RenderedPrompt,
    encode_conversation,
    encode_frame,
    reply_decoder,
)
from engine.chat.prompt import Prompt, RemoteRenderer, Renderer, RenderError, TemplateOverBudget
from engine.errors import EngineError, EngineStopped, ServerBusy
from modelfile.operating_system import is_stopped
from modelfile.watchdog import PATIENCE, Watchdog
from registry.logfields import REQUEST_ID, fields

log = logging.getLogger("pronk.engine")

_QUICK, _SLOW = 3, 2  # processes
_PER_TEMPLATE = 2  # quick processes that one template may occupy
_WAITING = 256  # conversations that wait for a slow process
_LOSSES = 2  # restarts of a conversation after all processes have ended
_KNOWN = 1024  # templates that a process is remembered to have
_LARGE = 1 << 18  # characters, roughly; a larger conversation is encoded in a thread
_PREFIX = "chat template: "
_TOO_SLOW = f"{_PREFIX}it takes too long"
_TOO_MUCH_MEMORY = f"{_PREFIX}it takes too much memory"
_TOO_COMPLEX = f"{_PREFIX}it is too complex"
_GRACE = 2.0  # seconds


@dataclass(slots=True, eq=False)
class _Job:
    """A conversation to render: `size` in bytes, `allowance` in seconds of CPU time, the most it may ever take."""

    number: int
    key: bytes
    templates: ChatTemplates
    conversation: msgspec.Raw
    size: int
    allowance: float
    prompt: asyncio.Future[Prompt]
    losses: int = 0
    request_id: str = field(default_factory=REQUEST_ID.get)

    def log_fields(self, **values: Any) -> dict[str, Any]:
        """The `extra` of a log call about this job, which may be made in the context of another request."""
        return fields(template=self.key.hex()[:12], **values, request_id=self.request_id or None)

    def fail(self, error: Exception) -> None:
        """Raise an error where the prompt is awaited."""
        if not self.prompt.done():
            self.prompt.set_exception(error)


@dataclass(slots=True, eq=False)
class _Process:
    """A worker, the keys of the templates it was sent (`known`), and its job with that job's limit of CPU time.

    It is killed if it is `overdue`, or if a signal has `stopped` it, which its `dog` sees.
    """

    worker: Worker
    slow: bool
    known: set[bytes] = field(default_factory=set)
    job: _Job | None = None
    cpu_seconds: float = 0.0
    timer: asyncio.TimerHandle | None = None
    overdue: bool = False
    stopped: bool = False
    dog: Watchdog | None = None


class TemplateService:
    """Renders with the chat templates of all models. Lives on the server's event loop; `close` ends its processes.

    They start with the first conversation, or with `warm`. One that a signal stops for `watchdog` seconds is replaced.
    `environ` is the server's environment.
    """

    def __init__(
        self, environ: Mapping[str, str], limits: RenderLimits | None = None, watchdog: float = PATIENCE
    ) -> None:
        self._environ = environ
        self._limits = limits or RenderLimits()
        self._watchdog = watchdog
        self._watching: asyncio.Task[None] | None = None
        self._breaker = CircuitBreaker()
        self._numbers = itertools.count()
        self._queues: dict[bytes, deque[_Job]] = {}  # by template key
        self._slow_queue: deque[_Job] = deque()
        self._processes: dict[int, _Process] = {}
        self._server: ForkServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._closed = False

    def renderer(self, renderer: Renderer | ChatTemplates) -> Renderer | RemoteRenderer:
        """A renderer for chat templates; any other renderer is returned unchanged."""
        return RemoteRenderer(partial(self.render, renderer)) if isinstance(renderer, ChatTemplates) else renderer

    async def render(
        self,
        templates: ChatTemplates,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        think: Think | None,
    ) -> Prompt:
        """The prompt for these messages, without images.

        Raises RenderError, ServerBusy, EngineStopped, and EngineError if no process can be started.
        """
        started = time.perf_counter()
        conversation = await _encoded(messages, tools, think)
        if self._closed:
            raise EngineStopped
        size, allowance = len(memoryview(conversation)), self._limits.allowance(len(messages) + len(tools))
        prompt: asyncio.Future[Prompt] = asyncio.get_running_loop().create_future()
        job = _Job(next(self._numbers), _key(templates), templates, conversation, size, allowance, prompt)
        self._enqueue(job)
        self._dispatch()
        rendered = await prompt
        milliseconds = (time.perf_counter() - started) * 1e3
        log.debug("chat template rendered", extra=job.log_fields(ms=milliseconds))
        return rendered

    def warm(self) -> None:
        """Start the processes unless they run: something will be rendered soon."""
        if self._server is None and self._starting is None and not self._closed:
            self._starting = self._spawn(self._start())

    async def close(self) -> None:
        """End all processes. Requests that wait, and any that come later, get EngineStopped."""
        self._closed = True
        self._fail_all(EngineStopped())
        for process in list(self._processes.values()):
            self._forget(process)
        for task in (self._starting, self._watching):
            if task is not None:
                task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    def _enqueue(self, job: _Job) -> None:
        """Queue a job as the circuit breaker says: for quick processes, for slow ones, or not at all."""
        lane = self._breaker.lane(job.key, job.size, time.monotonic())
        if lane == "refused":
            job.fail(TemplateOverBudget(self._breaker.reason(job.key)))
        elif lane == "slow":
            self._enqueue_slow(job)
        else:
            self._queues.setdefault(job.key, deque()).append(job)

    def _enqueue_slow(self, job: _Job) -> None:
        if len(self._slow_queue) < _WAITING:
            self._slow_queue.append(job)
        else:
            job.fail(ServerBusy())

    def _dispatch(self) -> None:
        """Give every idle process a job."""
        if self._closed:
            return
        if self._server is None:
            self.warm()
            return
        if self._queues or self._slow_queue:
            self._replace_stopped(self._server)
        quick = [process for process in self._processes.values() if not process.slow]
        quick += [self._fork(self._server, slow=False) for _ in range(_QUICK - len(quick))]
        for process in quick:
            if process.job is None and (job := self._next_quick(quick)):
                self._assign(process, job)
        while job := self._next_slow():
            self._assign(self._fork(self._server, slow=True), job)

    def _replace_stopped(self, server: ForkServer) -> None:
        """Kill what a signal has stopped and has nothing to do, before it gets a job."""
        if is_stopped(server.pid):
            server.kill_all()
        for process in [process for process in self._processes.values() if process.job is None]:
            if (pid := server.pid_of(process.worker)) is not None and is_stopped(pid):
                server.kill(process.worker)
                self._forget(process)

    def _next_quick(self, quick: Sequence[_Process]) -> _Job | None:
        """The oldest job that a quick process may render now."""
        busy = Counter(process.job.key for process in quick if process.job)
        crowded = not all(map(self._breaker.is_proven, busy))
        while queues := [
            queue
            for key, queue in self._queues.items()
            if busy[key] < _PER_TEMPLATE and not (crowded and not self._breaker.is_proven(key))
        ]:
            queue = min(queues, key=lambda queue: queue[0].number)
            job = queue.popleft()
            if not queue:
                del self._queues[job.key]
            if job.prompt.done():
                continue
            if self._breaker.lane(job.key, job.size, time.monotonic()) == "quick":
                return job
            self._enqueue(job)  # its breaker has tripped meanwhile
        return None

    def _next_slow(self) -> _Job | None:
        """The oldest job whose template is in no slow process, if another one may be forked."""
        running = [process.job.key for process in self._processes.values() if process.slow and process.job]
        if len(running) >= _SLOW:
            return None
        for job in [job for job in self._slow_queue if job.key not in running]:
            self._slow_queue.remove(job)
            if job.prompt.done():
                continue
            if self._breaker.lane(job.key, job.size, time.monotonic()) != "refused":
                return job
            self._enqueue(job)
        return None

    def _fork(self, server: ForkServer, *, slow: bool) -> _Process:
        process = _Process(server.fork(self._on_reply, slow=slow), slow)
        self._processes[process.worker.number] = process
        return process

    def _assign(self, process: _Process, job: _Job) -> None:
        """Have a job rendered by an idle process."""
        unknown = job.key not in process.known
        if process.slow:
            process.cpu_seconds = job.allowance
        else:
            process.cpu_seconds = self._limits.first if unknown else self._limits.quick
        if len(process.known) >= _KNOWN:
            process.known.clear()
        process.known.add(job.key)
        process.job = job
        patience = self._limits.patience + 10 * process.cpu_seconds
        process.timer = asyncio.get_running_loop().call_later(patience, self._on_timeout, process)
        render = Render(job.key, process.cpu_seconds, job.conversation, job.templates if unknown else None)
        process.worker.send(encode_frame(render))

    def _on_reply(self, worker: Worker, body: bytes) -> None:
        """Called with each frame that a worker sends."""
        process = self._processes[worker.number]
        try:
            reply = reply_decoder.decode(body)
        except msgspec.DecodeError:
            self._kill(process)
            return
        job = self._release(process)
        if process.slow or reply.last:
            self._forget(process)
        if job is None:
            self._kill(process)
            return
        if isinstance(reply, RenderedPrompt):
            self._breaker.record_success(job.key, time.monotonic())
            if not job.prompt.done():
                job.prompt.set_result(Prompt(reply.text, reply.answer_start, reply.reject_overflow))
        else:
            self._on_refusal(process, job, reply)
        self._dispatch()

    def _on_refusal(self, process: _Process, job: _Job, reply: Refused) -> None:
        """A worker could not render: tell the requester, or try again elsewhere."""
        if reply.why == "template":
            self._breaker.record_success(job.key, time.monotonic())
            job.fail(RenderError(reply.text))
        elif reply.why == "unknown":
            process.known.discard(job.key)
            self._queues.setdefault(job.key, deque()).appendleft(job)
        elif reply.why == "defect":
            job.fail(RuntimeError(reply.text))
        elif reply.why == "memory":
            self._over_budget(job, _TOO_MUCH_MEMORY, final=process.slow)
        else:
            self._over_budget(job, _TOO_SLOW, final=process.slow or process.cpu_seconds >= job.allowance)

    def _over_budget(self, job: _Job, reason: str, *, final: bool) -> None:
        """A job exceeded its budget; `final`: that was the largest there is."""
        now = time.monotonic()
        if final:
            log.warning("chat template refused", extra=job.log_fields(reason=reason.removeprefix(_PREFIX)))
            self._breaker.trip_refused(job.key, job.size, reason, now)
            job.fail(TemplateOverBudget(reason))
        else:
            log.debug("chat template takes long: rendered again at length", extra=job.log_fields())
            self._breaker.trip_slow(job.key, job.size, now)
            self._enqueue_slow(job)

    def _on_worker_exit(self, number: int, status: int) -> None:
        """Called when a worker has ended, with its exit code or minus its signal."""
        process = self._processes.get(number)
        if process is None:
            return  # expected
        self._forget(process)
        if job := self._release(process):
            if process.stopped:
                self._retry(job, EngineError("chat template renderer is stopped again and again"))
            elif process.overdue or status == -signal.SIGPROF:
                had_all = process.cpu_seconds >= job.allowance and not process.overdue
                self._over_budget(job, _TOO_SLOW, final=process.slow or had_all)
            else:
                log.warning("chat template renderer died", extra=job.log_fields(status=status))
                self._over_budget(job, _TOO_COMPLEX, final=process.slow)
        self._dispatch()

    def _release(self, process: _Process) -> _Job | None:
        """Take its job from a process and stop the timer."""
        job, process.job = process.job, None
        if process.timer is not None:
            process.timer.cancel()
        return job

    def _forget(self, process: _Process) -> None:
        """Let a process end, if it has not, and forget it."""
        process.worker.close()
        self._processes.pop(process.worker.number, None)

    def _on_timeout(self, process: _Process) -> None:
        """Wall-clock limit exceeded: the worker waits without using CPU, so its CPU limit does not end it."""
        process.overdue = True
        self._kill(process)

    def _kill(self, process: _Process) -> None:
        if self._server is not None:
            self._server.kill(process.worker)
            asyncio.get_running_loop().call_later(_GRACE, self._kill_all, self._server, process)

    def _kill_all(self, server: ForkServer, process: _Process) -> None:
        """The fork server did not kill the process either: kill the whole group."""
        if process.worker.number in self._processes:
            server.kill_all()

    def _on_fork_server_exit(self, server: ForkServer) -> None:
        """Called when the fork server has ended, and all workers with it."""
        if self._closed:
            return
        self._server = None
        self._spawn(server.close())
        self._retry_all(EngineError("chat template renderer keeps dying"))

    def _retry_all(self, error: EngineError) -> None:
        """Queue all jobs once more after the processes have ended; those that lost them too often fail with `error`."""
        jobs = sorted(self._all_jobs(), key=lambda job: job.number)
        for process in list(self._processes.values()):
            self._release(process)
            self._forget(process)
        self._queues.clear()
        self._slow_queue.clear()
        for job in jobs:
            self._retry(job, error)
        if self._queues or self._slow_queue:
            self._dispatch()

    def _retry(self, job: _Job, error: EngineError) -> None:
        """Queue a job once more that has lost its process; it fails with `error` if that happens too often."""
        job.losses += 1
        if job.losses > _LOSSES:
            job.fail(error)
        else:
            self._enqueue(job)

    def _all_jobs(self) -> Iterator[_Job]:
        yield from (process.job for process in self._processes.values() if process.job)
        yield from (job for queue in (*self._queues.values(), self._slow_queue) for job in queue)

    async def _start(self) -> None:
        try:
            server = await ForkServer.start(
                self._environ, self._on_worker_exit, self._on_fork_server_exit, self._watchdog
            )
        except (OSError, EngineError) as error:
            self._starting = None
            self._retry_all(error if isinstance(error, EngineError) else EngineError(f"{DOES_NOT_START}: {error}"))
        else:
            self._server, self._starting = server, None
            if not math.isinf(self._watchdog):
                self._watching = self._spawn(self._watch(server))
            self._dispatch()

    async def _watch(self, server: ForkServer) -> None:
        """Kill processes that a signal has stopped: workers that have a job, or all, if it is the fork server."""
        dog = Watchdog(server.pid, self._watchdog)
        while server is self._server:
            await asyncio.sleep(dog.interval)
            busy = [process for process in self._processes.values() if process.job and not process.stopped]
            if dog.look(heard=not busy):
                server.kill_all()
                return
            for process in busy:
                if process.dog is None and (pid := server.pid_of(process.worker)) is not None:
                    process.dog = Watchdog(pid, self._watchdog)
                if process.dog is not None and process.dog.look():
                    process.stopped = True
                    self._kill(process)

    def _fail_all(self, error: Exception) -> None:
        for job in self._all_jobs():
            job.fail(error)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task that `close` waits for."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _encoded(messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> msgspec.Raw:
    """A conversation as it is sent to a worker. Raises RenderError.

    It is encoded in a thread if it may be large; tools always, for one may have any number of parameters.
    """
    characters = sum(len(message.content) + len(message.thinking) for message in messages)
    if characters > LARGEST:
        raise TemplateOverBudget("chat template: the conversation is too long")
    try:
        if tools or characters + 1024 * len(messages) > _LARGE:
            return await asyncio.to_thread(encode_conversation, messages, tools, think)
        return encode_conversation(messages, tools, think)
    except RecursionError:
        raise RenderError("chat template: the tools or their arguments are too deeply nested") from None
    except ValueError as error:
        raise RenderError(f"chat template: the conversation is no text: {error}") from None


@lru_cache(maxsize=64)
def _key(templates: ChatTemplates) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(templates)).digest()
