"""Which addresses are public, in every way of writing them."""

import pytest

from registry.remote.addresses import Reach, is_address, is_public, resolve

PUBLIC = ["8.8.8.8", "104.21.75.227", "2606:4700:4700::1111", "::ffff:8.8.8.8", "::8.8.8.8", "2002:808:808::"]
PRIVATE = [
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.9.9.9", "100.64.0.1", "198.18.0.1", "192.0.2.1"),
    *("240.0.0.1", "255.255.255.255", "::1", "fd00::1", "fec0::1", "2001:db8::1"),
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "::127.0.0.1", "2002:a00:1::"),
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]
NOWHERE = [
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)
    assert all(reach.allows(address) for reach in Reach)


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    assert not is_public(address)
    assert [reach for reach in Reach if reach.allows(address)] == [Reach.ANYWHERE, Reach.NEAR]


@pytest.mark.parametrize("address", NOWHERE)
def test_nobody_may_send_us_to_a_machines_surroundings(address: str) -> None:
    assert [reach for reach in Reach if reach.allows(address)] == [Reach.ANYWHERE]


def test_names_are_no_addresses() -> None:
    assert [host for host in ("127.0.0.1", "::1", "2130706433", "0x7f.1", "localhost", "") if is_address(host)] == [
        "127.0.0.1",
        "::1",
    ]


async def test_the_system_resolves_odd_spellings() -> None:
    assert await resolve("2130706433", 80) == ["127.0.0.1"]
    with pytest.raises(OSError, match=r"not known|resolution"):
        await resolve("no-such-host.invalid", 80)
