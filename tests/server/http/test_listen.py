"""The listening socket, and what is said when there is none to be had."""

import socket

import pytest

from server.env import Address
from server.http.listen import CannotListen, listen


def test_a_free_port() -> None:
    with listen(Address("127.0.0.1", 0)) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert sock.getsockname()[1] > 0


def test_a_taken_port() -> None:
    with listen(Address("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            listen(Address("127.0.0.1", port))
    assert str(caught.value) == f"listen tcp 127.0.0.1:{port}: bind: address already in use"


def test_a_name() -> None:
    with listen(Address("localhost", 0)) as sock:
        assert sock.getsockname()[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_all_interfaces(host: str) -> None:
    with listen(Address(host, 0)) as sock, socket.create_connection(("127.0.0.1", sock.getsockname()[1])):
        pass


def test_an_address_of_another_machine() -> None:
    with pytest.raises(CannotListen, match=r"^listen tcp 192\.0\.2\.1:1: bind: "):
        listen(Address("192.0.2.1", 1))


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(CannotListen, match=r"no such host$"):
        listen(Address("no-such-host.invalid"))


def test_clients_that_vanish_are_noticed() -> None:
    with listen(Address("127.0.0.1", 0)) as sock:
        sock.setblocking(True)
        with socket.create_connection(sock.getsockname()), sock.accept()[0] as connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_password_in_an_address_is_not_told() -> None:
    with pytest.raises(CannotListen) as caught:
        listen(Address("user:secret@no-such-host.invalid"))
    assert str(caught.value) == "listen tcp: lookup no-such-host.invalid: no such host"


def test_a_scheme_that_is_not_spoken() -> None:
    with pytest.raises(CannotListen, match=r"^cannot listen on unix://: "):
        listen(Address("", 0, "unix"))
