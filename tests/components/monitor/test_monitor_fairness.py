"""Groups of the served rows: the release's rules are asked again; labels and groups join by key."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from support.datasets import write_dataset

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.gate import FairnessRule
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.monitor.alerting.alerts import Findings, judge
from slipway.components.monitor.measures import window_measures
from slipway.components.monitor.measures.fairness import measure_fairness, read_groups
from slipway.components.monitor.measures.performance import KnownLabels
from slipway.components.support.errors import SlipwayError

NOON = datetime(2013, 12, 9, 12, tzinfo=UTC)
BINARY = label_type("binary", threshold=0.5)
ROWS = 2000


def world(seed: int = 0) -> pl.DataFrame:
    """Rows of three groups; the model calls fewer of the group c positive. Some have no group."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b", "c"], ROWS, p=[0.5, 0.4, 0.1])
    actual = rng.integers(0, 2, ROWS)
    chance = 0.35 + 0.3 * actual - 0.2 * (group == "c") + rng.normal(0, 0.15, ROWS)
    return pl.DataFrame(
        {
            "key": [f"k{i}" for i in range(ROWS)],
            "group": [None if i % 97 == 0 else str(g) for i, g in enumerate(group)],
            "actual": [None if i % 3 == 0 else int(v) for i, v in enumerate(actual)],
            "probability": chance.clip(0, 1).astype(np.float32),
        }
    )


def logged(rows: pl.DataFrame, *, feature: bool = False) -> pa.Table:
    times = [NOON + timedelta(seconds=i) for i in range(rows.height)]
    table = pa.table(
        {
            "key": rows["key"].to_arrow(),
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            **BINARY.to_columns(rows["probability"].to_numpy()),
        }
    )
    if feature:
        table = table.append_column(f"{FEATURE_PREFIX}group", pa.array(rows["group"].to_list()))
    return table


def labels(rows: pl.DataFrame) -> KnownLabels:
    told = rows.select("key", pl.col("actual").cast(pl.Int8), known_at=pl.lit(NOON))
    return KnownLabels(rows=told.drop_nulls("actual"), kind="binary")


def groups(rows: pl.DataFrame) -> pl.DataFrame:
    """As the labels' table has them: all but the last hundred rows are in it already."""
    return rows.head(ROWS - 100).select("key", pl.col("group").fill_null("(missing)"))


def found(rows: pl.DataFrame, *, feature: bool = False, **rule: Any) -> Any:
    asked = FairnessRule.model_validate({"by": "group", "min_rows": 30, **rule})
    (one,) = measure_fairness(
        logged(rows, feature=feature),
        labels(rows),
        None if feature else groups(rows),
        BINARY,
        [asked],
        [{"gap": 0.02, "ratio": None}],
    )
    return one


def expected(rows: pl.DataFrame, measure: str) -> dict[str, float]:
    rows = rows.drop_nulls("group").with_columns(called=pl.col("probability") >= 0.5)
    if measure != "selection_rate":
        rows = rows.drop_nulls("actual")
    if measure == "true_positive_rate":
        rows = rows.filter(actual=1)
    if measure == "false_positive_rate":
        rows = rows.filter(actual=0)
    value = pl.col("called").mean()
    if measure == "error":
        value = (pl.col("called") != (pl.col("actual") == 1)).mean()
    return dict(rows.group_by("group").agg(value.alias("value")).sort("group").iter_rows())


@pytest.mark.parametrize("feature", [False, True], ids=["joined by key", "from the log"])
@pytest.mark.parametrize(
    "measure", ["selection_rate", "true_positive_rate", "false_positive_rate", "error"]
)
def test_the_values_are_those_of_a_plain_group_by(measure: str, feature: bool) -> None:
    rows = world()
    one = found(rows, feature=feature, measure=measure, gap=0.1, ratio=0.1)
    wanted = expected(rows if feature else rows.head(ROWS - 100), measure)
    assert {name: group.value for name, group in one.groups.items()} == pytest.approx(wanted)
    assert one.gap == pytest.approx(max(wanted.values()) - min(wanted.values()))
    assert one.ratio == pytest.approx(min(wanted.values()) / max(wanted.values()))
    assert one.gap_interval[0] < one.gap < one.gap_interval[1] + 0.05
    assert one.without_group > 0 and one.too_few == ()
    assert one.release == {"gap": 0.02, "ratio": None}


def test_groups_that_a_view_joins_are_looked_up_as_of_the_prediction(tmp_path: Path) -> None:
    """Beside a group of the labels' own table; who is not known to the view has no group."""
    trips = pl.DataFrame({"trip": ["a", "b", "c"], "late": [0, 1, 0], "driver": [1, 1, 2]})
    dataset = write_dataset(
        tmp_path / "labels",
        {"trips": trips.with_columns(sex=pl.lit("f"))},
        ("2013-01-01", "2014-01-01"),
    )
    config = FeaturesConfig.model_validate(
        {
            "entities": {"driver": "driver"},
            "examples": {"table": "trips", "key": "trip", "beside": ["sex", "home"]},
            "label": {"column": "late"},
            "split": {"method": "random", "validation": 0.2, "test": 0.2},
            "views": [
                {"name": "own", "table": "trips", "fields": {"hour": "hour"}},
                {
                    "name": "homes",
                    "entity": "driver",
                    "table": "moves",
                    "fields": {"home": "region"},
                },
            ],
        }
    )
    table = tmp_path / "homes.parquet"
    hour = timedelta(hours=1)
    moves = {
        "driver": [1, 1],
        "event_timestamp": [NOON - hour, NOON + hour],
        "home": ["hill", "lake"],
    }
    pl.DataFrame(moves).write_parquet(table)
    times = [NOON, NOON + 2 * hour, NOON, NOON - hour]
    answers = pa.table(
        {"key": ["a", "b", "c", "a"], "time": pa.array(times, pa.timestamp("us", "UTC"))}
    )
    rules = [
        FairnessRule.model_validate({"by": by, "measure": "error", "gap": 1})
        for by in ("sex", "home", "hour")
    ]
    place: Any = SimpleNamespace(table=lambda name: str(table))
    groups = read_groups(dataset, config, rules, ["hour"], answers, lambda: place)
    assert groups is not None
    assert groups.sort("key").rows() == [
        ("a", "f", "hill"),
        ("b", "f", "lake"),
        ("c", "f", "(missing)"),
    ]
    alone = read_groups(dataset, config, rules[1:], ["hour"], answers, lambda: place)
    assert alone is not None and alone.columns == ["key", "home"] and alone.height == 3
    assert read_groups(dataset, config, rules[2:], ["hour"], answers, lambda: 1 / 0) is None  # type: ignore[arg-type,return-value]
    table.unlink()
    with pytest.raises(SlipwayError, match="cannot be read"):
        read_groups(dataset, config, rules, ["hour"], answers, lambda: place)


def test_a_rule_holds_is_broken_or_cannot_be_told() -> None:
    rows = world()
    gap = found(rows, measure="true_positive_rate", gap=1.0).gap
    assert found(rows, measure="true_positive_rate", gap=gap + 1e-9).status == "holds"
    # Beyond the limit: surely so only where the interval does not hold it.
    unsure = found(rows, measure="true_positive_rate", gap=gap - 1e-9)
    assert (unsure.status, unsure.gap_interval[0] < gap) == ("cannot be told", True)
    low = unsure.gap_interval[0]
    assert found(rows, measure="true_positive_rate", gap=low - 1e-9).status == "broken"
    ratio = found(rows, measure="selection_rate", ratio=0.01)
    high = ratio.ratio_interval[1]
    assert ratio.ratio < high < 1
    between = found(rows, measure="selection_rate", ratio=ratio.ratio + 1e-9)
    assert between.status == "cannot be told"
    assert found(rows, measure="selection_rate", ratio=high + 1e-9).status == "broken"
    # Two limits, of which one is surely broken.
    both = found(rows, measure="selection_rate", ratio=high + 1e-9, gap=ratio.gap - 1e-9)
    assert both.status == "broken"
    assert found(rows, measure="selection_rate", ratio=0.01).status == "holds"
    # The group c is too small: the others are compared, and it is named.
    some = found(rows, measure="true_positive_rate", gap=gap - 1e-9, min_rows=120)
    assert (some.status, some.too_few) == ("holds", ("c",))
    few = found(rows, measure="true_positive_rate", gap=0.0, min_rows=5000)
    assert (few.status, few.gap, few.too_few) == ("too little data", None, ("a", "b", "c"))
    assert {name: one.value for name, one in few.groups.items()} == {
        "a": None,
        "b": None,
        "c": None,
    }
    named = found(rows, measure="selection_rate", gap=1.0, groups=["a", "x"])
    assert (named.status, named.too_few) == ("too little data", ("x",))
    left = found(rows, measure="selection_rate", gap=1.0, leave_out=["c"])
    assert list(left.groups) == ["a", "b"]


@pytest.mark.parametrize(
    ("unfair", "alerts", "unknown"),
    [(None, [], True), ((), [], False), (("selection rate by sex: gap 0.2",), ["FAIRNESS"], False)],
)
def test_the_alert(unfair: Any, alerts: list[str], unknown: bool) -> None:
    from slipway.components.config.data import Window

    window = Window(start=NOON, end=NOON + timedelta(hours=1))
    findings = Findings(predictions=1000, labelled=1000, unfair=unfair)
    told = judge(findings, MonitoringConfig(), window)
    assert [alert.name for alert in told.alerts] == alerts
    assert ("FAIRNESS" in told.unknown) == unknown
    for alert in told.alerts:
        assert "selection rate by sex: gap 0.2" in alert.message


def rule(**given: Any) -> dict[str, Any]:
    settings = {"measure": "true_positive_rate", "min_rows": 30, **given}
    return {"rule": settings, "gap": 0.03, "ratio": 0.9, "groups": {}}


def test_a_window_asks_again_what_the_version_was_released_with(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an airport that the log holds as a feature, and by one that only the labels' table has."""
    asked = (rule(by="leaves_from", gap=0.01), rule(by="airport", gap=0.9))
    fetch = window_measures.fetch_reference
    monkeypatch.setattr(
        window_measures,
        "fetch_reference",
        lambda *given: replace(fetch(*given), fairness=asked),
    )
    rows = world.between("2013-12-09T00:00", "2013-12-10T00:00")
    world.write_log(rows)
    folder = world.write_labels()
    result = world.run("2013-12-09T00:00:00Z", "2013-12-10T00:00:00Z")
    # The table has no such column: that hides nothing else, and no rule counts as held.
    notes = [one["note"] for one in result.record.details["fairness"]]
    assert "lacks airport, by which the gate compared groups" in notes[0]
    assert "FAIRNESS" in result.record.details["unknown"]

    part = folder / "flights" / "part-00000.parquet"
    table = pl.read_parquet(part).join(
        world.flights.select("flight_id", airport="origin"), on="flight_id", how="left"
    )
    table.write_parquet(part)
    manifest = Path(folder / "manifest.json")
    text = manifest.read_text().replace('"arr_delay"', '"airport": "String", "arr_delay"', 1)
    manifest.write_text(text)
    result = world.run("2013-12-09T00:00:00Z", "2013-12-10T00:00:00Z")
    first, second = result.record.details["fairness"]
    assert (first["status"], second["status"]) == ("broken", "holds")
    assert first["groups"] == second["groups"]
    landed = pl.col("arrival") <= datetime(2013, 12, 10, tzinfo=UTC)
    late = rows.filter((pl.col("late") == 1) & landed)
    wanted = late.group_by("leaves_from").agg((pl.col("probability") >= 0.25).mean())
    assert {name: one["value"] for name, one in first["groups"].items()} == pytest.approx(
        dict(wanted.iter_rows())
    )
    (alert,) = [one for one in result.record.alerts if one.name == "FAIRNESS"]
    assert "true positive rate by leaves_from: gap" in alert.message
    page = (world.root / "report").read_text()
    assert "true positive rate by airport" in page and '<span class="tag bad">broken</span>' in page


def test_without_a_rule_the_record_is_as_it_was(world: Any) -> None:
    world.write_log(world.between("2013-12-09T00:00", "2013-12-09T06:00"))
    result = world.run("2013-12-09T00:00:00Z", "2013-12-09T06:00:00Z")
    assert "fairness" not in result.record.details
    assert "<h2>Fairness</h2>" not in (world.root / "report").read_text()
