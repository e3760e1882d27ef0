"""Whose request it is: the peer's address, unless the peer is a proxy that the operator trusts."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address of the caller.

    `forwarded` are the `X-Forwarded-For` headers. They are read from the right, as long as each address is a trusted
    proxy's: everything left of the first other address may be invented by the caller.
    """
    if not trusted or not forwarded:
        return peer
    client = peer
    for hop in reversed(",".join(forwarded).split(",")):
        if not _trusted(client, trusted):
            break
        try:
            client = str(ipaddress.ip_address(hop.strip()))
        except ValueError:
            break
    return client


def _trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    # A listener for both protocols shows IPv4 peers as ::ffff:192.0.2.1.
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed in network for network in trusted)
