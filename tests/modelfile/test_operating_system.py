"""What Linux does and what other systems do, both run here: without `LINUX` the code does as on macOS."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine.loading import devices
from modelfile import operating_system
from tests.serving import PATIENCE, ROOT

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(child.stdout.readline().decode().strip(), flush=True)
sys.stdin.read()
"""
CHILD = """
import os, time
from modelfile import operating_system
operating_system.LINUX = {linux}
operating_system.prepare_child()
print(os.getpid(), flush=True)
time.sleep(600)
"""
RIVALS = """
import hashlib, json, os, threading, time
from modelfile import operating_system
operating_system.LINUX = {linux}
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
def work():
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        hashlib.sha256(bytes(10**6))  # without the interpreter's lock
done = threading.Event()
thread = threading.Thread(target=lambda: (work(), done.wait()))
thread.start()
work()
mine, delays = threading.get_native_id(), operating_system.run_delays(without=[thread.native_id])
print(json.dumps({{"main": delays.pop(mine, 0), "others": len(operating_system.run_delays(without=[mine]))}}))
done.set()
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="here both branches can be run on Linux only")


@pytest.fixture(params=[True, False], ids=["linux", "macos"])
def linux(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(operating_system, "LINUX", request.param)
    return bool(request.param)


def test_a_child_ends_with_its_parent(linux: bool) -> None:
    command = [sys.executable, "-c", PARENT, CHILD.format(linux=linux)]
    parent = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin is not None
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert child.num_threads() == (1 if linux else 2)
    parent.kill()
    parent.wait(PATIENCE)
    _, alive = psutil.wait_procs([child], PATIENCE)
    for process in alive:
        process.kill()
    assert not alive
    parent.stdin.close()
    parent.stdout.close()


def test_a_thread_that_shares_a_core_waits_for_it(linux: bool) -> None:
    code = RIVALS.format(linux=linux)
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=PATIENCE)
    waited = json.loads(ran.stdout)
    if linux:
        assert waited["main"] > 10**8
        assert waited["others"] == 1
    else:
        assert waited == {"main": 0, "others": 0}


async def test_the_end_of_a_process_is_seen_while_others_hold_its_pipes_open(linux: bool) -> None:
    code = "import os, time\nif not os.fork(): time.sleep(600)\nos.kill(os.getpid(), 9)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        with operating_system.when_ended(process, lambda: operating_system.kill_group(process.pid)):
            assert await process.stdout.read() == b""
        assert await process.wait() == -9
    operating_system.kill_group(process.pid)  # nobody is left


async def test_the_end_of_a_process_that_has_been_reaped_is_seen_too(linux: bool) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await process.wait()
    ended = asyncio.Event()
    with operating_system.when_ended(process, ended.set):
        await asyncio.wait_for(ended.wait(), PATIENCE)


async def test_nothing_is_called_for_a_process_that_lives(linux: bool) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    ended = asyncio.Event()
    with operating_system.when_ended(process, ended.set):
        await asyncio.sleep(3 * operating_system.POLL_INTERVAL)
    process.kill()
    await process.wait()
    await asyncio.sleep(3 * operating_system.POLL_INTERVAL)
    assert not ended.is_set()


LIMITED = """
import resource
from modelfile import operating_system
operating_system.LINUX = {linux}
operating_system.limit_address_space(operating_system.address_space() + (1 << 30))
print(resource.getrlimit(resource.RLIMIT_AS)[0])
"""


def test_only_linux_limits_addresses(linux: bool) -> None:
    command = [sys.executable, "-c", LIMITED.format(linux=linux)]
    limit = int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE).stdout)
    if linux:
        assert 1 << 30 < limit < 1 << 34
    else:
        assert limit == resource.getrlimit(resource.RLIMIT_AS)[0]


def test_the_unit_of_peak_memory(linux: bool) -> None:
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert operating_system.peak_memory() >= kibibytes * (1024 if linux else 1)
    assert (operating_system.address_space() > 0) is linux


def test_the_machine_is_known_as_far_as_the_system_tells(linux: bool, tmp_path: Path) -> None:
    assert bool(operating_system.cpu_info()) is linux
    assert (operating_system.allowed_processors() == len(os.sched_getaffinity(0))) is linux
    assert bool(operating_system.control_groups("memory")) is linux
    assert 1 <= devices.compute_threads() <= devices.usable_processors() <= (os.cpu_count() or 1)
    assert 0 < devices.host().free <= devices.host().total
    if not linux:
        assert devices.container_limits() == (None, None)
        assert devices.host().total == psutil.virtual_memory().total
        assert devices.processor_features() == ()
