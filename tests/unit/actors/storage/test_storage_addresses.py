"""How far inside an address lies."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.sources.addresses import Depth, depth_of, depth_of_host

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:800::200e"]
PRIVATE = [
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1"),
    *("fd12:3456::1",),
]
LOCAL = [
    *("127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1"),
    *("fe80::1%eth0", "224.0.0.1", "239.255.255.250", "ff02::1", "255.255.255.255", "240.0.0.1"),
    *("192.0.2.1", "198.18.0.1", "203.0.113.9", "2001:db8::1", "0.1.2.3"),
]


@pytest.mark.parametrize(
    ("address", "depth"),
    [(a, Depth.PUBLIC) for a in PUBLIC]
    + [(a, Depth.PRIVATE) for a in PRIVATE]
    + [(a, Depth.LOCAL) for a in LOCAL],
)
def test_an_address_lies_where_its_registry_says(address: str, depth: Depth) -> None:
    assert depth_of(address) is depth


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_lies_as_deep_in_every_way_of_writing_it(
    address: ipaddress.IPv4Address,
) -> None:
    depth = depth_of(str(address))
    number = int(address)
    assert depth_of(f"::ffff:{address}") is depth
    assert depth_of(f"64:ff9b::{address}") is depth
    assert depth_of(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1))) is depth
    if number > 1:
        assert depth_of(f"::{address}") is depth


@given(st.ip_addresses())
def test_every_address_has_a_depth_and_a_private_one_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    depth = depth_of(str(address))
    if address.is_loopback or address.is_link_local or address.is_multicast:
        assert depth is Depth.LOCAL
    if isinstance(address, ipaddress.IPv4Address) and address.is_private:
        assert depth is not Depth.PUBLIC


@pytest.mark.parametrize(
    ("host", "depth"),
    [
        *(("models.example", Depth.PUBLIC), ("8.8.8.8", Depth.PUBLIC), ("face", Depth.PUBLIC)),
        *(("localhost", Depth.LOCAL), ("LOCALHOST.", Depth.LOCAL), ("a.localhost", Depth.LOCAL)),
        *(("[::1]", Depth.LOCAL), ("::ffff:192.168.0.1", Depth.PRIVATE)),
        *(("127.1", Depth.LOCAL), ("0x7f.1", Depth.LOCAL), ("2130706433", Depth.LOCAL)),
        *(("0177.0.0.1", Depth.LOCAL), ("0x7f000001", Depth.LOCAL), ("10.0.0.1.", Depth.PRIVATE)),
    ],
)
def test_a_hosts_name_is_judged_as_far_as_it_says_something(host: str, depth: Depth) -> None:
    assert depth_of_host(host) is depth
