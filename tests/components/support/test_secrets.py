"""What is told shows no secret, and is otherwise as it was."""

import base64
import html
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from slipway.components.support import secrets
from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact, redact_values

CANARY = "cAnary/9+x=Q'\"%&<z@7ü\\"

HIDDEN = {
    "user and password": f"no answer from http://slipway:{CANARY[:6]}@mlflow:5000/api",
    "a password alone": "redis://:Hunter2xx@redis:6379/0",
    "a token as the user": "https://Hunter2xx@git.example.org/a.git",
    "a password with an @": "http://u:Hunter2xx@tail@host/path",
    "a signed query": "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=Hunter2xx&versionId=3",
    "an Azure signature": "az://c/k?sv=2024&sig=Hunter2xx",
    "a Redis string": "redis:6379,password=Hunter2xx,ssl=true",
    "a bearer header": "{'Authorization': 'Bearer Hunter2xxHunter2xx'}",
    "a call": "Redis(host='redis:6379', password='Hunter2xx')",
    "an answer": """{"access_token": "Hunter2xx", "expires": 60}""",
    "a dict": "{'password': 'Hunter2xx', 'host': 'host/path'}",
    "an address inside another": "https://login/?next=http%3A%2F%2Fu%3AHunter2xx%40host/path",
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
    "as it is": str,
    "in an address": lambda text: quote(text, safe=""),
    "in an address, in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f"),
    "in an address, but for slashes": quote,
    "in a form": quote_plus,
    "in an address inside another": lambda text: quote(quote(text, safe=""), safe=""),
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON inside JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "in JSON as PHP writes it": lambda text: json.dumps(text)[1:-1].replace("/", r"\/"),
    "as Python shows it": lambda text: repr(text)[1:-1],
    "as Python shows bytes": lambda text: repr(text.encode())[2:-1],
    "in HTML": html.escape,
    "as base64": lambda text: base64.b64encode(text.encode()).decode(),
    "as base64 of an address": lambda text: base64.b64encode(f"u:{text}@h".encode()).decode(),
    "as base64 of more": lambda text: base64.b64encode(f"the {text}".encode()).decode(),
    "as base64 of Latin-1": lambda text: base64.b64encode(text.encode("latin-1")).decode(),
    "in an address, as Latin-1": lambda text: quote(text, safe="", encoding="latin-1"),
    "read as Latin-1": lambda text: text.encode().decode("latin-1"),
    "read as UTF-8": lambda text: text.encode("latin-1").decode(errors="replace"),
    "as base64 for addresses": lambda text: base64.urlsafe_b64encode(f"{text}?".encode()).decode(),
}


GIVEN = {
    "a password": ("MLFLOW_TRACKING_PASSWORD", CANARY),
    "a database with quotes": (
        "MLFLOW_TRACKING_URI",
        f"postgresql://u:{CANARY.replace(' ', '%20')}@db/x",
    ),
    "a webhook": ("OPS_WEBHOOK_URL", CANARY),
    "a store's string": ("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=a;AccountKey={CANARY}"),
    "a server's password": ("SMTP_PASS", CANARY),
    "an address": ("MLFLOW_TRACKING_URI", f"http://slipway:{quote(CANARY, safe='')}@mlflow"),
    "an address, half quoted": (
        "MLFLOW_TRACKING_URI",
        f"http://slipway:{CANARY.replace(' ', '%20')}@mlflow",
    ),
    "a mail server, with addresses behind": (
        "OPS_MAIL",
        f"mailto://u:{quote(CANARY, safe='')}@h:25/?to=ops@example.org&from=a@example.org",
    ),
    "a database, with an @ behind": (
        "MLFLOW_TRACKING_URI",
        f"postgresql://u:{quote(CANARY, safe='')}@h/x?application_name=a@b",
    ),
    "a password in a query": (
        "MLFLOW_TRACKING_URI",
        f"postgresql://h/x?user=u&password={quote(CANARY, safe='')}&sslmode=require",
    ),
    "a database's words": (
        "DATABASE_SETTINGS",
        f"host=h user=u password={quote(CANARY, safe='')} sslmode=require",
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
    shown = FORMS[form](CANARY)
    text = f"the server said |{shown}|"
    assert shown in redact(text)
    monkeypatch.setenv(name, value)
    assert redact(text) == "the server said |***|"


def test_a_part_of_a_key_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed line by line."""
    body = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"]
    monkeypatch.setenv(
        "MODEL_PRIVATE_KEY", "\n".join(["-----BEGIN X-----", *body, "-----END X-----"])
    )
    assert [redact(line) for line in ("-----END X-----", *body)] == [
        "-----END X-----",
        "***",
        "***",
    ]


def test_long_texts_take_no_long_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PASSWORD", CANARY)
    for text in (
        "a" * 200_000,
        "http://" * 30_000,
        "'x" * 100_000,
        "A=" * 100_000,
        "%40" * 50_000,
        "a." * 100_000,
    ):
        started = time.process_time()
        assert redact(text) == text
        assert time.process_time() - started < 5


def test_long_variables_take_no_long_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, value in enumerate(("x" * 100_000, "a.b-" * 25_000, "http://" * 15_000)):
        monkeypatch.setenv(f"LONG_{number}", value)
    started = time.process_time()
    assert redact("nothing to hide") == "nothing to hide"
    assert time.process_time() - started < 5


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


ENTRIES = {
    "the predictor": "from slipway.serving import server; server.serve = fail; name = 'slipway.serving'",
    "the supervisor": "asyncio.run = fail; name = 'slipway.serving.supervisor'",
    "the transformer": "import uvicorn; uvicorn.run = fail; name = 'slipway.serving.online.transformer'",
    "a worker": "import torch.distributed as d; d.init_process_group = fail;"
    "from slipway.components.train.distributed import processes; processes.read_job = fail;"
    "name = 'slipway.components.train.distributed.worker'",
    "the command": "from slipway.commands import cli; cli.app = fail; cli.main()",
}
ENTRY = """
import asyncio, runpy, socket, sys
def fail(*_, **__):
    raise ValueError("raised Xyzzy12345")
sys.argv = ["x", *sys.argv[1:]]
{entry}
runpy.run_module(name, run_name="__main__")
"""


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_program_ends_with_one(entry: str, tmp_path: Path) -> None:
    """An exception that nobody took is printed by the interpreter, after all else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = {
            "the supervisor": [str(tmp_path), str(listener.fileno())],
            "the transformer": ["--model_name=m", "--predictor_host=h"],
            "a worker": [str(tmp_path)],
        }
        done = subprocess.run(
            [sys.executable, "-c", ENTRY.format(entry=ENTRIES[entry]), *arguments.get(entry, [])],
            env={"SOME_TOKEN": "Xyzzy12345", "SLIPWAY_DEBUG": "1", "PATH": ""},
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1 and "raised ***" in done.stderr, done.stderr
    assert "Xyzzy12345" not in done.stdout + done.stderr.replace('"raised Xyzzy12345"', "")


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


def test_a_connection_string_inside_an_address_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Du%3BPWD%3Dc%40nary-of-odbc"
    assert "nary" not in redact(f"cannot connect to {address}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert redact("Login failed: c@nary-of-odbc") == "Login failed: ***"
