"""One attempt to load a model: a process, a plan, a message, and why there is no model at the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace

import msgspec

from engine.errors import LoadCrashed, LoadFailed
from engine.loading.config import PoolConfig
from engine.loading.crashes import LoadCrashes, LoadIdentity
from engine.loading.derivations import Weights
from engine.loading.lean import lean_message
from engine.loading.load_options import load_message
from engine.loading.loaded_model import LoadedModel
from engine.loading.memory import MemoryPlan
from engine.loading.process import RunnerProcess
from engine.loading.spare import SpareProcess
from engine.loading.state import LoadSpec
from engine.loading.state_folder import StateFolder
from engine.messages import Loaded, LoadModel, StateFiles
from engine.model import Model

_INCOMPATIBLE = (
    ": this model may be incompatible with your version of Ollama. If you previously pulled this model, "
    "try updating it by running `ollama pull {name}`"
)


class LoadAttempt:
    """The attempt `number` (from 1; later ones are leaner) to load a model as `spec` says.

    `identity` is what crashes are counted under, `planned` the bytes that it takes, once that is planned. Whoever
    `run`s it and gets no model must `end` it. Its states are kept in `states`, if there is such a folder.
    """

    def __init__(
        self,
        model: Model,
        weights: Weights,
        spec: LoadSpec,
        number: int,
        config: PoolConfig,
        spare: SpareProcess,
        crashes: LoadCrashes,
        states: StateFolder | None = None,
    ) -> None:
        self.model, self.weights, self.spec, self.number = model, weights, spec, number
        self.identity: Hashable = None
        self.planned: int | None = None
        self._config, self._spare, self._crashes, self._states = config, spare, crashes, states
        self._process: RunnerProcess | None = None

    @property
    def killed(self) -> bool:
        """Whether its process was killed, as where memory is short."""
        return self._process is not None and self._process.killed

    @property
    def weights_loaded(self) -> float:
        """Which part of the weights is loaded, from 0 to 1."""
        return 0.0 if self._process is None else self._process.weights_loaded

    async def run(
        self, plan: Callable[[LoadAttempt], Awaitable[tuple[LoadSpec, MemoryPlan]]]
    ) -> tuple[LoadedModel, MemoryPlan]:
        """Load the model as `plan` says, which is asked once there is a process. Returns the plan too.

        Raises LoadFailed, OutOfMemory, OSError and what `plan` raises.
        """
        stamp = await asyncio.to_thread(self.weights.stamp)
        options = replace(self.spec, bytes_needed=0), self.model.digest
        self.identity = LoadIdentity((self.spec.key, stamp), self.spec.num_ctx, options)
        if (verdict := self._crashes.verdict(self.identity)) is not None:
            raise LoadFailed(verdict)
        self._process = await self._spare.take()
        spec, planned = await plan(self)
        flash_attention, lookup = self._config.flash_attention, self._config.lookup
        message = await asyncio.to_thread(
            load_message, self.model, self.weights, spec, planned, flash_attention, lookup=lookup
        )
        self._process.model = self.model.name.shortest
        message = lean_message(message, self.number)
        if self._states is not None and self.number == 1 and planned.generates and has_lasting_states(self.weights):
            files = await asyncio.to_thread(state_files, self._states, self.model)
            message = msgspec.structs.replace(message, disk_cache=files)
        report = await self._loaded(self._process, message)
        return LoadedModel.of(self.model, self._process, self.spec, planned, report), planned

    async def _loaded(self, process: RunnerProcess, message: LoadModel) -> Loaded:
        """What the process reports. One that hangs is replaced, once."""
        try:
            try:
                return await self._load(process, message)
            except LoadFailed:
                if not process.hung:
                    raise
                self._process = await self._spare.replace(process)
                return await self._load(self._process, message)
        except LoadCrashed as error:
            raise LoadFailed(await self._crashes.died(self.identity, self.model.name.shortest, error)) from None

    async def _load(self, process: RunnerProcess, message: LoadModel) -> Loaded:
        if message.disk_cache is not None and self._states is not None:
            process.keep_states_in(self._states, weights_digest(self.model))
        return await process.load(message, self._config.load_timeout)

    async def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            await self._process.close()

    def reason(self, error: Exception) -> str:
        """The error of `run`, for users."""
        text = str(error)
        if isinstance(error, OSError):  # its own text may have a path of the server
            text = f"the runner could not be started: {error.strerror or type(error).__name__}"
        return text + _INCOMPATIBLE.format(name=self.model.name.shortest) if "failed to load model" in text else text


def weights_digest(model: Model) -> str:
    """The digest of a model's weights, hexadecimal."""
    return model.weights.name.rpartition("-")[2]


def has_lasting_states(weights: Weights) -> bool:
    """Whether a model's states are good for contexts of any length.

    They are not where long contexts have rope factors of their own, as Phi's have: llama.cpp chooses by the context's
    length, and the keys of a state are rotated by one kind or the other.
    """
    return not any("rope_factors_long" in tensor.name for tensor in weights.header.tensors)


def state_files(states: StateFolder, model: Model) -> StateFiles:
    """Where a model's states are kept on disk. Blocking."""
    return StateFiles(os.fspath(states.open_for(weights_digest(model))), states.limit)
