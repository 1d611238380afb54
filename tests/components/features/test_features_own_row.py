"""No example sees itself, or a row of the same instant: offline, online, in a backfill and in scoring."""

import random
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.feature_rows import ROWS
from slipway.components.contracts.feature_store import repo_config
from slipway.components.contracts.splits import PARTS, read_part, read_splits
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features

MakeDataset = Callable[..., Path]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WINDOW = ("2024-01-01T00:00:00Z", "2024-01-31T00:00:00Z")
PAST: dict[str, Any] = {
    "name": "past",
    "entity": "customer",
    "table": "orders",
    "time": "placed",
    "aggregates": {
        "orders_7d": {"function": "count", "window": "7d"},
        "rating_7d": {"function": "mean", "column": "rating", "window": "7d"},
        "last_rating": {"function": "last", "column": "rating", "window": "7d"},
        "orders_before": {"function": "count", "window": "7d", "lag": 1},
        "rating": {"function": "mean", "column": "rating", "windows": ["1d", "3d"], "lag": "6h"},
        "hours_since": {"function": "since", "window": "7d"},
        "since_good": {"function": "since", "column": "rating", "above": 3, "window": "7d"},
        "ratings": {"function": "distinct", "column": "rating", "window": "7d"},
        "usual_rating": {"function": "most_common", "column": "rating", "window": "7d"},
        "usual_verdict": {
            "function": "most_common",
            "column": "verdict",
            "window": "7d",
            "lag": "2h",
        },
    },
}
NEWEST: dict[str, Any] = {
    "name": "newest",
    "entity": "customer",
    "table": "orders",
    "time": "placed",
    "fields": {"rating_before": "rating"},
}
VISITS: dict[str, Any] = {
    "name": "visits",
    "entity": "customer",
    "table": "visits",
    "time": "at",
    "aggregates": {"visits_7d": {"function": "count", "window": "7d"}},
}
CONFIG: dict[str, Any] = {
    "entities": {"customer": "customer"},
    "examples": {"table": "orders", "key": "order", "time": "placed"},
    "label": {"column": "good"},
    "split": {"validation": "5d", "test": "5d"},
    "views": [PAST, NEWEST, VISITS],
}


def orders(rows: int = 600) -> pl.DataFrame:
    """Orders in whole quarters of an hour, so that a customer has several at one instant."""
    r = random.Random(3)
    made = []
    for number in range(rows):
        placed = START + r.randrange(30 * 24 * 4) * HOUR / 4
        made.append(
            {
                "order": f"o{number:04d}",
                "customer": r.randrange(12) if number % 40 else None,
                "placed": placed,
                "settled": placed + r.choice([0, 0, 1, 30, 96]) * HOUR / 4,
                "rating": float(r.randrange(1, 6)) if number % 25 else None,
            }
        )
    # Some rows share the instant of another row of their customer; some are known long before.
    for number in range(0, rows - 3, 7):
        made[number + 1] |= {name: made[number][name] for name in ("customer", "placed")}
    table = pl.DataFrame(
        made, schema_overrides={n: pl.Datetime("us", "UTC") for n in ("placed", "settled")}
    )
    verdict = pl.when(pl.col("rating") > 3).then(pl.lit("fine")).otherwise(pl.lit("poor"))
    table = table.with_columns(good=pl.col("rating").fill_null(3) >= 4, verdict=verdict)
    return table.sort("placed", "order")


def visits() -> pl.DataFrame:
    """Visits, some at the very instant of an order."""
    r = random.Random(5)
    at = [START + r.randrange(30 * 24 * 4) * HOUR / 4 for _ in range(900)]
    return pl.DataFrame(
        {"customer": [r.randrange(12) for _ in at], "at": at},
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def rows_of(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(read_part(folder, part)) for part in PARTS])


def seen_by(
    example: dict[str, Any], events: list[dict[str, Any]], known: str, lead: timedelta
) -> list[tuple[datetime, dict[str, Any]]]:
    """The rows of the examples' own table that an example may see, each with when it became known."""
    moment, seen = example["placed"] - lead, []
    for event in events:
        if event["customer"] is None or event["customer"] != example["customer"]:
            continue
        predicted = event["placed"] - lead
        if predicted < event[known] <= moment:
            seen.append((event[known], event))
        elif event[known] <= predicted < moment:
            seen.append((predicted, event))
    assert example["order"] not in {event["order"] for _, event in seen}
    return seen


@pytest.mark.parametrize("lead", ["0s", "15m", "6h"])
@pytest.mark.parametrize("known", [None, "settled"], ids=["known at once", "known later"])
def test_a_history_is_what_others_left_before(
    lead: str, known: str | None, make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    config = deepcopy(CONFIG)
    config["examples"]["lead"] = lead
    for view in config["views"][:2]:
        view |= {"known": known} if known else {}
    table = orders()
    dataset = make_dataset({"orders": table, "visits": visits()}, WINDOW)
    build_features(dataset=dataset, project="shop", config=config, output=tmp_path / "splits")

    ahead = FeaturesConfig.model_validate(config).examples.lead
    events = table.to_dicts()
    by_key = {event["order"]: event for event in events}
    happened = visits().to_dicts()
    first = min(event["placed"] for event in events)
    shared = 0
    rows = rows_of(tmp_path / "splits").to_dicts()
    assert len(rows) > 500
    for row in rows:
        example = by_key[row["order"]]
        moment = example["placed"] - ahead
        seen = seen_by(example, events, known or "placed", ahead)
        shared += any(
            e["placed"] == example["placed"] and e["customer"] == example["customer"]
            for e in events
            if e["order"] != example["order"]
        )
        inside = [e for since, e in seen if since > moment - 7 * DAY]
        ratings = [e["rating"] for e in inside if e["rating"] is not None]
        where = (row["order"], lead, known)
        if example["customer"] is None or moment < first:
            assert row["orders_7d"] is None, where
        else:
            assert row["orders_7d"] == len(inside), where
            # Of another table all counts that is known at the moment itself.
            assert row["visits_7d"] == sum(
                v["customer"] == example["customer"] and moment - 7 * DAY < v["at"] <= moment
                for v in happened
            ), where
        assert row["rating_7d"] == pytest.approx(sum(ratings) / len(ratings) if ratings else None)
        if seen:
            newest = max(e["placed"] for _, e in seen)
            last = {e["rating"] for _, e in seen if e["placed"] == newest}
            assert row["rating_before"] in last, where
        else:
            assert row["rating_before"] is None, where
    assert shared > 100


@pytest.mark.parametrize("lead", ["0s", "15m"])
def test_what_happens_from_the_very_instant_on_changes_nothing(
    lead: str, make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """All rows from an instant on are changed, the predicted ones with them: their features stay."""
    table = orders()
    cutoff = table["placed"][400]
    later = pl.col("placed") >= cutoff
    changed = table.with_columns(
        rating=pl.when(later).then(pl.col("rating") * 100 + 7).otherwise("rating"),
        verdict=pl.when(later).then(pl.lit("later")).otherwise("verdict"),
        settled=pl.when(later).then(pl.col("settled") + DAY).otherwise("settled"),
    )
    config = deepcopy(CONFIG)
    config["examples"]["lead"] = lead
    seen = []
    for name, rows in (("before", table), ("after", changed)):
        build_features(
            dataset=make_dataset({"orders": rows, "visits": visits()}, WINDOW, name),
            project="shift", config=config, output=tmp_path / name,
        )  # fmt: skip
        known = rows_of(tmp_path / name).filter(pl.col("event_timestamp") <= cutoff)
        seen.append(known.drop("label"))
    assert (seen[0]["event_timestamp"] == cutoff).any()
    assert seen[0].height > 350
    assert seen[0].equals(seen[1])


def test_online_a_backfill_and_scoring_are_one_at_the_instant_itself(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """Each customer orders, and visits, at the end of the window: the store that stands for it knows the
    visits and not the orders, and so do scored rows of that instant."""
    from feast import FeatureStore, RepoConfig

    end = datetime.fromisoformat(WINDOW[1])
    build_features(
        dataset=make_dataset({"orders": orders(), "visits": visits()}, WINDOW),
        project="shop", config=CONFIG, output=tmp_path / "splits",
    )  # fmt: skip
    at_end = pl.DataFrame({"customer": range(12)}).with_columns(
        order=pl.format("z{}", "customer"), good=True, rating=pl.lit(500.0), verdict=pl.lit("new"),
        placed=pl.lit(end).cast(pl.Datetime("us", "UTC")),
    ).with_columns(settled="placed")  # fmt: skip
    after = at_end.with_columns(
        order=pl.format("zz{}", "customer"), placed=pl.col("placed") + 3 * HOUR,
        settled=pl.col("settled") + 3 * HOUR,
    )  # fmt: skip
    more = pl.concat([orders(), at_end.select(orders().columns), after.select(orders().columns)])
    visited = pl.concat([visits(), at_end.select("customer", at="placed")])
    dataset = make_dataset(
        {"orders": more, "visits": visited}, (WINDOW[0], "2024-02-15T00:00:00Z"), "later"
    )
    config = deepcopy(CONFIG)
    for view in config["views"]:
        view["ttl"] = "14d"  # scoring reads no further back
    backfill_features(
        dataset,
        "shop",
        config,
        Window(start=end - 7 * DAY, end=end),
        online=True,
        record=tmp_path / "record.json",
    )
    look_up_features(
        dataset=dataset, project="shop", config=config, window=Window(start=end, end=end + HOUR),
        output=tmp_path / "rows",
    )  # fmt: skip
    scored = pl.read_parquet(tmp_path / "rows" / ROWS).sort("customer")
    assert scored["order"].to_list() == [f"z{number}" for number in range(12)]

    store = FeatureStore(config=RepoConfig(**repo_config("shop")))
    features = read_splits(tmp_path / "splits").features
    keys = [{"customer": number} for number in range(12)]
    answer = store.get_online_features(
        features=store.get_feature_service("shop"), entity_rows=keys
    ).to_dict()
    for feature in features:
        if feature.since_hours is not None:
            answer[feature.name] = [
                last and (end - last.replace(tzinfo=UTC)) / HOUR for last in answer[feature.name]
            ]
    names = [feature.name for feature in features]
    assert {name: answer[name] for name in names} == scored.select(names).to_dict(as_series=False)
    assert all(value and value > 0 for value in answer["hours_since"])
    assert max(answer["rating_7d"]) <= 5 and None not in answer["rating_7d"]
    truth = visited.filter(pl.col("at").is_between(end - 7 * DAY, end, closed="right"))
    counts = dict(truth["customer"].value_counts().iter_rows())
    assert answer["visits_7d"] == [counts[number] for number in range(12)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"examples": {"lead": "1h"}, "view": {"available": "2h"}},
            "would see itself. Set `available: 1h`",
        ),
        ({"view": {"available": "2h"}}, "would see itself. Leave it out"),
        ({"view": {"known": "placed", "available": "1s"}}, "would see itself"),
        ({"view": {"entity": "order"}}, "by order, which names one row"),
    ],
    ids=["known before the lead", "known before", "known is the time", "by the examples' key"],
)
def test_a_history_that_must_hold_the_row_itself_is_refused(
    change: dict[str, Any], words: str
) -> None:
    config = deepcopy(CONFIG)
    config["entities"]["order"] = "order"
    FeaturesConfig.model_validate(config)
    config["examples"] |= change.get("examples", {})
    config["views"][0] |= change["view"]
    with pytest.raises(ValidationError, match=words):
        FeaturesConfig.model_validate(config)


def test_a_history_without_time_is_refused() -> None:
    config = deepcopy(CONFIG)
    del config["views"][1]["time"]
    with pytest.raises(ValidationError, match="has no `time`: an example would see itself"):
        FeaturesConfig.model_validate(config)


OWN = {
    "name": "own",
    "entity": "order",
    "table": "orders",
    "time": "placed",
    "fields": {"stars": "rating"},
}


@pytest.mark.parametrize(
    ("view", "label", "words"),
    [
        ({}, {}, "every value would be null. Set `available: 2h`"),
        ({"available": "1h"}, {}, "known only at placed less 1h, after the prediction .lead: 2h"),
        ({"available": "30d", "ttl": "1d"}, {}, "718h old at the prediction.*Set `ttl: 718h`"),
        ({"known": "settled"}, {"known": "settled"}, "known only with the label .settled"),
    ],
    ids=["not in advance", "not enough in advance", "expired", "with the label"],
)
def test_own_fields_that_would_all_be_null_are_refused(
    view: dict[str, Any], label: dict[str, Any], words: str
) -> None:
    config = deepcopy(CONFIG)
    config["entities"]["order"] = "order"
    config["examples"]["lead"] = "2h"
    config["views"].append(OWN | {"available": "2h"})
    FeaturesConfig.model_validate(config)
    config["views"][-1] = OWN | view
    config["label"] |= label
    with pytest.raises(ValidationError, match=words):
        FeaturesConfig.model_validate(config)


@pytest.mark.parametrize(
    ("view", "label", "words"),
    [
        ({"known": "settled"}, {}, "set `label.known: settled`"),
        ({"time": "settled"}, {}, "set `label.known: settled`"),
        ({"known": "settled"}, {"known": "billed"}, "set `known: billed`"),
        ({}, {"known": "settled"}, "set `known: settled`"),
        ({"known": "settled", "available": "1h"}, {"known": "settled"}, "without `available`"),
        ({}, {}, "Set `label.known`"),
    ],
    ids=[
        "lagged",
        "lagged by time",
        "by another column",
        "not lagged",
        "in advance",
        "nothing said",
    ],
)
def test_an_aggregate_of_the_label_is_told_how_to_lag(
    view: dict[str, Any], label: dict[str, Any], words: str
) -> None:
    config = deepcopy(CONFIG)
    late = {"late": {"function": "mean", "column": "good", "window": "7d"}}
    config["views"][0] |= {"aggregates": late, "known": "settled"}
    config["label"]["known"] = "settled"
    FeaturesConfig.model_validate(config)
    config["views"][0] = PAST | {"aggregates": late} | view
    config["label"] = {"column": "good"} | label
    with pytest.raises(ValidationError, match=words):
        FeaturesConfig.model_validate(config)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ({"entity": "outcome"}, "looked up by the label's column good"),
        ({"table": "orders", "source_key": "good"}, "reads the label's column good"),
        ({"time": None, "known": "at"}, "has `known` and no `time`.*it may be at itself"),
        ({"time": None, "ttl": "1d"}, "has `ttl` and no `time`"),
        ({"ttl": "0s"}, "a ttl of 0s, after which nothing is left"),
    ],
    ids=["keyed by the label", "matched by the label", "known at once", "for ever", "never"],
)
def test_a_setting_that_would_be_passed_over_is_refused(view: dict[str, Any], words: str) -> None:
    config = deepcopy(CONFIG)
    config["entities"]["outcome"] = "good"
    own = {"name": "more", "entity": "customer", "table": "visits", "time": "at"}
    config["views"].append(own | {"fields": {"page": "page"}})
    FeaturesConfig.model_validate(config)
    config["views"][-1] |= view
    with pytest.raises(ValidationError, match=words):
        FeaturesConfig.model_validate(config)


@pytest.mark.parametrize("function", ["count", "rate"])
def test_a_count_of_what_is_above_is_a_sum(function: str) -> None:
    config = deepcopy(CONFIG)
    above = {"function": function, "column": "rating", "above": 3, "window": "7d"}
    config["views"][0]["aggregates"] = {"stars_7d": above | {"function": "sum"}}
    FeaturesConfig.model_validate(config)
    config["views"][0]["aggregates"] = {"stars_7d": above}
    with pytest.raises(ValidationError, match="counts every event, whatever `above` says"):
        FeaturesConfig.model_validate(config)
