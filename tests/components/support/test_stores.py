"""A store that accepts connections and never answers is given up, and named."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.fault_proxy import faulty

from slipway.components.support import stores

PROGRAM = """
import sys
if "first" in sys.argv:
    import fsspec
from slipway.components.support import stage, stores

class Done:
    headline = ""

@stage.stage("ingest")
def work():
    from slipway.components.monitor import state
    state.read("s3://bucket/x")
    return Done()

stores.bound_stores(read_seconds=0.3)  # the same way, in less time
work()
"""


def ask_silent_store(*arguments: str) -> tuple[float, str, int]:
    """Seconds, what was said, and how often the store was asked."""
    with faulty(1, faults=("silent",)) as proxy:
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "eu-central-1",
        }
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=environment,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1
        return time.monotonic() - started, done.stdout + done.stderr, proxy.count["silent"]


def test_a_silent_store_is_given_up_and_named() -> None:
    for arguments in ((), ("first",)):  # also where fsspec was imported before
        seconds, told, asked = ask_silent_store(*arguments)
        assert "s3://bucket/x cannot be read: Read timeout" in told, told
        assert asked == 4, "twice by s3fs, twice each"
        assert seconds < 30


SILENT = """
import os, sys
from slipway.components.ingest.sources import locate
from slipway.components.support import stores
stores.bound_stores(read_seconds=0.3)
locate("orders", sys.argv[1], "parquet")
"""
AZURE = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YWJj;BlobEndpoint=http://{host}/a;"


@pytest.mark.parametrize(
    ("uri", "variable", "value", "most"),
    [
        ("gs://bucket/x.parquet", "STORAGE_EMULATOR_HOST", "http://{host}", 4),
        ("abfss://c@a.dfs.core.windows.net/x", "AZURE_STORAGE_CONNECTION_STRING", AZURE, 4),
    ],
)
def test_the_other_clouds_are_given_up_too(uri: str, variable: str, value: str, most: int) -> None:
    """By themselves they wait between their tries, for 72 and 113 s."""
    with faulty(1, faults=("silent",)) as proxy:
        environment = {"PATH": "", variable: value.format(host=f"127.0.0.1:{proxy.port}")}
        done = subprocess.run(
            [sys.executable, "-c", SILENT, uri],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1 and f"{uri} cannot be read" in done.stderr, done.stderr
        assert 1 < proxy.count["silent"] <= most


def test_the_whole_wait_has_a_bound() -> None:
    assert stores.ATTEMPTS**2 * stores.READ_SECONDS <= 25
    assert stores.CONNECT_SECONDS <= stores.READ_SECONDS


CLIENTS = """
from slipway.components.support import stores
stores.bound_stores()
import gcsfs, fsspec.config, s3fs, boto3
from azure.storage.blob._shared import base_client_async as azure
google = fsspec.config.conf["gs"]["requests_timeout"]
assert google == fsspec.config.conf["gcs"]["requests_timeout"]
amazon = boto3.client("s3", region_name="eu-central-1").meta.config
print(google.sock_connect, google.sock_read, google.total)
print(azure.CONNECTION_TIMEOUT, azure.READ_TIMEOUT, None)
print(amazon.connect_timeout, amazon.read_timeout, None)
print(s3fs.S3FileSystem.retries)
"""


def test_each_library_has_the_bounds() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENTS], capture_output=True, text=True, check=True
    )
    *bounds, tries = done.stdout.splitlines()
    assert bounds == [f"{stores.CONNECT_SECONDS} {stores.READ_SECONDS} None"] * 3
    assert tries == str(stores.ATTEMPTS)


def test_a_person_s_own_settings_stay() -> None:
    own = json.dumps({"config_kwargs": {"read_timeout": 30}})
    program = (
        "from slipway.components.support.stores import bound_stores; bound_stores();"
        "import os, fsspec; print(os.environ['FSSPEC_S3'], os.environ['AWS_MAX_ATTEMPTS'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "", "FSSPEC_S3": own, "AWS_MAX_ATTEMPTS": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"{own} 7"
