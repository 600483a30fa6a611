"""The socket that the server listens on."""

from __future__ import annotations

import os
import socket

from server.env import Address

_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}  # seconds of silence, between probes; probes

_SCHEMES = ("http", "https")  # with https, something in front speaks TLS
_BACKLOG = 2048  # connections that wait, as with uvicorn


class CannotListen(Exception):
    """The address is taken, unknown or forbidden; `str()` names it and the reason."""


def listen(address: Address) -> socket.socket:
    """A listening, non-blocking socket. Raises CannotListen.

    It listens at once, not when uvicorn is ready: several sockets can be bound to a port that none listens on, and all
    but one of the servers would fail in the middle of their start.
    """
    if address.scheme not in _SCHEMES:
        raise CannotListen(f"cannot listen on {address.scheme}://: OLLAMA_HOST must be an address of http")
    candidates = [("::", socket.AF_INET6), ("0.0.0.0", socket.AF_INET)]
    if not address.is_everywhere:
        candidates = [_resolve(address)]
    problem = OSError()
    for host, family in candidates:
        try:
            return _bind(host, address.port, family)
        except OSError as error:
            problem = error
    reason = os.strerror(problem.errno or 0).lower()
    raise CannotListen(f"listen tcp {address.shown}: bind: {reason}")


def _resolve(address: Address) -> tuple[str, socket.AddressFamily]:
    """The address of a host, IPv4 if it has one. Raises CannotListen."""
    try:
        entries = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        host = address.host.rpartition("@")[2]  # without a password, which has no place in an address
        raise CannotListen(f"listen tcp: lookup {host}: no such host") from None
    family, _, _, _, name = min(entries, key=lambda entry: entry[0] != socket.AF_INET)
    return str(name[0]), family


def _bind(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        _watch_peers(server)
        server.bind((host, port))
        server.listen(_BACKLOG)
    except OSError:
        server.close()
        raise
    server.setblocking(False)
    return server


def _watch_peers(server: socket.socket) -> None:
    """Enable TCP keep-alive, so answers to vanished clients end. Connections inherit it."""
    server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has all of them
            server.setsockopt(socket.IPPROTO_TCP, option, value)
