"""Addresses without what opens them."""

import pytest

from slipway.components.support.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ada:Gr4phite@host:5000/x", "http://host:5000/x"),
        ("https://token@host", "https://host"),
        ("'http://a:b@c@host/x', twice http://u@h", "'http://host/x', twice http://h"),
        ("s3://bucket/runs:/x@y", "s3://bucket/runs:/x@y"),
        ("mail ada@example.org", "mail ada@example.org"),
        ("https://h/x?token=abc&part=test", "https://h/x?token=***&part=test"),
        ("https://h/x?part=1&X-Amz-Signature=abc)", "https://h/x?part=1&X-Amz-Signature=***)"),
        ("https://h/x?sig=abc&design=round", "https://h/x?sig=***&design=round"),
        ("redis:6379,password=abc,db=1", "redis:6379,password=***,db=1"),
        ("sqlite:////tmp/my runs/mlflow.db", "sqlite:////tmp/my runs/mlflow.db"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


def test_values_of_secret_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a1b2c3d4")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "no")
    monkeypatch.setenv("PWD", "/home/ada")
    assert redact("Bearer a1b2c3d4 has no rights in /home/ada") == (
        "Bearer *** has no rights in /home/ada"
    )
