"""`scripts/gpu_check.sh`: tries a GPU step by step, prints what it finds after each, and a table at the end.

A step that fails does not end the others. The exit code is 1 if one failed. Memory that the server reports is compared
with what the driver says (NVML), which is of the whole card: nothing else should use it meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from bench import table
from bench.api import Api
from bench.client import Client
from bench.dialects import LLAMA_SERVER
from bench.models import CACHE, Q4_K_M, Q8_0, prepare, provide
from bench.serving import PROJECT, LocalServer, free_port
from bench.workload import EIGHT, ONE, WARM_UP, Workload, interleave
from engine.loading.devices import cards

SUITE = ("tests/engine/runner", "tests/engine/loading")
SUITE_LIMIT = 75.0  # seconds
PEER = PROJECT / ".gpu" / "peer" / "llama-server"
PEER_START = 60.0  # seconds
ROUNDS = range(3)
HALF = 12  # of the model's 25 layers
MEGABYTE = 1 << 20
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


class Failed(Exception):
    """A step found something wrong."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    step: str
    result: str
    seconds: float


def used_by_cards() -> list[int]:
    """Bytes in use on each NVIDIA GPU, as the driver says; empty without one."""
    return [card.total - card.free for card in cards()]


class Check:
    """All steps, on one store with the bench's models."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._environ = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.has_gpu = bool(used_by_cards())

    def devices(self) -> str:
        """What `pronk doctor` sees."""
        done = self._python("-m", "cli", "doctor", limit=60)
        print(done.stdout + done.stderr)
        if done.returncode:
            raise Failed(f"pronk doctor ended with {done.returncode}")
        return f"{len(used_by_cards())} NVIDIA GPU(s)" if self.has_gpu else "no GPU: what follows runs on the CPU"

    def suite(self) -> str:
        """The engine's own tests."""
        jobs = str(max(1, (os.cpu_count() or 1) // 2))
        arguments = ("-m", "pytest", "-q", "-n", jobs, "--dist", "loadfile", *SUITE)
        try:
            done = self._python(*arguments, limit=SUITE_LIMIT)
        except subprocess.TimeoutExpired:
            return f"not finished after {SUITE_LIMIT:.0f} s"
        lines = done.stdout.strip().splitlines() or [done.stderr[-500:]]
        if done.returncode:
            print("\n".join(lines[-40:]))
            raise Failed(lines[-1])
        return lines[-1].strip("= ")

    def whole(self) -> str:
        """All layers on the GPU."""
        with self._server() as server:
            before = used_by_cards()
            return self._loaded(server, before, {}, least=0.99)

    def half(self) -> str:
        """Some layers on the GPU, the others on the CPU."""
        with self._server() as server:
            before = used_by_cards()
            return self._loaded(server, before, {"num_gpu": HALF}, least=0.2, most=0.8)

    def two_models(self) -> str:
        """Two models where only one fits: each takes the place of the other, and nothing of it stays."""
        if not self.has_gpu:
            return "skipped: no GPU"
        with self._server() as server:
            size = self._size(server, Q8_0.name)
        overhead = cards()[0].total - int(1.5 * size)
        with self._server(OLLAMA_GPU_OVERHEAD=str(overhead)) as server:
            provide(Api(server.url), [Q4_K_M])
            seen = []
            for name in (Q8_0.name, Q4_K_M.name, Q8_0.name):
                answer(server.url, name, {})
                seen.append([model["name"].split(":")[0] for model in ps(server.url)])
        if seen != [[Q8_0.name], [Q4_K_M.name], [Q8_0.name]]:
            raise Failed(f"loaded after each request: {seen}")
        return f"each alone, with {overhead // MEGABYTE} MiB of the card not for us"

    def beside_llama_server(self) -> str:
        """Tokens per second and first tokens, in turns with llama-server on the same libraries."""
        if not PEER.exists():
            return "skipped: no llama-server beside the engine"
        with self._server() as server, self._peer() as peer:
            sides = [Client(server.url, Q8_0.name), Client(peer, Q8_0.gguf.name, LLAMA_SERVER)]
            interleave(sides, WARM_UP, [1000])
            parts = []
            for what, workload in (("one stream", ONE), ("8 streams", EIGHT), ("32 streams", Workload(32, 96, 64))):
                ours, theirs = interleave(sides, workload, ROUNDS)
                rate = median(run.total_rate for run in ours)
                ratio = median(a.total_rate / b.total_rate for a, b in zip(ours, theirs, strict=True))
                first = median(a.median_first / b.median_first for a, b in zip(ours, theirs, strict=True))
                parts.append(f"{what} {rate:.0f} tokens/s ({ratio:.2f} of theirs, first token {first:.2f})")
        return "; ".join(parts)

    def _loaded(
        self, server: LocalServer, before: Sequence[int], options: dict[str, Any], *, least: float, most: float = 1.01
    ) -> str:
        """Load the model, compare what the server says with what the driver says, and read an answer."""
        text = answer(server.url, Q8_0.name, options)
        [model] = ps(server.url)
        size, vram = int(model["size"]), int(model["size_vram"])
        parts = [f"{size // MEGABYTE} MiB, {vram // MEGABYTE} MiB of it on GPUs", f"{len(text)} characters"]
        if self.has_gpu:
            real = sum(used_by_cards()) - sum(before)
            parts.insert(1, f"the driver says {real // MEGABYTE} MiB ({vram / real:.2f})")
            if not least <= vram / size <= most:
                raise Failed(", ".join(parts))
        client = Client(server.url, Q8_0.name)
        interleave([client], WARM_UP, [2000])
        for what, workload in (("one stream", ONE), ("8 streams", EIGHT)):
            [runs] = interleave([client], workload, [2001])
            parts.append(f"{what} {runs[0].total_rate:.0f} tokens/s")
        return ", ".join(parts)

    @staticmethod
    def _size(server: LocalServer, name: str) -> int:
        answer(server.url, name, {})
        [model] = ps(server.url)
        return int(model["size"])

    @contextlib.contextmanager
    def _server(self, **environ: str) -> Iterator[LocalServer]:
        log = self._store / "server.log"
        with LocalServer(self._store, log, **self._environ, **environ) as server:
            provide(Api(server.url), [Q8_0])
            try:
                yield server
            except Exception:
                print(log.read_text(errors="replace")[-3000:])
                raise

    @contextlib.contextmanager
    def _peer(self) -> Iterator[str]:
        port = free_port()
        command = [str(PEER), "-m", str(Q8_0.gguf), "-np", "32", "-c", "32768", "-ngl", "99", "--port", str(port)]
        url = f"http://127.0.0.1:{port}"
        libraries = str(PROJECT / ".gpu" / "site" / "lib")
        path = os.pathsep.join(part for part in (libraries, os.environ.get("LD_LIBRARY_PATH", "")) if part)
        with (self._store / "peer.log").open("wb") as log:
            environ = os.environ | {"LD_LIBRARY_PATH": path}
            with subprocess.Popen(command, env=environ, stdout=log, stderr=log) as process:
                try:
                    wait_for(f"{url}/health", PEER_START)
                    yield url
                finally:
                    process.terminate()

    def _python(self, *arguments: str, limit: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=limit, check=False)


def answer(url: str, model: str, options: dict[str, Any]) -> str:
    """A short answer."""
    body = {"model": model, "prompt": "Hello", "stream": False, "options": {"num_predict": 16, **options}}
    reply = httpx.post(f"{url}/api/generate", json=body, timeout=120)
    if not reply.is_success:
        raise Failed(f"{reply.status_code}: {reply.text.strip()}")
    text: str = reply.json()["response"]
    return text


def ps(url: str) -> list[dict[str, Any]]:
    """The loaded models."""
    models: list[dict[str, Any]] = httpx.get(f"{url}/api/ps").json()["models"]
    return models


def wait_for(url: str, seconds: float) -> None:
    """Wait until a URL answers with success."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).is_success:
                return
        time.sleep(0.1)
    raise Failed(f"nothing answers at {url} after {seconds:.0f} s")


def attempt(name: str, step: Callable[[], str]) -> tuple[Row, bool]:
    """Run one step and print its result."""
    print(f"\n== {name}", flush=True)
    started = time.monotonic()
    good = True
    try:
        result = step()
    except (Failed, RuntimeError, OSError, httpx.HTTPError, subprocess.SubprocessError, ValueError) as error:
        result, good = f"FAILED: {error or type(error).__name__}", False
    row = Row(name, result, time.monotonic() - started)
    print(f"{row.result} ({row.seconds:.0f} s)", flush=True)
    return row, good


def main() -> int:
    """Run all steps; returns the exit code."""
    started = time.monotonic()
    prepare([Q8_0, Q4_K_M])
    with tempfile.TemporaryDirectory(prefix="gpu-", dir=CACHE) as folder:
        check = Check(Path(folder))
        steps = {
            "devices": check.devices,
            "all layers": check.whole,
            f"{HALF} layers on the GPU": check.half,
            "two models, room for one": check.two_models,
            "beside llama-server": check.beside_llama_server,
            "the engine's tests": check.suite,
        }
        results = [attempt(name, step) for name, step in steps.items()]
    rows = [row for row, _ in results]
    print("\n| step | result | s |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {row.step} | {row.result} | {table.number(row.seconds)} |")
    print(f"\ntook {time.monotonic() - started:.0f} s")
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    sys.exit(main())
