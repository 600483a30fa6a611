"""Takes from a child process what it does not need: privileges, sockets, other processes, writing of files.

It is called first in each child, with one thread and before a file of strangers is touched: threads and processes that
are started later inherit it, nothing can undo it. Linux only, by system calls: no_new_privs, capabilities, Landlock and
a seccomp filter, as far as the kernel and the container allow. Reading is not limited.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import Final, NamedTuple

from modelfile import operating_system

SWITCH: Final = "PRONK_RUNNER_SANDBOX"
"""Environment variable: "0" leaves child processes as they are."""

NO_PRIVILEGES, NO_SOCKETS, NO_WRITING = "no new privileges", "no sockets", "no writing"


class Containment(NamedTuple):
    """What holds for this process, and what the system cannot do. Both empty: it is switched off."""

    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


NOT_CONTAINED: Final = Containment()


def contain(write: Iterable[Path] = (), *, gpu: bool = False) -> Containment:
    """Contain this process for good. It may only write below the folders `write`, which are made if need be.

    `gpu`: it uses GPUs, whose drivers open devices, keep caches and make temporary files.
    """
    if os.environ.get(SWITCH) == "0":
        return NOT_CONTAINED
    outcomes = {NO_PRIVILEGES: False, NO_SOCKETS: False, NO_WRITING: False}
    if operating_system.LINUX:
        folders = [*write, *(_gpu_folders() if gpu else ())]
        outcomes[NO_PRIVILEGES] = _give_up_privileges()
        outcomes[NO_WRITING] = _restrict_files(folders, _devices(gpu=gpu))
        outcomes[NO_SOCKETS] = _restrict_calls(writes=bool(folders), local_sockets=gpu and _shares_gpus())
    return Containment(
        tuple(name for name, done in outcomes.items() if done),
        tuple(name for name, done in outcomes.items() if not done),
    )


def compile_modules(*folders: Path) -> None:
    """Write the bytecode of modules that only contained processes import, which could not do so themselves."""
    for source in (path for folder in folders for path in folder.glob("*.py") if not sys.dont_write_bytecode):
        with suppress(OSError, SyntaxError):
            status = source.stat()
            try:
                with open(cache_from_source(str(source)), "rb") as file:
                    flags, *compiled = struct.unpack("<4xIII", file.read(16))
            except (OSError, struct.error):
                flags, compiled = 0, []
            if flags == 0 and compiled != [int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF]:
                import py_compile  # deferred: seldom needed

                with suppress(py_compile.PyCompileError):
                    py_compile.compile(str(source), quiet=2)


# What drivers of GPUs need

_DEVICES = ("null", "zero", "full", "random", "urandom")
_GPU_DEVICES = (
    *("nvidia*", "dri", "kfd", "dxg", "accel", "mali*", "kgsl*", "mtgpu*", "davinci*", "devmm_svm", "hisi_hdc"),
    *("nvhost*", "nvmap", "nvgpu", "nvsciipc", "host1x*", "tegra*", "dma_heap", "ion", "fastrpc*", "adsprpc*"),
)
"""Those of NVIDIA (also Jetson), AMD, Intel, Qualcomm, Arm, Huawei, Moore Threads, and of Windows below WSL."""
_CACHES: Final[Mapping[str, tuple[str, ...]]] = {
    "nvidia*": (".nv", ".cache/nvidia"),
    "kfd": (".cache/comgr", ".cache/miopen", ".config/miopen"),
    "dri": (
        *(".cache/mesa_shader_cache", ".cache/mesa_shader_cache_db", ".cache/radv_builtin_shaders"),
        *(".cache/AMD", ".cache/neo_compiler_cache", ".cache/libsycl_cache"),
    ),
}
"""Where drivers keep what they have compiled, below the home folder, by the devices that they are for."""
_DEV = Path("/dev")
_MPS = "/tmp/nvidia-mps"


def _devices(*, gpu: bool) -> list[Path]:
    names = (*_DEVICES, *_GPU_DEVICES) if gpu else _DEVICES
    return [path for name in names for path in _DEV.glob(name)]


def _gpu_folders() -> Iterator[Path]:
    yield from (Path(os.environ.get("TMPDIR") or "/tmp"), _DEV / "shm")
    if "CUDA_CACHE_PATH" in os.environ:
        yield Path(os.environ["CUDA_CACHE_PATH"])
    with suppress(RuntimeError):
        home = Path.home()
        for device, folders in _CACHES.items():
            for folder in folders if any(_DEV.glob(device)) else ():
                yield home / folder
    yield Path("/proc/self/task")  # names of threads


def _shares_gpus() -> bool:
    """Whether processes share NVIDIA's GPUs through a daemon (MPS), which they reach by a local socket."""
    return "CUDA_MPS_PIPE_DIRECTORY" in os.environ or os.path.exists(_MPS)


# Privileges

_libc = ctypes.CDLL(None)
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_CAPABILITIES_VERSION = 0x20080522
_KEPT_CAPABILITIES = sum(1 << number for number in (1, 2, 3, 14))  # to read and write anybody's files, to lock memory
_Words = ctypes.c_uint32 * 6


def _give_up_privileges() -> bool:
    """Nothing that is executed gains privileges, and root keeps few."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    words = _Words()  # effective, permitted, inheritable; then the same for numbers from 32 on
    if not _libc.capget(header, words):
        effective, permitted, *_ = words
        _libc.capset(header, _Words(effective & _KEPT_CAPABILITIES, permitted & _KEPT_CAPABILITIES))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return _prctl(_PR_GET_NO_NEW_PRIVS) == 1


def _prctl(option: int, value: int = 0) -> int:
    arguments = (ctypes.c_ulong(number) for number in (value, 0, 0, 0))
    return int(_libc.prctl(ctypes.c_int(option), *arguments))


def _syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """A system call that may be missing: -1 for any error."""
    _libc.syscall.restype = ctypes.c_long
    return int(
        _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    )


# Files: Landlock, from Linux 5.13 on

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_BELOW_PATH = 1
_WRITE, _REMOVE_DIR, _REMOVE = 1 << 1, 1 << 4, 1 << 5
_CHAR, _DIR, _FILE, _SOCK, _FIFO, _BLOCK, _LINK = (1 << n for n in range(6, 13))  # what may be made
_MOVE, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15  # from versions 2, 3, 5 on
_FILES = _WRITE | _TRUNCATE | _IOCTL
_FOLDERS = _WRITE | _TRUNCATE | _REMOVE_DIR | _REMOVE | _DIR | _FILE | _FIFO | _LINK | _MOVE
_TCP = 3  # to bind and to connect, from version 4 on
_OTHERS = 3  # abstract sockets and signals of processes outside, from version 6 on


def _restrict_files(folders: Iterable[Path], devices: Iterable[Path]) -> bool:
    """Allow to write below `folders` and to use `devices`; also no TCP, and no signals to others, if it is new."""
    version = _syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 1:
        return False
    handled = _FOLDERS | _CHAR | _SOCK | _BLOCK
    for first, access in ((2, _MOVE), (3, _TRUNCATE)):
        handled &= ~access if version < first else -1
    handled |= _IOCTL if version >= 5 else 0
    attributes = struct.pack("<QQQ", handled, _TCP if version >= 4 else 0, _OTHERS if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _syscall(_CREATE_RULESET, ctypes.create_string_buffer(attributes[:size], size), size, 0)
    if ruleset < 0:
        return False
    try:
        for path in folders:
            with suppress(OSError):
                path.mkdir(parents=True, exist_ok=True)
            _allow(ruleset, path, handled & _FOLDERS)
        for path in devices:
            _allow(ruleset, path, handled & _FILES)
        return _syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: int) -> None:
    with suppress(OSError):  # what is not there needs no permission
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("<Qi", access, descriptor)
        _syscall(_ADD_RULE, ruleset, _BELOW_PATH, ctypes.create_string_buffer(rule, len(rule)), 0)
        os.close(descriptor)


# System calls: a seccomp filter

_NONE = -1
_SYSCALLS: Final[dict[str, tuple[int, int]]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "io_uring_setup": (425, 425),  # what it does no filter sees
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "truncate": (76, 45),
    "chmod": (90, _NONE),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, _NONE),
    "lchown": (94, _NONE),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
}
"""Calls that are refused: their numbers on x86-64, and on ARM and RISC-V."""
_OF_OPEN_FILES: Final[dict[str, tuple[int, int]]] = {"fchmod": (91, 52), "fchown": (93, 55), "fsetxattr": (190, 7)}
"""The same, unless it may write files: whoever can read a file can change these attributes of it."""
_MACHINES: Final[Mapping[str, tuple[int, int]]] = {
    "x86_64": (0, 0xC000003E),
    "aarch64": (1, 0xC00000B7),
    "riscv64": (1, 0xC00000F3),
}
"""Which of these numbers a machine has, and its name in the kernel (AUDIT_ARCH)."""
_SECCOMP = (317, 277)
_CLONE, _CLONE3 = (56, 220), 435
_X32 = 0x40000000  # system calls of another kind, on x86-64
_NEW_NAMESPACE = 0x7E020000  # flags of clone
_AF_UNIX = 1
_LOCAL = ("socket", "connect")
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # places in seccomp_data
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_SET_FILTER, _ALLOW_SPECULATION = 1, 4  # without the latter, older kernels slow down all that is computed


def _restrict_calls(*, writes: bool, local_sockets: bool) -> bool:
    """Refuse system calls that a child has no use for, new sockets before all."""
    if platform.machine() not in _MACHINES or struct.calcsize("P") != 8:
        return False
    column, machine = _MACHINES[platform.machine()]
    calls = _SYSCALLS | ({} if writes else _OF_OPEN_FILES)
    refused = [numbers[column] for name, numbers in calls.items() if not (local_sockets and name in _LOCAL)]
    program = b"".join(_program(column, machine, refused, local_sockets=local_sockets))
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    argument = ctypes.create_string_buffer(fprog, len(fprog))
    return any(_syscall(_SECCOMP[column], _SET_FILTER, flags, argument) == 0 for flags in (_ALLOW_SPECULATION, 0))


def _program(column: int, machine: int, refused: list[int], *, local_sockets: bool) -> Iterator[bytes]:
    """The filter as BPF instructions: code, jump if true, jump if false, operand."""
    rows = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _ERROR | _EPERM), (_LOAD, 0, 0, _NR)]
    rows += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERROR | _EPERM)]
    rows += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | _ENOSYS)]  # its flags cannot be read; libc takes clone
    for number in (number for number in refused if number != _NONE):
        rows += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | _EPERM)]
    if local_sockets:
        rows += [(_EQUAL, 0, 4, _SYSCALLS["socket"][column]), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_EQUAL, 1, 0, _AF_UNIX)]
        rows += [(_RETURN, 0, 0, _ERROR | _EPERM), (_RETURN, 0, 0, _ALLOW)]
    rows += [(_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_ANY_BIT, 0, 1, _NEW_NAMESPACE)]
    rows += [(_RETURN, 0, 0, _ERROR | _EPERM), (_RETURN, 0, 0, _ALLOW)]
    yield from (struct.pack("HBBI", *row) for row in rows)
