"""What is told shows no secret, and is otherwise as it was."""

import base64
import subprocess
import sys
from urllib.parse import quote

import pytest

from slipway.components.support import secrets
from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact, redact_values

CANARY = "cAnary/9+x=Q z@7"

HIDDEN = {
    "user and password": f"no answer from http://slipway:{CANARY[:6]}@mlflow:5000/api",
    "a password alone": "redis://:Hunter2xx@redis:6379/0",
    "a token as the user": "https://Hunter2xx@git.example.org/a.git",
    "a password with an @": "http://u:Hunter2xx@tail@host/path",
    "a signed query": "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=Hunter2xx&versionId=3",
    "an Azure signature": "az://c/k?sv=2024&sig=Hunter2xx",
    "a Redis string": "redis:6379,password=Hunter2xx,ssl=true",
    "a bearer header": "{'Authorization': 'Bearer Hunter2xxHunter2xx'}",
    "a key of AWS": "credential AKIAHUNTER2XXHUNTER0",
}
SHOWN = (
    "s3://bucket/lake/part=1/x.parquet",
    "runs:/8a7/release-1/bundle and models:/shop@champion",
    "http://127.0.0.1:8080/v2/models/shop",
    "sqlite:////work/run/mlflow.db",
    "a@example.org asked https://host/a/@scope/package?versionId=3&partNumber=2",
    "deployment.secret=slipway-secrets has 3 tokens; the password is in the secret",
    "basic statistics: bearer of bad news",
)


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    shown = redact(text)
    assert shown != text
    for part in ("Hunter2xx", "tail@", CANARY[:6], "AKIA"):
        assert part not in shown
    # What a person needs stays: the server, and that there was something.
    for part in ("mlflow:5000/api", "redis:6379", "host/path", "versionId=3", "git.example.org"):
        assert (part in text) == (part in shown)
    assert redact(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abfss://raw@lake.dfs.core.windows.net/x", "abfss://raw@lake.dfs.core.windows.net/x"),
        ("abfss://raw:key@lake.dfs.core.windows.net/x", "abfss://lake.dfs.core.windows.net/x"),
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


@pytest.mark.parametrize("text", SHOWN)
def test_everything_else_is_shown_as_it_is(text: str) -> None:
    assert redact(text) == text


FORMS = {
    "as it is": CANARY,
    "in an address": quote(CANARY, safe=""),
    "as base64": base64.b64encode(CANARY.encode()).decode(),
}


GIVEN = {
    "a password": ("MLFLOW_TRACKING_PASSWORD", CANARY),
    "an address": ("MLFLOW_TRACKING_URI", f"http://slipway:{quote(CANARY, safe='')}@mlflow"),
    "an address, half quoted": (
        "MLFLOW_TRACKING_URI",
        f"http://slipway:{CANARY.replace(' ', '%20')}@mlflow",
    ),
    "a key": ("AWS_SECRET_ACCESS_KEY", CANARY),
    "a token": ("SLIPWAY_TOKEN", CANARY),
    "a connection string": ("FEAST_REDIS_URL", f"redis:6379,password={CANARY.replace(' ', '%20')}"),
}


@pytest.mark.parametrize(("name", "value"), GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("form", FORMS)
def test_what_the_process_was_given_is_hidden_in_every_form(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, form: str
) -> None:
    text = f"the server said {FORMS[form]!r}"
    assert FORMS[form] in redact(text)
    monkeypatch.setenv(name, value)
    assert redact(text) == "the server said '***'"


def test_a_basic_header_of_an_address_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    header = base64.b64encode(f"slipway:{CANARY}".encode()).decode()
    assert redact(f"sent {header}.") == f"sent {header}."
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://slipway:{quote(CANARY, safe='')}@mlflow")
    assert redact(f"sent {header}.") == "sent ***."


def test_a_value_that_a_route_names_is_hidden() -> None:
    text = "https://hooks.example.org/services/T0/B0/Xyzzy123 does not answer"
    assert redact(text) == text
    secrets.remember("https://hooks.example.org/services/T0/B0/Xyzzy123")
    assert redact(text) == "*** does not answer"


def test_a_short_value_hides_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "run")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", __file__)
    assert redact(f"the run reads {__file__}") == f"the run reads {__file__}"


def test_values_keep_their_shape() -> None:
    value = {"a": ["redis://:Hunter2xx@h", 3, None], "b": {"c": True}}
    assert redact_values(value) == {"a": ["redis://h", 3, None], "b": {"c": True}}


def test_an_error_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "Xyzzy12345")
    assert str(SlipwayError("It said Xyzzy12345.")) == "It said ***."


PROGRAM = """
import logging, sys, warnings
from slipway.components.support.stage import progress, stage
@stage("train")
def work():
    print("printed Xyzzy12345")
    print("printed Xyzzy12345", file=sys.stderr)
    warnings.warn("warned Xyzzy12345")
    logging.basicConfig()
    logging.getLogger("mlflow").error("logged Xyzzy12345")
    progress("said Xyzzy12345")
    raise ValueError("raised Xyzzy12345")
work()
"""


def test_no_way_out_of_a_stage_shows_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"SOME_TOKEN": "Xyzzy12345", "PATH": ""},
        capture_output=True,
        text=True,
    )
    seen = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Xyzzy12345" not in seen
    for word in ("printed", "warned", "logged", "said", "raised"):
        assert f"{word} ***" in seen, seen
