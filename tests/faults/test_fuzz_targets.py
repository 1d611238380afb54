"""Bounded runs of the fuzz targets of `fuzz/`; that they can find something; OSS-Fuzz's layout."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "fuzz"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_targets", FOLDER / "targets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_targets"] = module
    spec.loader.exec_module(module)
    return module


targets = load()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_bytes_get_a_refusal_and_nothing_else(name: str) -> None:
    tried, wrong = targets.fuzz(name, seed=19, seconds=20, most=60)
    assert wrong == [] and tried > 5


DEEP = b"[" * 2_000
FOUND = {
    # Each once gave what no person can read: found by these targets.
    "bundle": DEEP,
    "verdict": DEEP,
    "route_state": DEEP,
    "jsonl": b'{"at": ' + b'{"a": ' * 1_500,
    "schema": b'{"tables": {"t": {"properties": {"a": {"type": "number", "minimum": Infinity}}}}}',
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_refused(name: str) -> None:
    assert targets.judge(targets.TARGETS[name], FOUND[name]) == ""


def test_a_damaged_name_in_a_log_segment_is_refused() -> None:
    (segment,) = targets.TARGETS["log"].seeds()
    damaged = segment.replace(b"status", b"s\xa8atus")
    assert targets.judge(targets.TARGETS["log"], damaged) == ""


def test_an_exception_a_hang_and_a_flood_of_words_would_be_seen() -> None:
    def spin(data: bytes) -> None:
        for _ in range(10**9):
            if targets.time.process_time() - started > 1.3:
                return

    def fail(data: bytes) -> None:
        raise OverflowError("a library's")

    def flood(data: bytes) -> None:
        raise targets.SlipwayError("x" * 9_000)

    started = targets.time.process_time()
    for read, wrong in ((fail, "OverflowError"), (spin, r"^1\.\d s"), (flood, "9000 characters")):
        target = targets.FuzzTarget(read=read, seeds=lambda: [b""])
        assert re.search(wrong, targets.judge(target, b"a"))


def test_oss_fuzz_has_one_file_a_target() -> None:
    files = {path.stem.removeprefix("fuzz_"): path for path in FOLDER.glob("fuzz_*.py")}
    assert files.keys() == targets.TARGETS.keys()
    for name, path in files.items():
        assert f'run_atheris("{name}")' in path.read_text()
    build = (FOLDER / "build.sh").read_text()
    assert "fuzz/fuzz_*.py" in build and "compile_python_fuzzer" in build
    assert (FOLDER / "build.sh").stat().st_mode & 0o111
