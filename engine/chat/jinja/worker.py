"""Renders chat templates in processes that may be killed: `python -m engine.chat.jinja.worker FD`, FD is its socket.

The fork server imports all that is slow to import and forks the workers: that takes milliseconds, and they share its
memory. It never runs a template. A worker renders what comes on its own socket, one conversation after the other; a
template that exceeds its CPU time or memory kills its worker, whatever C code it hangs in.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import traceback
from collections import OrderedDict
from contextlib import suppress
from typing import Literal

from engine.chat.jinja.messages import (
    ENDED,
    FORK,
    FORK_SLOW,
    KILL,
    ORDER,
    READY,
    REPORT,
    STARTED,
    ChatTemplates,
    Refused,
    Render,
    RenderedPrompt,
    Reply,
    decode_conversation,
    encode_frame,
    render_decoder,
)
from engine.chat.jinja.renderer import JinjaRenderer
from engine.chat.jinja.sandbox import allowance
from engine.chat.jinja.template import JinjaTemplate
from engine.chat.output import native_format
from engine.chat.prompt import RenderError, TemplateOverBudget
from engine.messages import FRAME_HEADER
from modelfile.containment import contain
from modelfile.operating_system import (
    address_space,
    end_with_parent,
    limit_address_space,
    peak_memory,
    prepare_child,
)

MEMORY_LIMIT = 256 << 20  # bytes of address space beyond a fresh process's
MEMORY_KEPT = 96 << 20  # bytes; a worker that ever used more beyond a fresh process's is replaced
TIME_FACTOR = 1.25  # a template that ignores its deadline is killed at this multiple of it
TEMPLATES_KEPT = 64
SOURCES_KEPT = 4 << 20  # characters of all their sources
NICENESS = 5


def main() -> None:
    """The fork server: fork workers until the other end of the socket is closed, then kill those that are left."""
    prepare_child(forks=True)
    contain()
    gc.collect()
    gc.freeze()  # or the collector would touch, and so copy, the pages that all workers share
    Forks(socket.socket(fileno=int(sys.argv[1]))).serve()


class Forks:
    """The forked workers by the numbers that the server gave them, and the fork server's loop."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._alarm, alarms = socket.socketpair()
        alarms.setblocking(False)
        self._alarms = alarms
        self._numbers: dict[int, int] = {}

    def serve(self) -> None:
        """Follow orders until the socket is closed."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._alarms.fileno(), warn_on_full_buffer=False)
        self._report(READY)
        while True:
            ready, _, _ = select.select([self._orders, self._alarm], [], [])
            if self._alarm in ready:
                self._alarm.recv(4096)
                self._tell_ends()
            if self._orders in ready and not self._follow():
                break
        for pid in self._numbers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _follow(self) -> bool:
        """Follow one order; False if the socket is closed."""
        try:
            data, fds, _, _ = socket.recv_fds(self._orders, ORDER.size, 1)
        except ConnectionError:
            return False
        if len(data) < ORDER.size:
            return False
        order, number = ORDER.unpack(data)
        if order == KILL:
            for pid in (pid for pid, known in self._numbers.items() if known == number):
                os.kill(pid, signal.SIGKILL)
            return True
        assert order in (FORK, FORK_SLOW)
        connection = socket.socket(fileno=fds[0])
        pid = os.fork()
        if pid == 0:
            self._be_forked(connection, NICENESS if order == FORK_SLOW else 0)
        self._numbers[pid] = number
        connection.close()
        self._report(STARTED, number, pid)
        return True

    def _tell_ends(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._report(ENDED, self._numbers.pop(pid), os.waitstatus_to_exitcode(status))

    def _report(self, what: bytes, number: int = 0, value: int = 0) -> None:
        with suppress(ConnectionError):  # the server has closed the socket, as the next order will show
            self._orders.sendall(REPORT.pack(what, number, value))

    def _be_forked(self, connection: socket.socket, niceness: int) -> None:
        """The life of a worker. Does not return."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in (self._orders, self._alarm, self._alarms):
                inherited.close()
            end_with_parent()
            limit_address_space(address_space() + MEMORY_LIMIT)
            os.nice(niceness)
            serve(connection)
            os._exit(0)
        except ConnectionError:
            pass  # the server has closed the socket
        except Exception:  # noqa: BLE001 - a worker must never return into the fork server's loop
            traceback.print_exc()
        finally:
            os._exit(1)


def serve(connection: socket.socket) -> None:
    """Render requests until the socket is closed or this process has grown too large."""
    writer = PromptWriter()
    received = connection.makefile("rb")
    while len(head := received.read(FRAME_HEADER.size)) == FRAME_HEADER.size:
        (size,) = FRAME_HEADER.unpack(head)
        if len(body := received.read(size)) < size:
            return
        render = render_decoder.decode(body)
        signal.setitimer(signal.ITIMER_PROF, render.seconds * TIME_FACTOR)  # SIGPROF is not handled: it kills
        frame, last = writer.reply(render)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.sendall(frame)
        if last:
            return


class PromptWriter:
    """Renders conversations; keeps the compiled templates that were used last."""

    def __init__(self) -> None:
        self._renderers: OrderedDict[bytes, tuple[int, JinjaRenderer]] = OrderedDict()
        self._most = peak_memory() + MEMORY_KEPT

    def reply(self, render: Render) -> tuple[bytes, bool]:
        """The frame that answers a request, and whether it is this worker's last."""
        reply = self._try(render)
        try:
            frame = encode_frame(reply)
        except UnicodeEncodeError:
            reply = Refused("template", "chat template: it makes what is no text", last=reply.last)
            frame = encode_frame(reply)
        except MemoryError:
            reply = Refused("memory", "", last=True)
            frame = encode_frame(reply)
        return frame, reply.last

    def _try(self, render: Render) -> Reply:
        try:
            return self._render(render)
        except MemoryError:
            return Refused("memory", "", last=True)
        except TemplateOverBudget:
            return self._refused("time", "")
        except RenderError as error:
            return self._refused("template", str(error))
        except RecursionError:
            return self._refused("template", "chat template: too deeply nested")
        except Exception:  # noqa: BLE001 - our own defect; the server raises it
            return self._refused("defect", traceback.format_exc())

    def _render(self, render: Render) -> Reply:
        renderer = self._renderer(render.key, render.templates)
        if renderer is None:
            return self._refused("unknown", "")
        allowance.set(render.seconds)
        messages, tools, think = decode_conversation(render.conversation)
        prompt = renderer.render(messages, tools, think)
        return RenderedPrompt(prompt.text, prompt.answer_start, prompt.reject_overflow, peak_memory() > self._most)

    def _refused(self, why: Literal["template", "time", "unknown", "defect"], text: str) -> Refused:
        return Refused(why, text, peak_memory() > self._most)

    def _renderer(self, key: bytes, templates: ChatTemplates | None) -> JinjaRenderer | None:
        if templates is None:
            if key not in self._renderers:
                return None
            self._renderers.move_to_end(key)
            return self._renderers[key][1]
        renderer = renderer_of(templates)
        self._renderers[key] = len(templates.usual) + len(templates.with_tools), renderer
        while len(self._renderers) > TEMPLATES_KEPT or sum(size for size, _ in self._renderers.values()) > SOURCES_KEPT:
            self._renderers.popitem(last=False)
        return renderer


def renderer_of(templates: ChatTemplates) -> JinjaRenderer:
    """A renderer for these templates and the answer format that they imply."""
    usual, with_tools = (
        JinjaTemplate(source, bos=templates.bos, eos=templates.eos)
        for source in (templates.usual, templates.with_tools)
    )
    format_ = native_format(templates.with_tools or templates.usual)
    return JinjaRenderer(usual, format_.spec, with_tools if templates.with_tools else None)


if __name__ == "__main__":
    main()
