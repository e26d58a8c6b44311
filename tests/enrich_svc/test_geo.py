"""What an address tells of a place, and what is kept of it."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrich_svc.geo import Geographer, Place


@pytest.mark.parametrize(
    ("ip", "country", "kept"),
    [
        ("8.8.8.8", "US", "8.8.8.0"),
        (" 200.147.3.157 ", "BR", "200.147.3.0"),
        ("133.242.0.17", "JP", "133.242.0.0"),
        ("193.0.6.139", "NL", "193.0.6.0"),
        ("41.77.118.200", "MA", "41.77.118.0"),
        ("2001:4860:4860::8888", "US", "2001:4860:4860::"),
        ("2A02:0898:0052::1", "NL", "2a02:898:52::"),
        ("2a02:898:52:ffff:1:2:3:4", "NL", "2a02:898:52::"),
        ("::ffff:8.8.8.8", "US", "8.8.8.0"),
        ("2002:808:808::1", "US", "8.8.8.0"),
        ("2001:4860:4860::8888%eth0", "US", "2001:4860:4860::"),
    ],
)
def test_public_addresses(geographer: Geographer, ip: str, country: str, kept: str) -> None:
    """A public address keeps 24 of 32 bits, or 48 of 128; an IPv4 address inside an IPv6 one counts as itself."""
    assert geographer.locate(ip) == Place(country, kept)


@pytest.mark.parametrize(
    "ip",
    [
        *("10.0.0.1", "172.16.5.4", "192.168.1.1", "127.0.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0"),
        *("192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "2001::1", "64:ff9b::808:808"),
        *("::ffff:10.0.0.1", "2002:a00:1::1"),
    ],
)
def test_addresses_that_are_not_public(geographer: Geographer, ip: str) -> None:
    """Private, shared, local, documentation, multicast, reserved and tunnelled private addresses give nothing."""
    assert geographer.locate(ip) is None


@pytest.mark.parametrize(
    "ip", ["", " ", "bad", "8.8.8", "8.8.8.8.8", "008.8.8.8", "8.8.8.8:80", "[::1]", "٨.8.8.8", "1e3"]
)
def test_malformed_addresses(geographer: Geographer, ip: str) -> None:
    """What is no address gives nothing."""
    assert geographer.locate(ip) is None


@pytest.mark.parametrize("answer", ["EU", "AP", "ZZ", None])
def test_a_region_is_no_country(answer: str | None) -> None:
    """Codes that registries use for regions are no ISO 3166-1 countries: the country stays empty."""
    assert Geographer(lambda _: answer).locate("8.8.8.8") == Place("", "8.8.8.0")


@given(address=st.ip_addresses())
def test_the_host_part_never_gets_out(address: object) -> None:
    """Whatever the address, what is kept is the network of a /24 or a /48, and is public itself."""
    place = Geographer(lambda _: "NL").locate(str(address))
    if place is None:
        return
    kept = ip_address(place.truncated_ip)
    assert ip_network(f"{kept}/{24 if kept.version == 4 else 48}").network_address == kept


@given(text=st.text(max_size=45))
def test_never_raises_and_is_pure(text: str) -> None:
    """Any text is read without an error, and twice the same."""
    geographer = Geographer(lambda _: None)
    assert geographer.locate(text) == geographer.locate(text)
