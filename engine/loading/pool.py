"""Carries out the scheduler's decisions: starts and ends child processes, with the real clock and timers."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric

from engine import selftest
from engine.api import LoadingModel, LoadPlan, ModelLoading, Progress, Queued, RunningModel
from engine.errors import EngineError, EngineStopped, LoadFailed, ModelReplaced, OutOfMemory, RunnerDied, ServerBusy
from engine.loading import devices, lean, shortage
from engine.loading.charge import total
from engine.loading.config import PoolConfig
from engine.loading.crashes import LoadCrashes
from engine.loading.deaths import TOLD, Deaths
from engine.loading.derivations import Weights
from engine.loading.devices import Device
from engine.loading.gauges import ModelState, PoolState, gauges
from engine.loading.lease import Lease
from engine.loading.ledger import Ledger
from engine.loading.load_attempt import LoadAttempt, weights_digest
from engine.loading.loaded_model import LoadedModel, shown_plan
from engine.loading.memory import MemoryPlan
from engine.loading.planner import LoadPlanner
from engine.loading.process import RunnerProcess
from engine.loading.scheduler import Scheduler
from engine.loading.spare import SpareProcess
from engine.loading.state import (
    AbortLoad,
    Action,
    Grant,
    Grown,
    LoadSpec,
    Refusal,
    Refuse,
    Resize,
    StartLoad,
    State,
    Unload,
)
from engine.loading.state_folder import StateFolder, open_folder
from engine.metrics import EngineMetrics
from engine.model import Model
from engine.progress import INTERVAL, Watch
from engine.selftest import SelfTest
from engine.spawn import child_environment
from engine.unloading import UnloadReason
from registry.logfields import REQUEST_ID, fields

LOADED_PER_DEVICE = 3  # models, unless the configuration says how many
MOST_LOADS = 4  # side by side; a load keeps one core busy, or a disk
LONG_LOAD = 1 << 30  # bytes; the log tells of such a load when it begins
SPARE_DELAY = 2.0  # seconds from the end of a load to the start of the next spare process
UNLOAD_PATIENCE = 5.0  # seconds that a model which is unloaded has to write what is not on disk yet,
STOP_PATIENCE = 3.0  # and all models where the server stops
log = logging.getLogger("pronk.engine")


class RunnerPool:
    """The child processes of all loaded models. Owned by the event loop; `start` before and `stop` after all else.

    One spare process has the library imported already, which the next load then need not wait for.
    """

    def __init__(self, config: PoolConfig, metrics: EngineMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self._planner = LoadPlanner(config.limits, config.environ)
        self._ledger = Ledger.of(self._planner.host, (), 0)
        self._scheduler = Scheduler(config.max_loaded_models, config.max_queue, None)
        self._tickets = itertools.count(1)
        self._waiters: dict[int, asyncio.Future[RunnerProcess]] = {}
        self._growing: dict[int, asyncio.Future[int]] = {}  # by ticket: who waits for more context
        self._requested: dict[str, tuple[Model, Weights]] = {}  # by key: the latest request's, which a load takes
        self._loaded: dict[str, LoadedModel] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._attempts: dict[str, LoadAttempt] = {}  # by key, of the loads
        self._places: dict[int, int] = {}  # by ticket, as the scheduler told them
        self._places_told = -math.inf  # then
        self._planning = asyncio.Lock()  # each plan knows what the ones before have reserved
        self._tasks: set[asyncio.Task[None]] = set()
        self._leases: dict[int, tuple[str, Lease]] = {}  # by ticket, with the model's key
        self._reader_watch: asyncio.Task[None] | None = None
        self._spare = SpareProcess(config.environ, config.watchdog, config.load_timeout, self._greeted)
        self._timer: asyncio.TimerHandle | None = None
        self._crashes = LoadCrashes(self._run_self_test)
        self._deaths = Deaths()
        self._told_containment = False
        self._states: StateFolder | None = None
        self.stopping = False

    @property
    def host(self) -> Device:
        """This machine's own memory as it was at the start."""
        return self._planner.host

    @property
    def gpus(self) -> Sequence[Device]:
        """The GPUs as they were at the start."""
        return self._planner.gpus

    async def start(self) -> None:
        """Look at the machine and start the spare process."""
        await self._planner.start()
        config = self._config
        if config.disk_cache is not None:
            self._states = await asyncio.to_thread(open_folder, *config.disk_cache)
            self._spare.keep_states = self._states is not None
        max_loaded = config.max_loaded_models or LOADED_PER_DEVICE * max(1, len(self.gpus))
        max_loads = min(devices.usable_processors(), MOST_LOADS)
        self._ledger = Ledger.of(self._planner.host, self.gpus, config.gpu_overhead)
        self._scheduler = Scheduler(max_loaded, config.max_queue, self._ledger.budget, max_loads)
        self._spare.prepare()
        if config.replaces_values:
            values = {"asked": config.kv_cache_type, "keys": config.limits.types.keys, "values": "f16"}
            log.warning("quantised values in the KV cache need flash attention, which is off", extra=fields(**values))
        if not math.isinf(config.unread_timeout):
            self._reader_watch = asyncio.create_task(self._watch_readers())

    async def stop(self) -> None:
        """End all processes. Requests that wait get EngineStopped."""
        self.stopping = True
        if self._reader_watch is not None:
            self._reader_watch.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters.values():
            _fail(waiter, EngineStopped())
        for growing in self._growing.values():
            _fail(growing, EngineStopped())
        for load in self._loads.values():
            load.cancel()
        await asyncio.gather(*self._loads.values(), return_exceptions=True)
        processes = [loaded.process for loaded in self._loaded.values()]
        await asyncio.gather(*(process.write_states(STOP_PATIENCE) for process in processes))
        for loaded in self._loaded.values():
            self._tell_unload(loaded, UnloadReason.SERVER_STOPS)
        self._loaded.clear()
        # The spare one only now: a load that was given up puts it back.
        await asyncio.gather(self._spare.close(), *(process.close() for process in processes))
        await self._crashes.close()
        await asyncio.gather(*self._tasks)
        if self._states is not None:
            self._states.close()

    @asynccontextmanager
    async def lease(
        self,
        model: Model,
        weights: Weights,
        spec: LoadSpec,
        keep_alive: float | None,
        most_ctx: int = 0,
        *,
        embeds: bool = False,
        watch: Watch,
    ) -> AsyncIterator[Lease]:
        """A process with this model loaded, while the context lasts.

        `keep_alive` in seconds; None leaves a loaded model's as it is. `most_ctx`: tokens to which the request's
        context may grow. `embeds`: for vectors, which may take memory that the model does not take yet. `watch` shows
        the request's place in the queue and its model's load. Raises LoadFailed, ServerBusy, EngineStopped, GGUFError
        or OSError; ModelReplaced if the model's files have gone, as when it is created anew while the request waits.
        """
        self._lose_useless(spec.key)
        if not self._scheduler.can_run(spec, time.monotonic()):
            spec = await self._with_needs(model, weights, spec, embeds=embeds)
        spec = replace(spec, trace_id=REQUEST_ID.get())
        if self.stopping:
            raise EngineStopped
        ticket = next(self._tickets)
        waiter: asyncio.Future[RunnerProcess] = asyncio.get_running_loop().create_future()
        self._waiters[ticket] = waiter
        self._requested[spec.key] = model, weights
        asked = time.monotonic()
        watch.look = partial(self._whereabouts, ticket, spec.key)
        log.debug("model requested", extra=fields(model=model.name.shortest, ticket=ticket, context=spec.num_ctx))
        try:
            default = self._config.keep_alive
            self._apply(self._scheduler.request(ticket, spec, keep_alive, default, time.monotonic()))
            try:
                process = await waiter
            except EngineError as error:
                log.debug("request refused", extra=fields(ticket=ticket, reason=str(error)))
                if isinstance(error, LoadFailed) and await asyncio.to_thread(_files_missing, weights, spec):
                    raise ModelReplaced(str(error)) from None
                raise
            waited = time.monotonic() - asked
            log.debug("model granted", extra=fields(ticket=ticket, pid=process.pid, waited_ms=waited * 1e3))
            self._warn_of_placement(spec)
            if embeds:
                self._count_embedding(spec.key)
            loaded = self._loaded[spec.key]
            loaded.asked_as(model)
            num_ctx = min(spec.num_ctx, loaded.num_ctx) if spec.num_ctx_auto else spec.num_ctx
            lease = Lease(process, num_ctx, max(most_ctx, num_ctx), partial(self._grow, ticket), waited, watch)
            self._leases[ticket] = spec.key, lease
            yield lease
        finally:
            self._leases.pop(ticket, None)
            self._waiters.pop(ticket, None)
            self._growing.pop(ticket, None)
            log.debug("model released", extra=fields(ticket=ticket))
            self._apply(self._scheduler.finished(ticket, time.monotonic()))

    def _whereabouts(self, ticket: int, key: str) -> Progress | None:
        """Where in the queue a request is, or how far the load that it waits for; None if it waits for neither.

        Places are worked out a few times a second, however many ask.
        """
        waiter, now = self._waiters.get(ticket), time.monotonic()
        if waiter is None or waiter.done():
            return None
        if now >= self._places_told + INTERVAL:
            self._places, self._places_told = self._scheduler.places(), now
        place = self._places.get(ticket)
        if place is None:
            return None
        attempt = self._attempts.get(key)
        return Queued(place) if place else ModelLoading(0.0 if attempt is None else attempt.weights_loaded)

    def _lose_useless(self, key: str) -> None:
        """Forget a model whose process is of no use any more, so that a request for it starts another.

        One that has ended may not have been reaped yet. One that a signal has stopped may go on: it is given up only if
        nothing runs in it; else its watchdog decides.
        """
        loaded = self._loaded.get(key)
        if loaded is None or loaded.process.usable or not self._scheduler.is_ready(key):
            return
        if loaded.process.alive:
            if not self._scheduler.is_ready(key, idle=True):
                return
            loaded.process.give_up("it was stopped while it had nothing to do")
        self._lose(key, loaded)

    def _lose(self, key: str, loaded: LoadedModel) -> None:
        """A model's process has ended by itself."""
        loaded.lost = True
        del self._loaded[key]
        self._apply(self._scheduler.crashed(key, time.monotonic()))

    async def _watch_readers(self) -> None:
        """Give up answers of which nothing is read any more, if others wait for their places."""
        timeout = self._config.unread_timeout
        while True:
            await asyncio.sleep(timeout / 10)
            now = time.monotonic()
            for ticket, (key, lease) in list(self._leases.items()):
                unread = lease.unread(now)
                if unread < timeout or not (self._scheduler.is_draining(key) or lease.process.stats.waiting):
                    continue
                names = {"model": self._name(key), "pid": lease.process.pid, "ticket": ticket}
                log.warning("answer cancelled: its client does not read", extra=fields(**names, seconds=unread))
                lease.give_up(now)
                self._apply(self._scheduler.finished(ticket, now))

    @property
    def states(self) -> StateFolder | None:
        """The prompt cache on disk, None if there is none."""
        return self._states

    def expire(self, key: str, reason: UnloadReason = UnloadReason.REQUESTED) -> None:
        """Unload a model as soon as nothing runs in it."""
        self._apply(self._scheduler.expire(key, time.monotonic(), reason))

    def must_refuse(self, key: str) -> bool:
        """Whether any request for the weights with this path would get ServerBusy."""
        return self._scheduler.must_refuse(key)

    def explained(self, error: RunnerDied, key: str) -> RunnerDied:
        """The same error of the model with this key; it also tells what is known of such deaths.

        That is the installation's fault if the self-test has found one, and how many processes have ended lately.
        """
        fault = self._crashes.fault if error.crashed else ""
        detail = "; ".join(text for text in (error.detail, fault, self._deaths.told(key)) if text)
        return error if detail == error.detail else RunnerDied(detail, crashed=error.crashed, killed=error.killed)

    @property
    def at_fault(self) -> bool:
        """Whether the self-test has found that the installation is at fault."""
        return bool(self._crashes.fault)

    def keys(self) -> set[str]:
        """The paths of the weights that are loaded or being loaded."""
        return {view.key for view in self._scheduler.runners()}

    def running(self) -> list[RunningModel]:
        """The loaded models, in the order in which they were loaded."""
        now = time.monotonic()
        views = (view for view in self._scheduler.runners() if view.state is not State.LOADING)
        ready = [(view, self._loaded[view.key]) for view in views if view.key in self._loaded]
        return [replace(loaded.shown(view, now), prompt_cache_disk=self._on_disk(loaded)) for view, loaded in ready]

    def _on_disk(self, loaded: LoadedModel) -> int:
        """Bytes that the disk has of a model's prompts."""
        return 0 if self._states is None else self._states.size_of(weights_digest(loaded.model))

    def loading(self) -> list[LoadingModel]:
        """The models that are being loaded, in the order in which that began."""
        views = (view for view in self._scheduler.runners() if view.state is State.LOADING)
        planned = {key: attempt.planned for key, attempt in self._attempts.items()}
        return [LoadingModel(self._name(view.key), planned.get(view.key), view.spec.num_ctx) for view in views]

    async def state_metrics(self) -> list[Metric]:
        """How full the machine and its models are now, and what these have computed, for Prometheus."""
        label = self._metrics.label
        state = PoolState(
            models=[
                ModelState(label(each.label), each.process.pid, each.process.stats, tuple(each.memory()))
                for each in self._loaded.values()
            ],
            loading=len(self._loads),
            waiting=self._scheduler.waiting,
            max_queue=self._config.max_queue,
            gpus=self.gpus,
            disk_cache=0 if self._states is None else self._states.size,
        )
        return [*self._metrics.computed(), *await asyncio.to_thread(gauges, state)]

    async def plan(self, model: Model, weights: Weights, spec: LoadSpec) -> LoadPlan:
        """What a load would take now, and who would go for it; nothing is loaded. Raises GGUFError or OSError."""
        loaded = self._loaded.get(spec.key)
        if loaded is not None and self._scheduler.can_run(spec, time.monotonic()):
            return replace(loaded.planned(), name=model.name.full)
        if loaded is not None and self._scheduler.may_grow(spec):
            num_ctx, longer = await self._planner.with_context(loaded.plan, spec.num_ctx, spec.num_ctx)
            if num_ctx >= spec.num_ctx:
                return replace(shown_plan(model, longer, num_ctx=num_ctx, loaded=True), grows=True)
        estimate = await self._planner.estimate(model, weights, spec)
        ways = await self._planner.ways(model, weights, spec, estimate)
        spec = replace(spec, bytes_needed=tuple(self._ledger.charge(way.placement) for way in ways))
        going = self._scheduler.would_evict(spec, time.monotonic())
        leaving = [self._loaded[key] for key in (*going, spec.key) if key in self._loaded]
        freed: Counter[str] = Counter()
        for other in leaving:
            for share in other.plan.placement.shares:
                freed[share.device.handle] += share.total
        leaves = total(self._loaded[key].charged(self._ledger)[0] for key in going if key in self._loaded)
        room = {device: size + leaves.on(device) for device, size in self._scheduler.room_for(spec.key).items()}
        promised = self._scheduler.promised(spec.key)
        _, _, plan = await self._planner.attempt(
            model, weights, spec, ours=self._pids, room=room, promised=promised, freed=freed
        )
        evicts = [self._name(key) for key in going] if plan.placement.possible else []
        reloads = "" if loaded is None else self._name(spec.key)
        return shown_plan(model, plan, num_ctx=plan.num_ctx, evicts=evicts, reloads=reloads)

    async def _with_needs(self, model: Model, weights: Weights, spec: LoadSpec, *, embeds: bool) -> LoadSpec:
        """The same with what a load would take. Raises ModelTooLarge, GGUFError or OSError."""
        estimate = await self._planner.estimate(model, weights, spec)
        required = await self._planner.require(model, weights, spec, estimate)
        leaner = required is not estimate
        ways = [required] if leaner else await self._planner.ways(model, weights, spec, estimate)
        more = required.embedding_bytes if embeds else 0
        return replace(spec, bytes_needed=tuple(self._ledger.charge(way.placement, more) for way in ways))

    def _apply(self, actions: Sequence[Action]) -> None:
        if self.stopping:
            return
        for action in actions:
            match action:
                case StartLoad(key=key, spec=spec, attempt=attempt):
                    log.debug("load starts", extra=fields(model=self._name(key), request_id=spec.trace_id or None))
                    self._loads[key] = load = asyncio.create_task(self._load(key, spec, attempt))
                    load.add_done_callback(partial(self._load_ended, key))
                case Unload():
                    self._in_background(self._unload(action))
                case AbortLoad(key=key):
                    log.debug("load aborted: nobody waits for it", extra=fields(model=self._name(key)))
                    self._loads[key].cancel()
                case Resize():
                    self._in_background(self._resize(self._loaded[action.key], action))
                case Grown(ticket=ticket, num_ctx=num_ctx):
                    if (growing := self._growing.get(ticket)) is not None and not growing.done():
                        growing.set_result(num_ctx)
                case Grant(ticket=ticket, key=key):
                    if not (waiter := self._waiters[ticket]).done():
                        waiter.set_result(self._loaded[key].process)
                case Refuse(ticket=ticket, reason=reason, detail=detail):
                    error = ServerBusy() if reason is Refusal.BUSY else LoadFailed(detail)
                    _fail(self._waiters[ticket], error)
        self._set_timer()

    async def _grow(self, ticket: int, wanted: int, target: int) -> int:
        """Wait until a request has the context that it wants, or all that it can have. Raises EngineStopped."""
        if self.stopping:
            raise EngineStopped
        growing: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._growing[ticket] = growing
        self._apply(self._scheduler.grow(ticket, wanted, target, time.monotonic()))
        return await growing

    async def _resize(self, loaded: LoadedModel, action: Resize) -> None:
        """Change the context of a loaded model as far as memory allows, and tell the scheduler the outcome."""
        try:
            await loaded.change_context(action.num_ctx, action.cells, self._planner)
        except RunnerDied:
            pass  # `_watch` tells
        finally:
            if self._loaded.get(action.key) is loaded:
                sizes = (loaded.num_ctx, *loaded.charged(self._ledger))
                self._apply(self._scheduler.context_changed(action.key, time.monotonic(), *sizes))

    def _count_embedding(self, key: str) -> None:
        """Add to a model's size what embedding takes, the first time that it embeds."""
        if loaded := self._loaded.get(key):
            loaded.count_embedding()
            self._scheduler.size_changed(key, loaded.charged(self._ledger)[0])

    def _warn_of_placement(self, spec: LoadSpec) -> None:
        """Log that a request runs although its weights are not placed as it asked."""
        if (loaded := self._loaded.get(spec.key)) and not loaded.spec.places(spec):
            asked = {"num_gpu": spec.num_gpu, "main_gpu": spec.main_gpu, "use_mmap": spec.use_mmap}
            log.warning("placement not changed", extra=fields(model=loaded.model.name.shortest, **asked))

    def _name(self, key: str) -> str:
        return self._requested[key][0].name.shortest

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        deadline = self._scheduler.next_deadline(now)
        if deadline is not None:
            delay = max(0.0, deadline - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick, context=Context())

    def _tick(self) -> None:
        self._apply(self._scheduler.tick(time.monotonic()))

    async def _load(self, key: str, spec: LoadSpec, number: int) -> None:
        """Load one model and tell the scheduler the outcome; cancelled when nobody waits for it any more."""
        REQUEST_ID.set(spec.trace_id)  # the task may have been started by another request, whose end made room
        started = time.monotonic()
        model, weights = self._requested[key]
        attempt = LoadAttempt(model, weights, spec, number, self._config, self._spare, self._crashes, self._states)
        self._attempts[key] = attempt
        try:
            loaded, plan = await attempt.run(self._plan)
        except (EngineError, OSError) as error:
            await attempt.end()
            self._forget_load(key)
            reason = attempt.reason(error)
            seconds = time.monotonic() - started
            if isinstance(error, OutOfMemory):
                self._metrics.load_ended(model.name.shortest, "out_of_memory", seconds)
                self._out_of_memory(key, attempt, reason)
                return
            if attempt.killed:
                reason = self._crashes.killed(attempt.identity, reason)
            cause = {"cause": repr(error)} if isinstance(error, OSError) else {}
            log.error("failed to load %s: %s", model.name.shortest, reason, extra=fields(**cause))
            self._metrics.load_ended(model.name.shortest, "failed", seconds)
            self._apply(self._scheduler.load_failed(key, time.monotonic(), reason))
            return
        except asyncio.CancelledError:
            await asyncio.shield(attempt.end())
            self._metrics.load_ended(model.name.shortest, "aborted", time.monotonic() - started)
            self._forget_load(key)
            self._apply(self._scheduler.unloaded(key, time.monotonic()))
            raise
        finally:
            # Not at once: importing the library would take a core from the first answer.
            asyncio.get_running_loop().call_later(SPARE_DELAY, self._spare.prepare, context=Context())
        self._forget_load(key)
        self._loaded[key] = loaded
        loaded.process.on_end = partial(self._note_death, key, loaded)
        # Its end belongs to no request.
        Context().run(self._in_background, self._watch(key, loaded, attempt.identity))
        now = time.monotonic()
        loaded.log_load(plan, now - started)
        self._metrics.load_ended(loaded.label, "ok", now - started)
        sizes = (*loaded.charged(self._ledger), loaded.num_ctx)
        self._apply(self._scheduler.loaded(key, now, now - started, *sizes))

    def _out_of_memory(self, key: str, attempt: LoadAttempt, reason: str) -> None:
        """There was no memory for a load: tell the log of the attempt, and the scheduler."""
        actions = self._scheduler.out_of_memory(key, time.monotonic(), f"{reason} (attempt {attempt.number})")
        again = not any(isinstance(action, Refuse) for action in actions)
        if attempt.killed and not again:
            self._crashes.killed(attempt.identity, reason)
        values = {"model": self._name(key), "attempt": attempt.number, "next": "a leaner one" if again else "none"}
        values |= {"leaner": lean.WAYS[min(attempt.number, len(lean.WAYS)) - 1]} if again else {}
        log.log(logging.WARNING if again else logging.ERROR, "out of memory: %s", reason, extra=fields(**values))
        self._apply(actions)

    async def _plan(self, attempt: LoadAttempt) -> tuple[LoadSpec, MemoryPlan]:
        """How an attempt loads a model, in memory that is reserved for nobody else.

        Raises ModelTooLarge, GGUFError or OSError.
        """
        key, first = attempt.spec.key, attempt.number == 1
        async with self._planning:
            attempt.number, spec, plan = await self._planner.attempt(
                attempt.model,
                attempt.weights,
                attempt.spec,
                attempt.number,
                ours=self._pids,
                room=self._scheduler.room_for(key),
                promised=self._scheduler.promised(key),
            )
            plan.placement.require()
            self._scheduler.reserve(key, self._ledger.charge(plan.placement))
            attempt.planned = plan.size
        told = {"bytes": plan.size, "context": plan.num_ctx, "parallel": plan.n_parallel, "attempt": attempt.number}
        level = logging.INFO if plan.size >= LONG_LOAD else logging.DEBUG
        log.log(level, "loading", extra=fields(model=attempt.model.name.shortest, **told))
        if plan.generates and plan.n_parallel < self._config.num_parallel:
            told = {"asked": self._config.num_parallel, "parallel": plan.n_parallel, "context": plan.num_ctx}
            message = "fewer requests at once than OLLAMA_NUM_PARALLEL asks for"
            log.warning(message, extra=fields(model=attempt.model.name.shortest, **told))
        if first and not plan.placement.fits:
            shortage.warn(attempt.model.name.shortest, plan.placement)
        return spec, plan

    @property
    def _pids(self) -> list[int]:
        """Of the processes that have loaded a model."""
        return [loaded.process.pid for loaded in self._loaded.values()]

    def _forget_load(self, key: str) -> None:
        self._loads.pop(key, None)
        self._attempts.pop(key, None)

    def _load_ended(self, key: str, load: asyncio.Task[None]) -> None:
        """After an unexpected exception, fail the load: its requests must not wait for ever."""
        if load.cancelled() or load.exception() is None:
            return
        log.error("load failed unexpectedly", exc_info=load.exception())
        self._forget_load(key)
        self._apply(self._scheduler.load_failed(key, time.monotonic(), "internal error while loading"))

    async def _unload(self, action: Unload) -> None:
        started = time.monotonic()
        loaded = self._loaded.pop(action.key)
        await loaded.process.write_states(UNLOAD_PATIENCE)
        await loaded.process.close()
        now = time.monotonic()
        values: dict[str, str | float | None] = {}
        if action.reason is UnloadReason.IDLE:
            values = {"keep_alive": action.keep_alive}
        if (spec := action.evicted_for) is not None:
            values = {"evicted_for": self._name(spec.key), "request_id": spec.trace_id or None}
        self._tell_unload(loaded, action.reason, now - started, **values)
        self._apply(self._scheduler.unloaded(action.key, now))

    async def _watch(self, key: str, loaded: LoadedModel, load: Hashable) -> None:
        """Wait until a process ends, then forget its model. `load` is the key under which crashes are counted."""
        process = loaded.process
        with self._metrics.counting(process.model, process):
            await process.exited.wait()
        if process.answered or not process.cause:
            self._crashes.survived(load)
        if self._loaded.get(key) is loaded:
            self._lose(key, loaded)
        if not loaded.lost:  # it was told to end
            return
        count, seconds = self._deaths.lately(key)
        often = {"deaths": count, "within_seconds": seconds} if count >= TOLD else {}
        values = {"model": loaded.name, "pid": process.pid, **often}
        log.error("process ended unexpectedly: %s", process.ending, extra=fields(**values))
        self._metrics.unloaded(loaded.label, UnloadReason.CRASHED)
        if process.cause and not process.answered and not self.stopping:
            self._crashes.died_at_work(load, loaded.model.name.shortest, process.cause)
        await process.close()

    def _tell_unload(
        self, loaded: LoadedModel, reason: UnloadReason, seconds: float | None = None, **values: str | float | None
    ) -> None:
        loaded.log_unload(reason.text, seconds, **values)
        self._metrics.unloaded(loaded.label, reason)

    def _note_death(self, key: str, loaded: LoadedModel) -> None:
        """A process has ended; one that was told to is no longer among the loaded ones."""
        if loaded.lost or self._loaded.get(key) is loaded:
            self._deaths.note(key)

    def _greeted(self, process: RunnerProcess) -> None:
        """A process has told what the library does with weights here, and what it is held to."""
        self._planner.set_copied_types(process.copied_types)
        self._tell_containment(process)

    def _tell_containment(self, process: RunnerProcess) -> None:
        """Log once what child processes cannot do any more, and what of that the system does not have."""
        holds, lacks = process.containment
        if not self._told_containment and process.alive:
            self._told_containment = True
            values = {"holds": ", ".join(holds) or None, "lacks": ", ".join(lacks) or None, "request_id": None}
            level = logging.WARNING if lacks and holds else logging.INFO
            log.log(level, "processes contained" if holds else "processes not contained", extra=fields(**values))

    async def _run_self_test(self) -> SelfTest:
        log.warning("self-test starts: several loads crashed in a row")
        test = await selftest.run_async(environ=child_environment(self._config.environ))
        log.log(logging.INFO if test.ok else logging.ERROR, "self-test ended: %s", test.sentence)
        return test

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _fail(waiter: asyncio.Future[Any], error: EngineError) -> None:
    if not waiter.done():
        waiter.set_exception(error)


def _files_missing(weights: Weights, spec: LoadSpec) -> bool:
    """Whether a file that a load needs has gone. Blocking."""
    projector = (spec.projector,) if spec.projector else ()
    return not all(Path(path).is_file() for path in (weights.path, *projector, *spec.adapters))
