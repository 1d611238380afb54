"""Where a stage's settings come from, and which of two servers counts."""

import pytest

from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError


@pytest.mark.parametrize(
    ("set_", "expected"),
    [
        ({"MLFLOW_TRACKING_URI": "http://a"}, "http://a"),
        ({"SLIPWAY_TRACKING_URI": "http://b"}, "http://b"),
        # Where Kubeflow's plug-in opened the task's run, that run's server counts.
        ({"MLFLOW_TRACKING_URI": "http://a", "SLIPWAY_TRACKING_URI": "http://b"}, "http://a"),
        ({"MLFLOW_TRACKING_URI": " ", "SLIPWAY_TRACKING_URI": "http://b"}, "http://b"),
    ],
)
def test_the_tracking_server(
    set_: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "SLIPWAY_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_.items():
        monkeypatch.setenv(name, value)
    assert environment.tracking_uri() == expected


@pytest.mark.parametrize("name", ["FEATURE_STORE_URI", "INFERENCE_LOG_URI", "MONITORING_URI"])
def test_the_address_of_a_store_holds_no_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = getattr(environment, name.lower())
    for uri in ("s3://bucket/x", "/a b/c@d", "abfss://raw@lake.dfs.core.windows.net/x"):
        monkeypatch.setenv(name, uri)
        assert read() == uri
    for uri in (
        "s3://key:Xyzzy123@bucket/x",
        "abfss://raw:Xyzzy123@lake.dfs.net",
        "az://c?sig=Xyzzy123",
    ):
        monkeypatch.setenv(name, uri)
        with pytest.raises(SlipwayError, match=f"{name} holds a key") as caught:
            read()
        assert "Xyzzy123" not in str(caught.value)


def test_without_any_the_name_that_a_person_sets_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "SLIPWAY_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SlipwayError, match="MLFLOW_TRACKING_URI is not set"):
        environment.tracking_uri()
