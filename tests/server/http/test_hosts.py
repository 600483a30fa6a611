"""Which `Host` names are answered."""

import ipaddress
import socket

import psutil
import pytest

from server.http.hosts import Hosts, InvalidHost, is_loopback, parse_host


def allows(hosts: Hosts, header: str, *, browser: bool = False) -> bool:
    return hosts.allows(parse_host(header), from_browser=browser)


@pytest.mark.parametrize(
    "header",
    [
        *(
            "",
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "a.localhost",
            "foo.local:1",
            "x.internal",
            socket.gethostname(),
        ),
        *("127.0.0.1", "127.9.9.9:1", "[::1]:1", "[::1]", "::1", "[::ffff:127.0.0.1]:1", "[0:0:0:0:0:0:0:1]"),
        *(
            "10.1.2.3:1",
            "192.168.0.1",
            "172.31.0.1",
            "0.0.0.0",
            "[::]",
            "[fd00::1]:1",
            "[FD00::1]",
            ":80",
            "localhost:",
        ),
    ],
)
def test_answered_on_a_loopback_bind(header: str) -> None:
    assert allows(Hosts("127.0.0.1"), header)


@pytest.mark.parametrize(
    "header",
    [
        *(
            "evil.example",
            "localhost.evil.example",
            "localhostx",
            "xlocalhost",
            "1",
            "2130706433",
            "0x7f000001",
            "127.1",
        ),
        *("8.8.8.8", "172.32.0.1", "169.254.169.254", "[2001:db8::1]", "[fe80::2]", "127.0.0.01", "xn--e1a.example"),
    ],
)
def test_refused_on_a_loopback_bind(header: str) -> None:
    assert not allows(Hosts("127.0.0.1"), header)


@pytest.mark.parametrize(
    "header",
    [
        *(
            "localhost:80@evil.example",
            "user@localhost",
            "localhost:65536",
            "localhost:-1",
            "localhost:8o",
            "localhost:1:2",
        ),
        *("[::1", "[127.0.0.1]", "[localhost]", "[::1]x", "[::1%25eth0]", "fe80::1%eth0", "[::1%evil.example]"),
        *("%6cocalhost", "loc\xe4lhost", "a b", "a/b", "a,b", "localhost, evil.example", ".", ".localhost", "a..b"),
    ],
)
def test_no_host(header: str) -> None:
    with pytest.raises(InvalidHost):
        parse_host(header)


def test_own_addresses_are_allowed() -> None:
    entries = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    for entry in entries:
        if entry.family in (socket.AF_INET, socket.AF_INET6):
            assert Hosts("127.0.0.1").allows(ipaddress.ip_address(entry.address.partition("%")[0]), from_browser=False)


PUBLIC = ["evil.example", "evil.example.", "EVIL.example:80", "localhost.evil.example", "x.lan.evil.example", "127.1"]
NEAR = [
    "8.8.8.8",
    "[2001:db8::1]:1",
    "gpu-box",
    "localhost",
    "a.local",
    "A.LAN:1",
    "x.y.internal",
    socket.gethostname(),
]


@pytest.mark.parametrize("bind", ["", "0.0.0.0", "::", "10.0.0.1"])
def test_other_binds(bind: str) -> None:
    hosts = Hosts(bind)
    assert all(allows(hosts, header) for header in PUBLIC + NEAR)
    assert [header for header in PUBLIC if allows(hosts, header, browser=True)] == []
    assert [header for header in NEAR if not allows(hosts, header, browser=True)] == []


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost", "0.0.0.0"])
def test_named_hosts(bind: str) -> None:
    hosts = Hosts(bind, ("Pronk.example", "*.b.example", "8.8.4.4", "https://c.example:8443", "[2001:db8::1]:1"))
    for header in ("pronk.example:11434", "a.b.example", "8.8.4.4:1", "c.example", "[2001:DB8:0::1]"):
        assert allows(hosts, header, browser=True), header
    for header in ("b.example.evil", "x.pronk.example", "b.example", "xb.example"):
        assert not allows(hosts, header, browser=True), header
    assert allows(Hosts(bind, ("*",)), "evil.example", browser=True)


@pytest.mark.parametrize(
    ("origin", "header", "allowed"),
    [
        ("http://pronk.example", "pronk.example:11434", True),
        ("https://pronk.example:8443", "pronk.example", True),
        ("https://*.pronk.example", "a.pronk.example", True),
        ("https://*.pronk.example", "pronk.example", False),
        ("http://pronk.example:*", "pronk.example:1", True),
        ("http://pronk.example", "evil.example", False),
        ("*", "evil.example", True),
        ("http://*", "evil.example", True),
        ("*://pronk.example", "pronk.example", True),
        ("app://*", "evil.example", False),
        ("chrome-extension://*", "evil.example", False),
    ],
)
def test_hosts_of_origins(origin: str, header: str, allowed: bool) -> None:
    assert allows(Hosts("0.0.0.0", (), (origin,)), header, browser=True) is allowed


def test_origins_say_nothing_on_a_loopback_bind() -> None:
    assert not allows(Hosts("127.0.0.1", (), ("http://pronk.example", "*")), "pronk.example")


@pytest.mark.parametrize(("bind", "loopback"), [("127.0.0.1", True), ("::1", True), ("", False), ("0.0.0.0", False)])
def test_is_loopback(bind: str, loopback: bool) -> None:
    assert is_loopback(bind) is loopback
