import ipaddress

import pytest

from herdgate.front.address import client_address

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7", "10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.66, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("fd00::1", ["2001:DB8::0007"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        # not a proxy of ours: whatever it says is invented
        ("192.0.2.1", ["192.0.2.7"], "192.0.2.1"),
        ("11.0.0.1", ["192.0.2.7"], "11.0.0.1"),
        ("::ffff:192.0.2.1", ["192.0.2.7"], "::ffff:192.0.2.1"),
        ("", ["192.0.2.7"], ""),
        # not an address: the last proxy that can be believed
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, garbage\r\nx, 10.0.0.2"], "10.0.0.2"),
    ],
)
def test_only_a_trusted_proxy_is_believed_about_who_calls(peer: str, forwarded: list[str], client: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == client


def test_without_trusted_proxies_the_peer_is_the_caller() -> None:
    assert client_address("10.0.0.1", ["192.0.2.7"], []) == "10.0.0.1"
