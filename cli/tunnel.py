"""Ways through proxies that do not forward requests: HTTP's CONNECT, and SOCKS5."""

from __future__ import annotations

import socket

from socksio import SOCKSError, socks5

from cli.response import Response
from registry.remote.proxies import Proxy

_MOST_BYTES = 4096  # of one answer of a SOCKS proxy
_DONE = 200


def dig(opened: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Have a proxy connect to the server; `opened` is the connection to the proxy. Raises OSError or
    BadResponse."""
    if proxy.scheme.startswith("socks"):
        _socks(opened, proxy, host, port)
    else:
        _connect(opened, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _connect(opened: socket.socket, proxy: Proxy, authority: str) -> None:
    headers = {"Host": authority} | proxy.basic_auth
    lines = [f"CONNECT {authority} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    opened.sendall("\r\n".join(lines).encode())
    answer = Response(opened, "CONNECT")
    if answer.status != _DONE:
        raise OSError(f"the proxy {proxy.url} answers {answer.status} {answer.reason}")


def _socks(opened: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    connection = socks5.SOCKS5Connection()
    method = socks5.SOCKS5AuthMethod.USERNAME_PASSWORD if proxy.auth else socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED

    def ask(request: object) -> object:
        connection.send(request)
        opened.sendall(connection.data_to_send())
        return connection.receive_data(opened.recv(_MOST_BYTES))

    try:
        chosen = ask(socks5.SOCKS5AuthMethodsRequest([method]))
        if getattr(chosen, "method", None) != method:
            raise OSError(f"the proxy {proxy.url} wants another way to log in")
        if proxy.auth:
            name, password = (text.encode() for text in proxy.auth)
            if not getattr(ask(socks5.SOCKS5UsernamePasswordRequest(name, password)), "success", False):
                raise OSError(f"the proxy {proxy.url} refuses the name or the password")
        command = socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, (host, port))
        reply = getattr(ask(command), "reply_code", None)
    except SOCKSError:
        raise OSError(f"{proxy.url} is no SOCKS proxy") from None
    if reply != socks5.SOCKS5ReplyCode.SUCCEEDED:
        reason = getattr(reply, "name", "no answer").replace("_", " ").lower()
        raise OSError(f"the proxy {proxy.url} cannot connect: {reason}")
