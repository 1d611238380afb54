"""Addresses of metadata services, in every form that leads there, and those that do not."""

import socket
from typing import Any

import pytest

from slipway.components.support.addresses import refuse_metadata
from slipway.components.support.errors import SlipwayError

REFUSED = [
    "http://169.254.169.254/latest/meta-data/",
    "https://user@169.254.169.254:443/x",
    "http://169.254.170.2/credentials",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1%25eth0]/",
    "http://[::ffff:169.254.169.254]/",
    "http://100.100.100.200/latest/",
    # Numbers as inet_aton reads them.
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
]
TAKEN = [
    "https://data.example.com/flights.parquet",
    "http://10.0.0.7:9000/bucket/x.csv",
    "http://127.0.0.1:5000/hook",
    "http://[::1]:80/",
    "/a/path",
    "s3://169.254.169.254.example/x",
    "http://[broken/",
    "mailto://",
]


@pytest.mark.parametrize("address", REFUSED)
def test_refused(address: str) -> None:
    with pytest.raises(SlipwayError, match=r"Table t: .* is a cloud's metadata service"):
        refuse_metadata(address, "Table t")


@pytest.mark.parametrize("address", TAKEN)
def test_taken(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: str, *more: Any, **options: Any) -> Any:
        if "example" in host:
            raise socket.gaierror("nobody is asked in a test")
        return real(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    refuse_metadata(address, "Table t")


def test_a_name_that_leads_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(SlipwayError, match=r"metadata\.google\.internal is a cloud's metadata"):
        refuse_metadata("http://metadata.google.internal/computeMetadata/v1/", "Table t")
