"""Which `Host` names are answered."""

import socket

import psutil
import pytest

from server.hosts import Hosts, is_loopback


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "LOCALHOST:1", "a.localhost", "foo.local:1", "x.internal", socket.gethostname()],
)
def test_names(host: str) -> None:
    assert Hosts("127.0.0.1").is_name(host)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.9.9.9:1", "[::1]:1", "::1", "10.1.2.3:1", "192.168.0.1", "172.31.0.1", "0.0.0.0", "[fd00::1]:1"],
)
def test_addresses(host: str) -> None:
    assert Hosts("127.0.0.1").is_address(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "8.8.8.8", "172.32.0.1", "[::1]", "169.254.169.254", "1"]
)
def test_refused(host: str) -> None:
    hosts = Hosts("127.0.0.1")
    assert not hosts.is_name(host)
    assert not hosts.is_address(host)


def test_own_addresses_are_allowed() -> None:
    own = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries]
    for address in own:
        if entry_is_ipv4(address):
            assert Hosts("127.0.0.1").is_address(address)


def entry_is_ipv4(address: str) -> bool:
    return address.count(".") == 3


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost"])
def test_active_on_loopback(bind: str) -> None:
    assert Hosts(bind).active


@pytest.mark.parametrize("bind", ["", "0.0.0.0", "::", "10.0.0.1"])
def test_inactive_on_other_binds_unless_hosts_are_named(bind: str) -> None:
    assert not Hosts(bind).active
    assert Hosts(bind, ("pronk.example",)).active
    assert not Hosts(bind, ("*",)).active


def test_named_hosts() -> None:
    hosts = Hosts("0.0.0.0", ("Pronk.example", "*.lan.example"))
    assert hosts.is_name("pronk.example:11434")
    assert hosts.is_name("a.lan.example")
    assert not hosts.is_name("lan.example.evil")
    assert not hosts.is_name("x.pronk.example")


@pytest.mark.parametrize(("bind", "loopback"), [("127.0.0.1", True), ("::1", True), ("", False), ("0.0.0.0", False)])
def test_is_loopback(bind: str, loopback: bool) -> None:
    assert is_loopback(bind) is loopback
