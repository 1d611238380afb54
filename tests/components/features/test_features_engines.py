"""The engine that joins: the same project on Polars and on Feast's Spark store.

The run needs `pyspark` (and a Java), which Slipway does not install; docs/features.md says how.
"""

import importlib.util
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pydantic import ValidationError
from support.trips_world import CONFIG, WINDOW, world

from slipway.components.config.features.features import FeaturesConfig, OfflineStore
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.splits import PARTS, read_part
from slipway.components.features.features import build_features
from slipway.components.features.store import registry
from slipway.components.support.errors import SlipwayError

MakeDataset = Callable[..., Path]
OPTIONS: dict[str, Any] = {
    "spark_conf": {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
    }
}


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed (docs/features.md)")


@needs("pyspark")
def test_another_engine_gives_the_same_splits(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    dataset = make_dataset(world(), WINDOW)
    config = deepcopy(CONFIG) | {"offline_store": {"type": "spark", "options": OPTIONS}}
    build_features(dataset, "polars", CONFIG, tmp_path / "polars")
    build_features(dataset, "spark", config, tmp_path / "spark")
    for part in PARTS:
        ours, theirs = (
            pl.DataFrame(read_part(tmp_path / name, part)) for name in ("polars", "spark")
        )
        assert ours.height > 0
        assert ours.schema == theirs.schema
        assert ours.equals(theirs)
    folder = locate("spark").folder
    assert folder is not None
    written = yaml.safe_load((folder / "feature_store.yaml").read_text())["offline_store"]
    assert written["type"] == "spark"


def test_each_engine_reads_the_view_from_its_own_kind_of_source(store_uri: Path) -> None:
    place = locate("engines")
    sources = {
        kind: registry._source(OfflineStore(type=kind), "rain", place)
        for kind in ("polars", "spark")
    }
    assert [type(source).__name__ for source in sources.values()] == ["FileSource", "SparkSource"]
    for source in sources.values():
        assert source.path == f"{store_uri}/engines/tables/rain.parquet"  # type: ignore[attr-defined]
        assert (source.name, source.timestamp_field) == ("rain_rows", "event_timestamp")


def test_an_engine_that_is_not_installed_is_refused(
    store_uri: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SlipwayError, match="offline_store is spark, and pyspark is not installed"):
        registry.open_store(locate("engines"), OfflineStore(type="spark"))
    assert not store_uri.exists()


def test_feasts_section_for_each_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    spark = OfflineStore(type="spark", options={"spark_conf": {"spark.master": "local[2]"}})
    assert registry._offline_section(spark) == {
        "type": "spark",
        # Without the zone Spark would give times in the machine's own.
        "spark_conf": {"spark.master": "local[2]", "spark.sql.session.timeZone": "UTC"},
    }
    assert spark.options == {"spark_conf": {"spark.master": "local[2]"}}
    ours = registry._offline_section(OfflineStore())
    assert ours == {"type": "slipway.components.features.offline_store.PolarsOfflineStore"}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"type": "flink"}, "'polars' or 'spark'"),
        ({"type": "ray"}, "'polars' or 'spark'"),
        ({"options": {"threads": 2}}, "polars store has no options"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FeaturesConfig.model_validate(deepcopy(CONFIG) | {"offline_store": section})


@needs("pyspark")
def test_an_option_that_feast_does_not_know_is_refused(store_uri: Path) -> None:
    engine = OfflineStore(type="spark", options={"spark_config": {}})
    with pytest.raises(SlipwayError, match=r"offline_store.options are wrong: .*spark_config"):
        registry.open_store(locate("engines"), engine)
