"""Addresses that nobody means: a cloud's metadata service hands a pod's credentials to whoever asks.

A pipeline's parameters can be changed by whoever may start a run, so the address of a table or of an
alert route may come from somebody who has no access to the pod itself.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from slipway.components.support.errors import SlipwayError

# AWS, GCP and Azure answer at link-local addresses, AWS at the third too; Alibaba at the last.
_METADATA = tuple(
    map(
        ipaddress.ip_network,
        ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32"),
    )
)


def refuse_metadata(address: str, what: str) -> None:
    """Refuses a URL whose host is, or leads to, a metadata service.

    The network policies of `slipway stack render` keep pods from it too: a name may lead elsewhere a
    moment later.

    Args:
        address: a URL; one without a host is let pass.
        what: it is, for the message: "Table flights".

    Raises:
        SlipwayError: it leads there.
    """
    try:
        host = urlsplit(address).hostname
    except ValueError:
        return
    for found in _resolve(host) if host else ():
        if any(found in network for network in _METADATA if network.version == found.version):
            raise SlipwayError(
                f"{what}: {host} is a cloud's metadata service, which gives out the credentials of this"
                " machine. It is no place for data or alerts."
            )


def _resolve(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses of a host; none where nobody knows it: whoever connects will say so."""
    try:
        # A zone, as in fe80::1%eth0, is written %25 in a URL and may be one that is not here.
        found = socket.getaddrinfo(host.partition("%")[0], None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    addresses = [ipaddress.ip_address(str(entry[4][0])) for entry in found]
    # ::ffff:169.254.169.254 is the same machine.
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]
