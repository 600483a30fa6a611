"""The checks of `pronk doctor`: this installation and this machine, without a running server.

Each check gives one Finding. It raises nothing that a broken installation, store or network may cause.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine import cpu_variant, selftest
from engine.loading import devices
from engine.loading.devices import Device
from engine.loading.state_folder import holdings
from engine.selftest import Outcome, SelfTest, remedy
from engine.spawn import child_environment
from modelfile.backends import VARIANT
from registry.errors import RegistryError, StoreError
from registry.names import DEFAULT_HOST, Digest, ModelName
from registry.remote.huggingface import HuggingFace
from registry.remote.proxies import Proxies
from registry.remote.transport import Network, answered
from registry.sizes import binary_size
from registry.storage.files import disk_space, unwritable_folder
from registry.storage.store import Store
from server.masking import shown, without_logins
from server.settings import OLLAMA_ONLY, HomeMissing, Settings, known_variables, unknown_variables

LIBRARY = "llama-cpp-python"
LITTLE_SPACE = 4 << 30  # bytes; less than most models take
NO_SPACE = 64 << 20  # bytes; too little even to run a server
REACH_SECONDS = 5.0
FOREIGN_BACKENDS = "GGML_BACKEND_PATH"
"""llama.cpp's variable for a further backend; ignored, because it may load any code."""

Progress = Callable[[int, int], None]
"""Receives the bytes verified so far, and their total."""


class Level(StrEnum):
    """Fine, worth knowing, or wrong."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: a stable name, one line of text, a line for each problem and note, data for programs."""

    name: str
    level: Level
    text: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def examine(settings: Settings, *, verify: bool, progress: Progress) -> Iterator[Finding]:
    """Run all checks in turn. With `verify` every blob is read and compared with its digest."""
    yield from _engine(settings)
    yield _processor()
    yield _memory()
    yield _container()
    yield from _models(settings, verify=verify, progress=progress)
    yield from _prompts(settings)
    yield from asyncio.run(_network(settings))
    yield environment(settings)


def _engine(settings: Settings) -> Iterator[Finding]:
    test = _self_test(settings)
    yield _library(test)
    details = {
        "outcome": test.outcome.value,
        "detail": test.detail,
        "quantizations": [quantization.name for quantization in test.quantizations],
    }
    if test.ok:
        yield Finding("selftest", Level.OK, test.sentence, details=details)
    else:
        yield Finding("selftest", Level.WRONG, f"{test.sentence}; {remedy()}", details=details)
    yield _devices(settings.environ)


def _self_test(settings: Settings) -> SelfTest:
    """Run the engine's self-test as the server would, with the CPU variant that it chooses."""
    try:
        environ = child_environment(settings.environ)
        variant = cpu_variant.choose(settings.environ, settings.models_folder)
        return selftest.run(environ={**environ, **variant})
    except HomeMissing:
        return selftest.run(environ=environ)
    except OSError as error:  # no folder for its files
        return SelfTest(Outcome.FAILED, str(error))


def _library(test: SelfTest) -> Finding:
    try:
        installed = version(LIBRARY)
    except PackageNotFoundError:
        return Finding("library", Level.WRONG, f"{LIBRARY} is not installed; {remedy()}")
    details = {"version": installed, "features": test.features}
    if not test.features:
        return Finding(
            "library", Level.NOTE, f"{LIBRARY} {installed}; it does not say what is compiled in", details=details
        )
    return Finding("library", Level.OK, f"{LIBRARY} {installed}, compiled in: {_short(test.features)}", details=details)


def _short(features: str) -> str:
    """`CPU : AVX = 1 | AVX2 = 1 |`, as llama.cpp writes it, shortened to `CPU: AVX AVX2`."""
    return features.replace(" = 1", "").replace(" |", "").replace(" : ", ": ")


def _processor() -> Finding:
    name, features = selftest.processor(), devices.processor_features()
    threads = devices.compute_threads()
    text = f"{name}, {threads} thread{'s' * (threads > 1)} for models; {' '.join(features) or 'features not known'}"
    return Finding("processor", Level.OK, text, details={"name": name, "threads": threads, "features": list(features)})


def _memory() -> Finding:
    memory = devices.host()
    text = f"{binary_size(memory.total)}, {binary_size(memory.free)} free"
    return Finding("memory", Level.OK, text, details={"total": memory.total, "free": memory.free})


def _container() -> Finding:
    memory, processors = devices.container_limits()
    limits = [f"{binary_size(memory)} of memory"] if memory else []
    limits += [f"{processors:g} processors"] if processors else []
    details = {"memory": memory, "processors": processors}
    return Finding("container", Level.OK, f"limits: {', '.join(limits) or 'none'}", details=details)


def _devices(environ: Mapping[str, str]) -> Finding:
    gpus = devices.gpus(environ)
    details = {"gpus": [{"kind": gpu.kind, "name": gpu.name, "total": gpu.total, "free": gpu.free} for gpu in gpus]}
    if gpus:
        text = "; ".join(f"{gpu.name} ({gpu.kind}), {binary_size(gpu.total)}, {_free(gpu)}" for gpu in gpus)
        return Finding("devices", Level.OK, text, details=details)
    text = "no GPU: models run on the processor"
    if cards := devices.cards():
        text = f"{', '.join(card.name for card in cards)} not used, for llama.cpp is compiled without CUDA"
        return Finding("devices", Level.NOTE, text, details=details)
    return Finding("devices", Level.OK, text, details=details)


def _free(gpu: Device) -> str:
    others = f" ({binary_size(gpu.foreign)} taken by other programs)" if gpu.foreign else ""
    return f"{binary_size(gpu.free)} free{others}"


def _models(settings: Settings, *, verify: bool, progress: Progress) -> Iterator[Finding]:
    try:
        folder = settings.models_folder
    except HomeMissing as error:
        yield Finding("models", Level.WRONG, str(error))
        yield Finding("store", Level.NOTE, "not looked at")
        return
    yield _space(folder)
    if not os.path.isdir(folder):  # or not readable, which the finding above reports
        yield Finding("store", Level.OK, "no models yet", details={"models": 0, "blobs": 0, "damaged": []})
        return
    try:
        yield _store(Store(folder), verify=verify, progress=progress)
    except StoreError as error:
        yield Finding("store", Level.WRONG, str(error))


def _space(folder: Path) -> Finding:
    space = disk_space(folder)
    problem = unwritable_folder(folder)
    details = {"folder": str(folder), "free": space.free, "writable": problem is None}
    if problem is not None:
        return Finding("models", Level.WRONG, f"{problem[0]} cannot be written: {problem[1]}", details=details)
    text = f"{folder}{'' if space.exists else ' (will be made)'}, writable, {binary_size(space.free)} free"
    level = Level.WRONG if space.free < NO_SPACE else Level.NOTE if space.free < LITTLE_SPACE else Level.OK
    return Finding("models", level, text + ("" if level is Level.OK else ", little room"), details=details)


def _prompts(settings: Settings) -> Iterator[Finding]:
    """What the prompt cache on disk has, where there is one."""
    if settings.disk_cache is None:
        return
    folder, limit = settings.disk_cache
    try:
        count, size = holdings(folder)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        yield Finding("prompts", Level.NOTE, f"{folder} cannot be read: {reason}", details={"folder": str(folder)})
        return
    problem = unwritable_folder(folder)
    details = {"folder": str(folder), "states": count, "bytes": size, "limit": limit, "writable": problem is None}
    if problem is not None:
        text = f"{problem[0]} cannot be written: {problem[1]}; prompts are not kept on disk"
        yield Finding("prompts", Level.NOTE, text, details=details)
        return
    text = f"{folder}: {_count(count, 'state')}, {binary_size(size)} of {binary_size(limit)}"
    yield Finding("prompts", Level.OK, text, details=details)


def _store(store: Store, *, verify: bool, progress: Progress) -> Finding:
    users, unreadable = store.digests(), store.unreadable()
    damaged = dict(_damaged(store, users, verify=verify, progress=progress))
    problems = [_damage(store, digest, fault, users[digest]) for digest, fault in damaged.items()]
    problems += [_unreadable(name, reason) for name, reason in unreadable.items()]
    models = {name for names in users.values() for name in names}
    total = sum(store.blob_size(digest) or 0 for digest in users)
    details = {
        "models": len(models),
        "blobs": len(users),
        "bytes": total,
        "verified": verify,
        "damaged": [
            {"digest": str(digest), "fault": fault, "models": sorted(name.shortest for name in users[digest])}
            for digest, fault in damaged.items()
        ],
        "unreadable": {name.shortest: reason for name, reason in unreadable.items()},
    }
    holds = f"{_count(len(models), 'model')}, {_count(len(users), 'blob')}, {binary_size(total)}"
    what = "all digests right" if verify else "all there, digests not compared"
    if problems:
        return Finding(
            "store", Level.WRONG, f"{holds}: {_count(len(problems), 'problem')}", tuple(problems), details=details
        )
    return Finding("store", Level.OK, f"{holds}, {what}", details=details)


def _damaged(
    store: Store, users: Mapping[Digest, set[ModelName]], *, verify: bool, progress: Progress
) -> Iterator[tuple[Digest, str]]:
    """The damaged blobs, each with its fault."""
    if not verify:
        yield from ((digest, "missing") for digest in users if not store.has_blob(digest))
        return
    total = sum(store.blob_size(digest) or 0 for digest in users)
    before = 0
    for check in store.verify(users):
        progress(before + check.completed, total)
        if check.done:
            before += check.completed
            if check.fault:
                yield check.digest, check.fault


def _damage(store: Store, digest: Digest, fault: str, models: set[ModelName]) -> str:
    path = store.blob_path(digest)
    remove = "" if fault == "missing" else f"delete {path}, then "
    if not models:
        return f"{digest}: {fault}; no model needs it: delete {path}"
    names = sorted(name.shortest for name in models)
    again = " and ".join(f"pronk pull {name}" for name in names)
    return f"{digest}, needed by {', '.join(names)}: {fault}; {remove}{again} (or make it anew, if it was made here)"


def _unreadable(name: ModelName, reason: str) -> str:
    shown = name.shortest
    return f"{shown}: its manifest cannot be read ({reason}); pronk pull {shown} or pronk rm {shown}"


async def _network(settings: Settings) -> list[Finding]:
    network = Network(proxies=Proxies.from_env(settings.environ), version=settings.version)
    endpoint = HuggingFace.from_env(settings.environ).endpoint
    both = _reach("registry", f"https://{DEFAULT_HOST}/v2/", network), _reach("hub", endpoint, network)
    return list(await asyncio.gather(*both))


async def _reach(name: str, url: str, network: Network) -> Finding:
    """Whether a URL answers. If not it is a NOTE, as a machine may be offline."""
    shown = without_logins(url)
    try:
        status = await answered(url, network, REACH_SECONDS)
    except RegistryError as error:
        text = f"{shown} cannot be reached: {without_logins(str(error))}"
        return Finding(name, Level.NOTE, text, details={"url": shown, "reachable": False})
    level = Level.NOTE if status >= 500 else Level.OK
    text = f"{shown} answers" + (f" with status {status}" if level is Level.NOTE else "")
    return Finding(name, level, text, details={"url": shown, "reachable": True})


def environment(settings: Settings) -> Finding:
    """The variables that take effect, those with invalid values, and those that nobody reads.

    An invalid value or a misspelt name is WRONG; another unknown name is a NOTE.
    """
    known = known_variables()
    proxies = {name.lower() for name in known if name.endswith("_PROXY")}
    environ = {name: text for name, text in settings.environ.items() if text.strip()}
    in_force = {name: shown(name, text.strip()) for name, text in sorted(environ.items()) if name in known | proxies}
    unknown = unknown_variables(environ)
    unused = [name for name in sorted(environ) if name in OLLAMA_ONLY]
    warnings = (*settings.warnings, *settings.missing_files, *Proxies.from_env(settings.environ).warnings)
    wrong = [without_logins(warning) for warning in warnings]
    wrong += [f"{name} is not known; {nearest} is" for name, nearest in unknown.items() if nearest]
    notes = [f"{name} is not known" for name, nearest in unknown.items() if not nearest]
    notes += [f"{name} changes nothing here" for name in unused]
    if FOREIGN_BACKENDS in environ:
        notes.append(f"{FOREIGN_BACKENDS} changes nothing here: only llama.cpp's own backends are loaded")
    if variant := environ.get(VARIANT):
        available = cpu_variant.available()
        if not available:
            notes.append(f"{VARIANT} has no effect: this engine has no variants")
        elif variant not in available:
            wrong.append(f"{VARIANT} names no variant of this engine, which has {', '.join(available)}: {variant!r}")
    level = Level.WRONG if wrong else Level.NOTE if notes else Level.OK
    text = ", ".join(f"{name}={value}" for name, value in in_force.items()) or "no variables set"
    details = {
        "in_force": in_force,
        "unknown": unknown,
        "unused": unused,
        "invalid": [without_logins(warning) for warning in warnings],
    }
    return Finding("environment", level, text, tuple(wrong), tuple(notes), details)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
