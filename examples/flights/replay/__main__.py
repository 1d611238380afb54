"""Replays a year on the flights: the loop from decay to recovery, month after month, with a picture.

    python -m slipway.examples.flights.replay [--out build/replay] [--every 6] [--set KEY=VALUE]

The first model learns from March to May; then June to February are served, one month after another. The
data is one calendar year, and a winter that follows an autumn needs two. So the year is turned: it begins
in March, and January and February 2013 come after December, 52 weeks later, so that weekdays and
clock changes stay where they were. 1 January is left out, since two days would share a date. Everything
else is as it was; nothing is seen twice.
"""

import argparse
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
from rich.console import Console

from slipway.commands.console.runs import Display
from slipway.components.config.kinds import metric_name
from slipway.components.config.project import load_project
from slipway.examples.flights.replay.months import months, replay
from slipway.examples.flights.replay.records import Served
from slipway.local.workspace import Workspace

HERE = Path(__file__).parents[1]
YEAR = timedelta(weeks=52)
FIRST, TURN = datetime(2013, 1, 2), datetime(2013, 3, 1)  # wall clock of New York
START, SERVED, END = (
    datetime(2013, 3, 1, 5, tzinfo=UTC),
    datetime(2013, 6, 1, 5, tzinfo=UTC),
    datetime(2014, 2, 28, 5, tzinfo=UTC),
)
MONTHS = 9
SETTINGS = {
    "data.window": f"{{start: {START.isoformat()}, end: {END.isoformat()}}}",
    # The last four weeks before a release test it, and the four before those choose its threshold.
    "features.split": "{validation: 28d, test: 28d, gap: 1d}",
    "training.epochs": "2",
    # One gate for every model. December is the hardest month: a gate made for autumn would refuse
    # any model that is tested on it.
    "gate.accuracy": "0.60",
    "gate.f1": "0.30",
    "gate.auc": "0.65",
    # Against the weeks before the release: against all the training data a season is always new.
    "monitoring.drift": "{reference: test}",
    "monitoring.alerts": "{accuracy: 0.6, accuracy_drop: 0.05, drift: 0.3}",
    "monitoring.report_rows": "0",
    "monitoring.retrain": "true",
    "deployment.port": "8093",
}


def turn(lake: Path, target: Path) -> None:
    """Lays out the year that begins in March, unless it is there already."""
    if (target / ".complete").exists():
        return
    flights = pl.read_parquet(lake / "flights" / "*.parquet")
    local = pl.col("departure_local")
    moved = flights.filter(local >= FIRST, local < TURN).with_columns(
        pl.col("departure", "departure_local", "arrival") + YEAR
    )
    stamp = local.dt.strftime("%Y%m%dT%H%M")
    moved = moved.with_columns(flight_id=stamp + pl.col("flight_id").str.slice(13))
    whole = pl.concat([flights.filter(local >= TURN), moved]).sort("departure", "flight_id")
    zone = ZoneInfo("America/New_York")
    first, cut = (t.replace(tzinfo=zone).astimezone(UTC) for t in (FIRST, TURN))
    weather = pl.read_parquet(lake / "weather" / "*.parquet")
    observed = pl.col("observed")
    late = weather.filter(observed >= first, observed < cut).with_columns(observed + YEAR)
    weather = pl.concat([weather.filter(observed >= cut), late]).sort("observed", "origin")
    for name, table in {"flights/year": whole, "weather/year": weather}.items():
        path = target / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(path)
    shutil.copytree(lake / "planes", target / "planes", dirs_exist_ok=True)
    (target / ".complete").touch()


def line(served: Served) -> str:
    """A window in a line: the first metrics of what was served and of the first model, and its alerts."""
    drift = "not measured" if served.drift is None else f"{served.drift:.2f}"
    values = [
        f"{metric_name(name)} {_shown(value)} (the first model: {_shown(served.kept[name])})"
        for name, value in list(served.metrics.items())[:2]
    ]
    alerts = ", ".join(served.alerts) or "nothing fires"
    parts = [served.window[0][:7], f"version {served.version}", *values, f"drift {drift}", alerts]
    return "  ".join(parts)


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def main() -> None:
    """Replays June to February and says how each month went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, default=Path("build/lake"))
    parser.add_argument("--out", type=Path, default=Path("build/replay"))
    parser.add_argument("--every", type=int, default=6, help="of so many flights one is sent")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    lake = given.out.resolve() / "lake"
    turn(given.lake, lake)
    overrides = dict(pair.split("=", 1) for pair in given.set)
    loaded = load_project(HERE, {**SETTINGS, "data.root": str(lake), **overrides})
    console = Console(width=120, soft_wrap=True, highlight=False)
    workspace = Workspace.at(given.out)

    def tell(served: Served) -> None:
        alerts = ", ".join(served.alerts) or "no alerts"
        console.print(f"[bold]{served.window[0][:10]}[/bold] {alerts}. {served.decision}")

    windows, released = replay(
        loaded, workspace, Display(console), months(SERVED, MONTHS), given.every, tell
    )
    for served in windows:
        console.print(line(served))
    console.print(f"{len(released)} models passed the gate. {workspace.root / 'replay.png'}")


if __name__ == "__main__":
    main()
