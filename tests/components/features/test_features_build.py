"""The stage as a whole, on a small world: windows, labels, leaks, refusals, what it leaves."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from support.trips_world import CONFIG, DAY, HOUR, START, WINDOW, trips_table, world

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.dataset import read_manifest
from slipway.components.contracts.feature_store import locate, repo_config
from slipway.components.contracts.splits import PARTS, UNLABELLED, read_part, read_splits
from slipway.components.features.features import build_features
from slipway.components.features.views import views
from slipway.components.support.errors import SlipwayError

MakeDataset = Callable[..., Path]


def parts_of(folder: Path) -> pl.DataFrame:
    return pl.concat(
        [pl.DataFrame(read_part(folder, part)).with_columns(part=pl.lit(part)) for part in PARTS]
    )


def test_the_small_world(make_dataset: MakeDataset, store_uri: Path, tmp_path: Path) -> None:
    dataset = make_dataset(world(), WINDOW)
    output = tmp_path / "splits"
    result = build_features(dataset=dataset, project="small-world", config=CONFIG, output=output)

    assert read_splits(output) == result
    assert [(f.name, f.kind, f.view) for f in result.features] == [
        ("leaves", "time", "plan"),
        ("miles", "numeric", "plan"),
        ("night", "boolean", "plan"),
        ("to", "categorical", "plan"),
        ("age", "numeric", "person"),
        ("rain", "numeric", "sky"),
        ("driver_delay", "numeric", "driver_delays"),
        ("driver_last", "numeric", "driver_delays"),
        ("driver_trips", "numeric", "driver_delays"),
    ]
    assert result.entities == {"driver": "int64", "trip_id": "string", "zone": "string"}
    assert result.feature_service == "small_world"
    assert result.lead_seconds == 3600
    assert result.windows == {
        "train": ("2024-01-01T00:00:00Z", "2024-01-06T18:00:00Z"),
        "validation": ("2024-01-07T00:00:00Z", "2024-01-08T18:00:00Z"),
        "test": ("2024-01-09T00:00:00Z", "2024-01-11T00:00:00Z"),
    }
    # 12 hours in the two gaps; one trip in twenty has no label, one of them inside a gap.
    assert result.notes["dropped"] == {"without_label": 12, "in_gap": 12 - 1}
    assert result.rows == {"train": 138 - 7, "validation": 42 - 2, "test": 48 - 2}
    # Those without a label are predicted like all others, so they are kept for what is compared with it.
    assert result.unlabelled == {"train": 7, "validation": 2, "test": 2}
    without = pl.read_parquet(output / UNLABELLED)
    assert without.drop("part").schema == pl.read_parquet(output / "test.parquet").schema
    assert without["part"].to_list() == ["train"] * 7 + ["validation"] * 2 + ["test"] * 2
    assert (without.height, without["label"].null_count()) == (11, 11)
    assert without["event_timestamp"].is_sorted() and without["miles"].null_count() == 0
    trips = world()["trips"].filter(pl.col("trip_id").is_in(without["trip_id"].to_list()))
    assert trips["delay"].null_count() == 11
    same = without.join(trips, on="trip_id", suffix=" source")
    assert same["miles"].to_list() == same["miles source"].to_list()

    rows = parts_of(output)
    assert rows["event_timestamp"].is_sorted()
    assert rows.schema["label"] == pl.Int8
    assert rows.schema["leaves"] == pl.Datetime("us")
    trips = trips_table()
    expected = trips.filter(pl.col("trip_id").is_in(rows["trip_id"].implode()))
    assert rows["label"].to_list() == (expected["delay"] > 10).cast(pl.Int8).to_list()
    assert rows["miles"].to_list() == expected["miles"].to_list()
    assert rows["leaves"].to_list() == expected["starts_local"].to_list()
    for part in PARTS:
        assert result.positives[part] == rows.filter(part=part)["label"].sum()

    # Trip 100 of driver 0 is predicted at hour 99: trips 75, 80, 85, 90, 95 had ended by then.
    [row] = rows.filter(trip_id="t100").to_dicts()
    ended = [95, 90, 85, 80, 75]
    known = trips.filter(pl.col("trip_id").is_in([f"t{n:03d}" for n in ended]))
    assert row["driver_trips"] == 5
    assert row["driver_delay"] == pytest.approx(known["delay"].mean())
    assert row["driver_last"] == trips["delay"][95]
    # At hour 99 the weather of hour 98 is the newest that was published.
    assert row["rain"] == float((98 * 2 + 1) % 7)
    assert row["age"] == 30
    # Without a driver there is nothing of a driver; after the weather stopped, nothing after the TTL.
    [row] = rows.filter(trip_id="t030").to_dicts()
    assert (row["driver_trips"], row["age"]) == (None, None)
    rain = dict(zip(rows["trip_id"], rows["rain"], strict=True))
    assert rain["t204"] is not None
    assert rain["t205"] is None

    train = rows.filter(part="train")
    assert result.statistics["miles"] == pytest.approx(
        {
            "nulls": 0.0,
            "mean": train["miles"].mean(),
            "std": train["miles"].std(ddof=0),
            "min": 0.0,
            "max": 11.0,
        }
    )
    assert result.statistics["age"]["nulls"] == train["age"].null_count() / train.height
    assert result.statistics["night"] == {"nulls": 0.0, "true": train["night"].mean()}
    assert result.statistics["to"] == {
        "nulls": 0.0,
        "values": dict(train["to"].value_counts().iter_rows()),
    }
    assert result.statistics["leaves"] == {
        "nulls": 0.0,
        "min": "2023-12-31T19:00:00",
        "max": train["leaves"].max().isoformat(),  # type: ignore[union-attr]
    }


def test_online_features_equal_the_offline_ones_by_keys_alone(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    from feast import FeatureStore, RepoConfig

    build_features(
        dataset=make_dataset(world(), WINDOW),
        project="small-world",
        config=CONFIG,
        output=tmp_path / "splits",
    )
    store = FeatureStore(config=RepoConfig(**repo_config("small-world")))
    service = store.get_feature_service("small_world")
    entities = [{"trip_id": "t239", "driver": 4, "zone": "north"}]
    online = store.get_online_features(features=service, entity_rows=entities).to_dict()
    assert online["miles"] == [float(239 % 12)]
    assert online["night"] == [False]
    assert online["leaves"] == [datetime(2024, 1, 10, 18, tzinfo=UTC)]
    assert online["rain"] == [None]
    assert online["driver_last"] == [trips_table()["delay"][234]]


@dataclass(frozen=True)
class Shift:
    """Something changed that was not yet known at the moment of prediction."""

    name: str
    table: str
    known: str


@pytest.mark.parametrize(
    "case",
    [
        Shift("outcomes", "trips", "ends"),
        Shift("weather", "weather", "published"),
    ],
    ids=lambda case: case.name,
)
def test_what_becomes_known_later_changes_nothing(
    case: Shift, make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """Everything not known at hour 150 is moved, changed or gone: rows predicted until then stay."""
    cutoff = START + 150 * HOUR
    before, after = world(), world()
    later = (pl.col(case.known) > cutoff).fill_null(value=True)
    value = "delay" if case.table == "trips" else "rain"
    after[case.table] = after[case.table].with_columns(
        pl.when(later).then(pl.col(value) * 3 + 1).otherwise(value).alias(value),
        pl.when(later & pl.col(case.known).is_not_null())
        .then(pl.max_horizontal(pl.col(case.known) + 5 * HOUR, pl.lit(cutoff + HOUR)))
        .otherwise(case.known)
        .alias(case.known),
    )
    seen = []
    for name, tables in (("before", before), ("after", after)):
        output = tmp_path / f"splits-{name}"
        build_features(
            dataset=make_dataset(tables, WINDOW, name),
            project="leak",
            config=CONFIG,
            output=output,
        )
        rows = parts_of(output).filter(pl.col("event_timestamp") - HOUR <= cutoff)
        seen.append(rows.drop("label"))
    assert seen[0].height > 100
    assert seen[0].equals(seen[1])


def test_the_moment_itself_counts_as_known(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """One microsecond decides: known at the moment of prediction is used, known after is not."""
    tables = world()
    config = deepcopy(CONFIG)
    rains = []
    for late in (timedelta(0), timedelta(microseconds=1)):
        tables["weather"] = world()["weather"].with_columns(published=pl.col("observed") + late)
        output = tmp_path / "splits"
        build_features(
            dataset=make_dataset(tables, WINDOW, f"d{late.microseconds}"),
            project="moment",
            config=config,
            output=output,
        )
        rains.append(parts_of(output).filter(trip_id="t100")["rain"].item())
    assert rains == [float((99 * 2 + 1) % 7), float((98 * 2 + 1) % 7)]


@dataclass(frozen=True)
class Refusal:
    """A configuration that is refused, and words of the reason."""

    name: str
    change: dict[str, Any]
    words: str
    view: str | None = None


REFUSALS = [
    Refusal("the label before it is known", {"known": None}, "see the future", "driver_delays"),
    Refusal("the label in advance", {"available": "3h"}, "see the future", "driver_delays"),
    Refusal("the label as a field", {"fields": {"late": "delay"}}, "see the future", "plan"),
    Refusal("the label without time", {"time": None, "available": "0s", "fields": {"late": "delay"}},
            "see the future", "plan"),
    Refusal("a ttl shorter than the window", {"ttl": "6h"}, "ttl", "driver_delays"),
    Refusal("an unknown entity", {"entity": "car"}, "'car'", "driver_delays"),
    Refusal("the label at the moment", {
        "label": {"column": "delay", "above": 10},
        "examples": CONFIG["examples"] | {"lead": "0s"},
        "views": [CONFIG["views"][3] | {"known": None}],
    }, "Set `label.known`"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.name)
def test_a_configuration_that_would_leak_is_refused(case: Refusal) -> None:
    config = deepcopy(CONFIG)
    FeaturesConfig.model_validate(config)
    target = next((view for view in config["views"] if view["name"] == case.view), config)
    target.update(case.change)
    with pytest.raises(ValidationError, match=case.words):
        FeaturesConfig.model_validate(config)


BROKEN = [
    Refusal("no such table", {"table": "sky"}, "'sky'.*trips", "sky"),
    Refusal("no such column", {"known": "printed"}, "printed.*published", "sky"),
    Refusal("a text as time", {"known": "zone"}, "not a timestamp", "sky"),
    Refusal("text in an aggregate", {"aggregates": {
        "x": {"function": "mean", "column": "zone", "window": "1d"}}}, "not a number",
        "driver_delays"),
    *(
        Refusal(f"{kind} of {column}", {"fields": {"x": {"column": column, "kind": kind}}}, words, "plan")
        for kind, column, words in (
            ("numeric", "zone", "field x: column zone is String, which is not `kind: numeric`"),
            ("numeric", "starts_local", "not `kind: numeric`"),
            ("boolean", "zone", "not `kind: boolean`"),
            ("boolean", "miles", "not `kind: boolean`. All values must be 0 or 1"),
            ("time", "miles", "not `kind: time`"),
            ("time", "zone", "not `kind: time`"),
        )
    ),
    Refusal("parts longer than the window", {"split": {"validation": "6d", "test": "6d"}},
            "leave nothing to train on"),
    Refusal("a label that is nowhere", {"label": {"column": "nothing", "above": 1}},
            "nothing.*does not have"),
    Refusal("an example key that repeats", {"examples": CONFIG["examples"] | {"key": "zone"},
            "views": CONFIG["views"][1:]}, "must name each row once"),
]  # fmt: skip


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_what_the_dataset_does_not_have_is_refused(
    case: Refusal, make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    config = deepcopy(CONFIG)
    target = next((view for view in config["views"] if view["name"] == case.view), config)
    target.update(case.change)
    output = tmp_path / "splits"
    with pytest.raises(SlipwayError, match=case.words):
        build_features(
            dataset=make_dataset(world(), WINDOW), project="broken", config=config, output=output
        )
    assert not output.exists()


@pytest.mark.parametrize("share", [1, 40, 100])
def test_a_view_made_a_share_of_the_entities_at_a_time_is_the_same(
    share: int,
    make_dataset: MakeDataset,
    store_uri: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = world()
    tables["trips"] = tables["trips"].sample(fraction=1, shuffle=True, seed=1)
    dataset = make_dataset(tables, WINDOW)
    manifest, config = read_manifest(dataset), FeaturesConfig.model_validate(CONFIG)
    made = []

    def count(rows: pl.DataFrame, *rest: Any) -> Any:
        made.append(rows.height)
        return whole(rows, *rest)

    whole = views._made
    for view in config.views:
        target = str(tmp_path / f"{view.name}.parquet")
        at_once = views.write_view(dataset, manifest, config, view, target)
        expected = pl.read_parquet(target)
        made.clear()
        with monkeypatch.context() as patch:
            patch.setattr("slipway.components.features.tables.SHARE", share)
            patch.setattr(views, "_READ_AT_ONCE", 1)
            patch.setattr(views, "_made", count)
            written = views.write_view(dataset, manifest, config, view, target)
        rows = pl.read_parquet(target)
        assert written == at_once
        assert written.rows == expected.height
        assert rows.schema == expected.schema
        keys = expected.columns[:2]
        assert rows.sort(keys).equals(expected.sort(keys))
        keyed = tables[view.table].drop_nulls(config.entities[view.entity]).height
        whole_table = tables[view.table].height <= share
        assert sum(made) == (tables[view.table].height if whole_table else keyed)
        if view.name == "plan" and not whole_table:
            assert len(made) > 1 and max(made) < 240


def test_a_label_without_rows_is_refused(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    tables = world()
    tables["trips"] = tables["trips"].with_columns(delay=pl.lit(None, pl.Float64))
    dataset = make_dataset(tables, WINDOW)
    with pytest.raises(SlipwayError, match=r"No row of table 'trips' has a label \(delay\)"):
        build_features(dataset=dataset, project="p", config=CONFIG, output=tmp_path / "splits")
    assert read_manifest(dataset).window == WINDOW


def test_a_part_without_rows_is_refused(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    tables = world()
    tables["trips"] = tables["trips"].filter(pl.col("starts") < START + 5 * DAY)
    with pytest.raises(SlipwayError, match=r"The validation part.*has no row"):
        build_features(
            dataset=make_dataset(tables, WINDOW),
            project="p",
            config=CONFIG,
            output=tmp_path / "splits",
        )


def test_an_example_whose_label_was_known_before_the_prediction_is_left_out(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    tables = world()
    early = pl.col("trip_id").is_in(["t050", "t051"])
    tables["trips"] = tables["trips"].with_columns(
        ends=pl.when(early).then(pl.col("starts") - HOUR).otherwise("ends")
    )
    output = tmp_path / "splits"
    result = build_features(
        dataset=make_dataset(tables, WINDOW), project="p", config=CONFIG, output=output
    )
    assert result.notes["dropped"]["label_known_before_prediction"] == 2
    assert parts_of(output).filter(pl.col("trip_id").is_in(["t050", "t051"])).is_empty()


def test_a_second_run_leaves_what_the_first_left(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    from feast import FeatureStore

    dataset, output = make_dataset(world(), WINDOW), tmp_path / "splits"
    first = build_features(dataset=dataset, project="again", config=CONFIG, output=output)
    tables = {part: read_part(output, part) for part in PARTS}
    config = deepcopy(CONFIG)
    second = build_features(dataset=dataset, project="again", config=config, output=output)
    assert first == second
    assert all(read_part(output, part).equals(tables[part]) for part in PARTS)
    config["views"] = config["views"][:3]
    third = build_features(dataset=dataset, project="again", config=config, output=output)
    assert "driver_trips" not in [feature.name for feature in third.features]
    folder = locate("again").folder
    assert folder is not None and not list(folder.rglob("*.partial"))
    store = FeatureStore(repo_path=folder)
    assert sorted(view.name for view in store.list_feature_views()) == ["person", "plan", "sky"]
