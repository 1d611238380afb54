"""Bounded runs of the fuzz targets of `fuzz/`; that they can find something; OSS-Fuzz's layout."""

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fuzz.harness import FuzzTarget, explore, judge
from fuzz.targets import TARGETS, fuzz, write_seeds
from slipway.components.support.errors import SlipwayError
from slipway.serving.errors import RequestError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_get_a_refusal_and_nothing_else(name: str) -> None:
    found = fuzz(name, seed=19, seconds=4, most=2_000)
    assert found.wrong == [] and found.tried > 20 and found.kinds > 3


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_taken(name: str) -> None:
    """Else a run would try the first line of a reader alone."""
    taken = []
    for seed in TARGETS[name].seeds():
        with contextlib.suppress(SlipwayError, RequestError):
            TARGETS[name].read(seed)
            taken.append(seed)
    assert taken


DEEP = b"[" * 2_000
FOUND = {
    # Each once gave what no person can read: found by these targets.
    "bundle": DEEP,
    "training": DEEP,
    "verdict": DEEP,
    "route_state": DEEP,
    "jsonl": b'{"at": ' + b'{"a": ' * 1_500,
    "schema": b'{"tables": {"t": {"properties": {"a": {"type": "number", "minimum": Infinity}}}}}',
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_refused(name: str) -> None:
    assert judge(TARGETS[name], FOUND[name]).wrong == ""


def test_a_damaged_name_in_a_log_segment_is_refused() -> None:
    (segment,) = TARGETS["log"].seeds()
    damaged = segment.replace(b"status", b"s\xa8atus")
    assert judge(TARGETS["log"], damaged).wrong == ""


def test_a_damaged_name_anywhere_in_a_parquet_file_is_refused() -> None:
    """A footer has each column's name more than once: in the schema, and in each row group."""
    whole, place, seen = TARGETS["parquet"].seeds()[0], -1, []
    while (place := whole.find(b"at", place + 1)) >= 0:
        judged = judge(TARGETS["parquet"], whole[:place] + b"\xb1" + whole[place + 1 :])
        assert judged.wrong == ""
        seen.append("codec can't decode" in judged.kind)
    assert seen.count(True) > 1


def _spin(data: bytes) -> None:
    until = time.process_time() + 1.3
    while time.process_time() < until:
        pass


def _raising(error: Exception) -> FuzzTarget:
    def read(data: bytes) -> None:
        raise error

    return FuzzTarget(read=read, seeds=lambda: [b""])


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        (_raising(OverflowError("a library's")), "OverflowError"),
        (_raising(SlipwayError("x" * 9_000)), "9000 characters"),
        (_raising(SlipwayError("Traceback (most recent call last)")), "a traceback"),
        (_raising(RequestError("x" * 501)), "400 xxx"),
        (_raising(RequestError("it broke", 500)), "500 it broke"),
        (FuzzTarget(read=_spin, seeds=lambda: [b""]), r"^1\.\d s"),
    ],
)
def test_what_is_no_refusal_would_be_seen(target: FuzzTarget, wrong: str) -> None:
    assert re.search(wrong, judge(target, b"a").wrong)


def test_a_short_refusal_is_right() -> None:
    assert judge(_raising(SlipwayError("No.")), b"a").wrong == ""
    assert judge(_raising(RequestError("No.", 422)), b"a").wrong == ""


def test_what_showed_something_new_is_changed_further() -> None:
    """A reader with three doors, one behind the other: chance alone finds the last one too seldom."""

    def read(data: bytes) -> str:
        for number, door in enumerate((b"PAR1", b"NaN", b"null")):
            if door not in data:
                return "abc"[number]
        raise OverflowError("behind the last door")

    found = explore("doors", FuzzTarget(read=read, seeds=lambda: [b"x" * 30]), 1, 20)
    assert found.wrong and found.tried < 20_000


def test_oss_fuzz_makes_one_fuzzer_of_each_target(tmp_path: Path) -> None:
    build = (ROOT / "fuzz" / "build.sh").read_text()
    assert "compile_python_fuzzer" in build and "fuzz.targets names" in build
    assert (ROOT / "fuzz" / "build.sh").stat().st_mode & 0o111
    named = subprocess.run(
        [sys.executable, "-m", "fuzz.targets", "names"], cwd=ROOT, capture_output=True, text=True
    )
    assert named.stdout.split() == list(TARGETS)
    write_seeds("routes", tmp_path)
    assert [json.loads(path.read_text())[0]["name"] for path in tmp_path.iterdir()] == ["ops"]


def test_every_change_is_fuzzed_for_five_minutes_with_inputs_of_its_own() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/check.yaml").read_text())["jobs"]
    [command] = [step["run"] for step in jobs["fuzz"]["steps"] if "run" in step]
    made = re.fullmatch(r"make fuzz SEED=\$\{\{ github.run_number }} FUZZ_SECONDS=(\d+)", command)
    assert made and int(made[1]) * len(TARGETS) >= 300
