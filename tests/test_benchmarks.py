"""`make bench` runs whole: what cannot run here says so, and the others go on."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as bench


def end_with(code: object) -> Any:
    def main() -> None:
        raise SystemExit(code)

    return main


def run(monkeypatch: pytest.MonkeyPatch, benches: dict[str, Any], *names: str) -> object:
    """The exit code of a run, with these in place of the benchmarks."""
    asked: list[str] = []

    def import_module(name: str) -> SimpleNamespace:
        asked.append(name.removeprefix("benchmarks."))
        return SimpleNamespace(main=benches.get(asked[-1], lambda: None))

    monkeypatch.setattr(bench.importlib, "import_module", import_module)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *names])
    with pytest.raises(SystemExit) as end:
        bench.main()
    benches["asked"] = asked
    return end.value.code


def test_all_are_run_whatever_one_of_them_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benches: dict[str, Any] = {
        "serve": end_with("wrk is not installed."),
        "feature_values": end_with(0),
    }
    assert run(monkeypatch, benches) == 0
    folder = Path(bench.__file__).parent
    having = {path.stem for path in folder.glob("*.py") if "\ndef main(" in path.read_text()}
    assert set(benches["asked"]) == having - {"__main__"}
    assert "serve_peers" not in benches["asked"]
    assert "serve did not run: wrk is not installed." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "said"), [("wrk is not installed.", "wrk is not"), (1, "compile failed")]
)
def test_one_that_is_named_must_run(
    code: object, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, {"compile": end_with(code)}, "compile", "rank") == 1
    assert said in capsys.readouterr().err


def test_one_that_breaks_fails_the_run_after_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benches: dict[str, Any] = {"compile": lambda: 1 / 0}
    assert run(monkeypatch, benches) == 1
    assert benches["asked"][-1] != "compile"
    assert "compile failed: ZeroDivisionError" in capsys.readouterr().err


def test_an_unknown_one_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There are: compile," in str(run(monkeypatch, {}, "no_such"))
