"""What a person sees: at 80 and 120 columns, in a pipe, as JSON, and what completion offers."""

import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from slipway.commands.cli import GROUPS, app
from slipway.commands.console.runs import (
    Display,
    quality,
    short_window,
    show_monitoring,
    show_places,
    show_result,
    show_status,
    show_verdict,
)
from slipway.commands.console.terminal import say, wrapped
from slipway.components.contracts.monitoring.monitoring_record import (
    Alert,
    DriftStatus,
    MLSystemMetrics,
    MonitoringRecord,
)
from slipway.components.contracts.release import Deployment, Release
from slipway.components.contracts.verdict import RuleResult, Verdict
from slipway.components.support.errors import SlipwayError
from slipway.local.job import RunResult
from slipway.local.runner.execution import TaskRun
from slipway.local.workspace import Workspace

SLIPWAY = Path(sys.executable).parent / "slipway"
ROOT = Path(__file__).parents[2]
LONG = "Most likely the bound is higher than these data allow: set it between the constant and AUC."


def rule(name: str, metric: str, outcome: Any, reason: str = "") -> RuleResult:
    return RuleResult(name=name, metric=metric, outcome=outcome, reason=reason, threshold=0.6)


def verdict(outcome: Any = "fail") -> Verdict:
    return Verdict(
        outcome=outcome,
        rules=(
            rule("accuracy", "accuracy", "pass"),
            rule("auc", "auc", outcome, "AUC is below 0.95: 0.90541."),
            rule("champion accuracy", "accuracy", outcome, f"It is worse. {LONG}"),
            rule("test rows", "rows", "pass"),
        ),
        metrics={"accuracy": 0.815, "auc": 0.90541},
        thresholds={"accuracy": 0.6, "auc": 0.95},
        model_hash="a" * 64,
        data_hash="b" * 64,
        test_rows=400,
        notes={"remedies": [f"auc: {LONG}"] if outcome == "fail" else [], "advice": [LONG]},
    )


def served() -> RunResult:
    record = MonitoringRecord(
        model="shop",
        window=("2024-01-17T00:00:00Z", "2024-01-21T00:00:00Z"),
        metrics=MLSystemMetrics(
            timestamp="2024-01-21T00:00:00Z", model_version="1", model_accuracy=0.8,
            prediction_latency_ms=1.8, throughput_rps=1.0, error_rate=0.0, data_drift_score=0.1,
            feature_drift_score=0.2,
        ),
        drift_status="stable",
        summary={"current_accuracy": 0.8, "avg_latency": 1.8, "total_predictions": 1400},
        alerts=(
            Alert(name="LOW_ACCURACY", severity="critical", value=0.8, threshold=0.85, message=LONG),
        ),
        retrain=False,
    )  # fmt: skip
    return RunResult(
        project="shop",
        verdict=verdict("pass"),
        release=Release(
            name="shop", model_version="1", alias="challenger", run_id="r", bundle_uri="b",
            model_hash="a" * 64, reference_uri="c",
        ),
        deployment=Deployment(
            name="shop", endpoint="http://127.0.0.1:8080", target="local", model_version="1",
            model_hash="a" * 64, inference_log="log",
        ),
        record=record,
    )  # fmt: skip


def screen(width: int, encoding: str = "utf-8") -> tuple[Console, Any]:
    """A terminal of a width, and what gives its text."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, force_terminal=True, color_system=None, emoji=False)

    def text() -> str:
        file.flush()
        return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]

    return console, text


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Workspace.at(tmp_path / "build" / "run")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("result", [RunResult(project="shop", verdict=verdict()), served()])
def test_a_run_fits_the_terminal_and_breaks_between_words(
    width: int, result: RunResult, workspace: Workspace
) -> None:
    console, text = screen(width)
    result = replace(result, reports={"model card": f"{workspace.outputs}/x/evaluate/card.html"})
    show_result(console, result, workspace)
    lines = text().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert str(workspace.root) not in text(), "paths are relative"
    assert "  model card" in text() and " build/run/pipelines/x/evaluate/card.html" in text()
    words = " ".join(text().split())
    assert LONG in words, "no word was broken"
    if result.passed:
        assert "Verdict: PASS" in words and "✗" not in words
    else:
        assert "  ✓ accuracy  0.8150   at least 0.6" in lines
        assert "  ✗ AUC       0.9054   at least 0.95" in lines
        assert "    AUC is below 0.95: 0.90541." in lines
        assert "  ✗ champion accuracy: It is worse." in text()
        assert "  ✓ 1 other rule" in lines
        assert "Nothing was registered and nothing deployed" in words


def test_a_bound_of_zero_is_none_and_holds_nothing() -> None:
    console, text = screen(80)
    of = replace(verdict("pass"), thresholds={"accuracy": 0.0, "auc": 0.5})
    show_verdict(console, RunResult(project="shop", verdict=of))
    lines = text().splitlines()
    assert "    accuracy  0.8150   no bound" in lines
    assert "  ✓ AUC       0.9054   at least 0.5" in lines


def test_marks_need_no_unicode(workspace: Workspace) -> None:
    console, text = screen(80, "ascii")
    say("plain", to=console)
    show_verdict(console, RunResult(project="shop", verdict=verdict()))
    assert "  x AUC       0.9054   at least 0.95" in text().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_path_stands_below_its_name_and_in_one_piece(width: int) -> None:
    console, text = screen(width)
    folder = "build/run/reports/shop-2026-11-28-01-35-16-864328"
    paths = [f"{folder}/validation.html", "build/run/summary.json", f"{folder}/{'x' * 90}.html"]
    show_places(console, dict(zip(("validation report", "summary", "other"), paths, strict=True)))
    lines = text().splitlines()
    assert [path for path in paths if any(line.endswith(path) for line in lines)] == paths
    assert all(cell_len(line) <= width for line in lines if "xxx" not in line)
    assert lines[:2] == (
        ["  validation report", f"    {paths[0]}"]
        if width == 80
        else [f"  validation report {paths[0]}", f"  summary           {paths[1]}"]
    )
    piped = io.StringIO()
    show_places(Console(file=piped, width=80), {"validation report": paths[0]})
    assert piped.getvalue() == f"  validation report {paths[0]}\n", "a log has a line for each"


def test_a_command_is_never_broken() -> None:
    text = "It goes on: `slipway runs 5f2c --wait --namespace team-a` watches again, or not."
    for width in range(20, 90):
        lines = wrapped(text, width)
        assert " ".join(lines) == text
        assert any("`slipway runs 5f2c --wait --namespace team-a`" in line for line in lines)


def test_a_log_has_a_line_for_each_thing(workspace: Workspace) -> None:
    file = io.StringIO()
    say(f"{LONG} {LONG}", label="  note: ", to=Console(file=file, width=40))
    assert file.getvalue() == f"  note: {LONG} {LONG}\n"


def test_one_list_of_stages() -> None:
    console, text = screen(80)
    display = Display(console)
    tasks = [
        TaskRun(name="evaluate", status="refused", seconds=8.6, headline="fail: accuracy 0.8150"),
        TaskRun(name="register", status="skipped"),
        TaskRun(name="report-end", status="succeeded", headline="shop-training ended as SUCCEEDED"),
    ]
    for task in tasks:
        display.ended(task)
    assert text().splitlines() == [
        "  evaluate   refused      8.6 s  fail: accuracy 0.8150",
        "  register   skipped",
    ]
    display.ended(replace(tasks[2], headline="shop-training ended as FAILED"))
    assert "report-end" in text()


def test_the_stages_of_a_pipeline_stand_in_columns() -> None:
    """`scoring-features` is longer than any stage's name: its line began further to the right."""
    file = io.StringIO()
    display = Display(Console(file=file, width=120))
    for pipeline, names in (
        ("scoring", ("score", "monitor-predictions")),
        ("x", ("ingest", "train")),
    ):
        with display.pipeline(pipeline):
            for name in names:
                display.ended(TaskRun(name=name, status="succeeded", seconds=1.0, headline="done"))
    lines = [line for line in file.getvalue().splitlines() if "done" in line]
    assert [line.index("succeeded") for line in lines] == [22, 22, 13, 13]


def test_a_log_hears_of_a_long_stage() -> None:
    file = io.StringIO()
    display = Display(Console(file=file, width=120), heartbeat=0.05)
    task = TaskRun(name="train")
    with display.pipeline("training"):
        display.started(task)
        display.progress(task, "epoch 1 of 3", 0.25)
        display.progress(task, "a step of unknown length", None)
        deadline = time.monotonic() + 10
        while file.getvalue().count("working") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        display.ended(replace(task, status="succeeded", seconds=1.0))
        said = file.getvalue()
        time.sleep(0.2)
        assert file.getvalue() == said, "nothing is at work"
    assert re.search(r"  train      working        0 s  25%  a step of unknown length\n", said)
    assert "\x1b" not in said


def test_the_live_line_stays_in_one_line() -> None:
    console, text = screen(80)
    display, task = Display(console), TaskRun(name="monitor")
    with display.pipeline("monitoring"):
        display.started(task)
        for _ in range(3):
            display.progress(task, f"{LONG}\n{LONG}", 0.5)
            time.sleep(0.1)
    shown = [
        re.sub(r"\x1b\[\S*?[a-zA-Z]", "", line) for line in re.split(r"\x1b\[2K|\r|\n", text())
    ]
    shown = [line for line in shown if "monitor 50%" in line]
    assert shown and all(cell_len(line) <= 80 and line.rstrip().endswith("…") for line in shown)


RECORD = {
    "model": "rent", "model_version": "3", "metric": "rmse",
    "trend": [
        {
            "window": ("2024-01-01T00:00:00Z", "2024-01-08T00:00:00Z"), "total_predictions": 1400,
            "quality": 12.3456, "avg_latency": 1.84, "alerts": ["DATA_DRIFT"],
            "features": {"changed": 4, "not_changed": 9, "cannot_tell": 3},
        },
        {
            "window": ("2024-01-08T06:30:01.123456Z", "2024-01-09T06:30:01.123456Z"),
            "total_predictions": 0, "quality": None, "avg_latency": None, "features": None,
            "alerts": [],
        },
    ],
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_status_names_the_metric_that_it_shows(width: int) -> None:
    console, text = screen(width)
    summary = {"current_accuracy": None, "rmse": 12.3456}
    show_status(
        console,
        ["rent: version 3 at http://127.0.0.1:1, running"],
        [{**RECORD, "summary": summary}],
    )
    assert max(map(cell_len, text().splitlines())) <= width
    heading, first, second = [
        line for line in text().splitlines() if line.startswith(("win", "2024"))
    ]
    assert heading.split() == [
        "window",
        "(UTC)",
        "predictions",
        "RMSE",
        "latency",
        "changed",
        "alerts",
    ]
    assert first.split()[3:] == [
        "1,400",
        "12.346",
        "1.8",
        "ms",
        *["4", "of", "16,", "3", "?"],
        "DATA_DRIFT",
    ]
    assert text().splitlines()[-1] == "changed: features of all; ? of so many it cannot be told"
    assert second.startswith("2024-01-08 06:30, 1d ") and "123456" not in second
    console, text = screen(width)
    row = {**RECORD["trend"][0], "quality": 0.8131}  # type: ignore[dict-item]
    show_status(console, [], [{**RECORD, "metric": "accuracy", "trend": [row]}])
    assert "accuracy" in text() and "0.8131" in text() and "RMSE" not in text()
    row["features"] = {"changed": 0, "not_changed": 0, "cannot_tell": 16}
    console, text = screen(width)
    show_status(console, [], [{**RECORD, "metric": "accuracy", "trend": [row]}])
    assert "cannot tell" in text() and "0 of" not in text() and "0%" not in text()


def test_digits() -> None:
    assert quality({"current_accuracy": 0.8, "rmse": 1234.5678}) == ("RMSE", "1234.6")
    assert quality({"current_accuracy": 0.81314}) == ("accuracy", "0.8131")
    assert quality({"current_accuracy": None}) == ("accuracy", "—")
    assert (
        short_window(("2024-01-01T00:00:00Z", "2024-01-08T00:00:00Z")) == "2024-01-01 – 2024-01-08"
    )
    first = "2024-01-01T10:00:24Z"
    for last, said in (
        ("01T10:00:27Z", "3s"), ("01T10:01:30Z", "1m"), ("01T12:00:24Z", "2h"),
        ("02T10:00:24Z", "1d"), ("08T12:00:24Z", "7d 2h"), ("02T10:30:24Z", "1470m"),
    ):  # fmt: skip
        assert short_window((first, f"2024-01-{last}")) == f"2024-01-01 10:00, {said}"


def test_no_alert_s_name_is_broken_where_a_line_has_no_room_for_it() -> None:
    fired = ["DATA_DRIFT", "FEATURE_DRIFT"]
    row = {**RECORD["trend"][0], "window": ("2024-01-01T03:00:00Z", "2024-01-08T05:00:00Z")}  # type: ignore[dict-item]
    row |= {"alerts": fired, "features": {"changed": 21, "not_changed": 8, "cannot_tell": 24}}
    for width in (80, 120):
        console, text = screen(width)
        show_status(console, [], [{**RECORD, "trend": [row]}])
        lines = text().splitlines()
        (first,) = [line for line in lines if line.startswith("2024")]
        below = f"  2024-01-01 03:00, 7d 2h: {', '.join(fired)}"
        assert first.rstrip().endswith(", ".join(fired) if width == 120 else "24 ?  2")
        assert (below in lines) is (width == 80)
        assert max(map(cell_len, lines)) <= width


# --- The command itself ---


def piped(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SLIPWAY, *arguments], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def on_a_terminal(columns: int, *arguments: str, **environment: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "TERM")}
    child = subprocess.Popen(
        [SLIPWAY, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
        env={**variables, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    read = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        read += part
    os.close(ours)
    child.wait()
    return read.decode()


BOXES = re.compile("[\u2500-\u257f]")
STYLES = re.compile(r"\x1b\[[0-9;]*m")


def test_help_is_in_groups_and_plain_in_a_pipe() -> None:
    text = piped("--help").stdout
    assert not BOXES.search(text) and "\x1b" not in text and "**" not in text
    assert max(map(len, text.splitlines())) <= 80
    sections = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert sections == ["Options", *GROUPS], "in the order of the work"
    for group, functions in GROUPS.items():
        _, _, after = text.partition(f"\n{group}:\n")
        section = after.partition("\n\n")[0]
        for function in functions:
            assert re.search(rf"^  {function.__name__.strip('_')} ", section, re.MULTILINE)


def test_help_on_a_terminal_fits_it() -> None:
    for columns in (80, 120):
        text = STYLES.sub("", on_a_terminal(columns, "run", "--help"))
        assert BOXES.search(text)
        assert max(cell_len(line) for line in text.splitlines()) <= columns
        assert not re.search(r"<\w*(bool|str|int)\b", text), "a type of Python's"
    assert "\x1b[3" not in on_a_terminal(80, "run", "--help", NO_COLOR="1"), "no colour"
    assert "<bool>" not in STYLES.sub("", on_a_terminal(80, "--help"))
    init = piped("init", "--help").stdout
    assert "DATA TEXT" in init and "--kind TEXT" in init and "<" not in init


def test_a_usage_error_in_a_pipe_is_plain() -> None:
    done = piped("runn")
    assert done.returncode == 2 and done.stdout == ""
    assert "No such command 'runn'. Did you mean 'run', 'runs'" in done.stderr
    assert not BOXES.search(done.stderr)


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert piped("--version").stdout == f"slipway {version('kfp-slipway')}\n"


# --- JSON and silence ---


def test_an_error_is_a_document_too(tmp_path: Path) -> None:
    done = piped("run", "--json", "--project", str(tmp_path))
    assert done.returncode == 2
    assert "no project.yaml" in json.loads(done.stdout)["error"]
    assert done.stderr.startswith("error: ")


def test_json_is_one_document_on_standard_output(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["status", "--json", "--out", str(tmp_path / "run")])
    nothing = {"run": None, "endpoints": [], "refused": [], "models": []}
    assert json.loads(done.stdout) == nothing
    assert done.stderr == ""
    done = CliRunner().invoke(app, ["status", "--out", str(tmp_path / "run")])
    assert "No predictor is running here." in done.stdout, "the switch is not kept"
    done = CliRunner().invoke(app, ["compile", "--quiet", "--out", str(tmp_path / "compiled")])
    assert done.exit_code == 0 and done.output == ""
    done = CliRunner().invoke(
        app, ["compile", "--json", "--quiet", "--out", str(tmp_path / "compiled")]
    )
    files = json.loads(done.stdout)["files"]
    assert all(Path(file).is_file() for file in files) and len(files) > 10


def answers() -> dict[str, list[str]]:
    """Command to the keys that its page says its document has."""
    text = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z ]+)` \| (.+?) \|$", text, re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", keys) for name, keys in rows}


def test_the_page_has_the_keys_of_each_document(tmp_path: Path) -> None:
    said = answers()
    assert said["run"] == list(served().summary())
    assert said["status"] == ["run", "endpoints", "refused", "models"]
    assert said["compile"] == ["files"]
    done = CliRunner().invoke(
        app, ["graph", "--json", str(ROOT / "compiled/flights-training.yaml")]
    )
    assert said["graph"] == list(json.loads(done.stdout))
    with_json = {
        name
        for name, command in commands()
        if any("--json" in option.opts for option in command.params)
    }
    assert set(said) == with_json, "every command that has --json, and no other"


def commands() -> list[tuple[str, Any]]:
    """Every command by the words that call it."""
    import typer

    def below(name: str, command: Any) -> list[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return [(name, command)]
        return [
            found for key, sub in inner.items() for found in below(f"{name} {key}".strip(), sub)
        ]

    return below("", typer.main.get_command(app))


def test_every_command_has_an_example_that_can_be_typed() -> None:
    for name, command in commands():
        assert command.help and f"slipway {name}" in command.help.partition("Example:")[2], name


# --- Completion ---


SOURCED = {
    "bash": """COMP_WORDS=(slipway ro); COMP_CWORD=1; _slipway_completion slipway
        echo "${COMPREPLY[@]}"; complete -p slipway""",
    # What the shell's own `_arguments` is given; outside of a prompt it draws nothing.
    "zsh": """_arguments() { print -r -- $@ }; words=(slipway ro); CURRENT=2; _slipway_completion
        print ${_comps[slipway]}""",
}


@pytest.mark.parametrize("shell", SOURCED)
def test_the_completion_script_completes(shell: str, tmp_path: Path) -> None:
    """`slipway --install-completion` writes what is sourced here."""
    assert shutil.which(shell), f"{shell} is not installed (Debian: apt-get install {shell})"
    prepare = "autoload -U compinit; compinit -D -u" if shell == "zsh" else ":"
    source = f'eval "$(_SLIPWAY_COMPLETE=source_{shell} slipway)"'
    done = subprocess.run(
        [shell, "-c", f"{prepare}; {source}; {SOURCED[shell]}"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={"PATH": f"{SLIPWAY.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert "rollback" in done.stdout and "run" not in done.stdout.replace("_run", ""), done
    assert "_slipway_completion" in done.stdout, "the shell calls it for slipway"


@pytest.mark.parametrize("status", get_args(DriftStatus))
def test_whether_the_data_drifted_is_said_in_words(status: DriftStatus) -> None:
    record = served().record
    assert record is not None
    output = io.StringIO()
    show_monitoring(Console(file=output, width=120), replace(record, drift_status=status))
    said = {
        "drift": "1,400 predictions, the data drifted, accuracy 0.8000",
        "stable": "1,400 predictions, the data is stable, accuracy 0.8000",
        "cannot_tell": "1,400 predictions, whether the data drifted cannot be told, accuracy 0.8000",
        "no_data": "1,400 predictions, too few data, accuracy 0.8000",
    }
    assert said[status] in output.getvalue()


@pytest.mark.parametrize(
    ("doubts", "said"),
    [
        (("", ""), "the data is stable,"),
        (("31 rows", ""), "none of 2 features changed, of 1 it cannot be told,"),
        (("31 rows", "worth 9"), "whether any of 2 features changed cannot be told,"),
        (("drifted", ""), "1 of 2 features changed, accuracy"),
        (("drifted", "drifted", "31 rows"), "2 of 3 features changed, of 1 it cannot be told,"),
    ],
)
def test_what_cannot_be_told_is_not_called_stable(doubts: tuple[str, str], said: str) -> None:
    run = served()
    assert run.record is not None
    features = {
        str(n): {"doubt": "" if doubt == "drifted" else doubt, "drifted": doubt == "drifted"}
        for n, doubt in enumerate(doubts)
    }
    console, text = screen(120)
    details = {**run.record.details, "features": features}
    show_monitoring(console, replace(run.record, drift_status="stable", details=details))
    assert said in " ".join(text().split())


def test_too_few_labels_are_said_beside_the_accuracy_that_they_do_not_give() -> None:
    run = served()
    assert run.record is not None
    summary = {**run.record.summary, "current_accuracy": None, "labelled": 196}
    for details, said in ({"min_rows": 200}, True), ({"min_rows": 196}, False), ({}, False):
        console, text = screen(100)
        show_monitoring(console, replace(run.record, summary=summary, details=details))
        assert (
            "accuracy — (196 labels of the 200 that it takes)" in " ".join(text().split())
        ) == said


def test_what_others_wrote_moves_no_cursor() -> None:
    """A server's answer, a name in a certificate: on a terminal it could erase or feign a line."""
    file = io.StringIO()
    say("one\x1b[2Kgone\r\u202etwo\x9b1A\tthree\nfour", to=Console(file=file, width=120))
    assert file.getvalue() == "one\\x1b[2Kgone\\r\\u202etwo\\x9b1A three\nfour\n"
    assert str(SlipwayError("a\x1b]0;b\x07\r\nc")) == "a\\x1b]0;b\\x07\nc"
