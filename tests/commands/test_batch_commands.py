"""What `slipway score` and `slipway backfill` refuse before anything runs; the rest is in tests/e2e."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from slipway.commands.batch import _window
from slipway.commands.cli import app
from slipway.components.config.base import parse_instant
from slipway.components.support.errors import ProjectError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("score", "--start", "yesterday"), "--start and --end: window_start 'yesterday'"),
        (("score", "--start", "2014-06-01"), "--start and --end: The window is empty"),
        (("backfill", "--end", "soon"), "--start and --end: window_end 'soon'"),
        (("score", "--set", "gate.auk=0.9"), "unknown key gate.auk. Did you mean auc"),
        (
            ("score", "--runner", "docker", "--publish", "/elsewhere"),
            "--publish /elsewhere: containers see only the run's own folder",
        ),
    ],
)
def test_bad_usage_is_refused_before_anything_runs(
    arguments: tuple[str, ...], said: str, repository: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    project = ("--project", str(repository / "examples" / "flights"))
    result = CliRunner().invoke(app, [*arguments, *project, "--out", str(out)])
    assert isinstance(result.exception, ProjectError), result.output
    assert said in str(result.exception)
    assert not out.exists()


def test_a_window_that_ends_now_ends_at_a_whole_second_and_holds_what_came_until_now() -> None:
    without: Any = SimpleNamespace(
        project=SimpleNamespace(data=SimpleNamespace(window_texts=("", "")))
    )
    before = datetime.now(UTC)
    start, end = _window(without, "1h", "")
    until = parse_instant(end)
    assert (start, until.microsecond) == ("1h", 0)
    assert before < until <= datetime.now(UTC) + timedelta(seconds=1)
