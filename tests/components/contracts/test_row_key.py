"""The key of a row that no one column names: of several columns, and of a row's content."""

from copy import deepcopy
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.customers_world import CONFIG as CUSTOMERS
from support.customers_world import customers
from support.ratings_world import CONFIG

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.rows.joined_key import join_values
from slipway.components.contracts.rows.row_key import (
    HASH_DIGITS,
    ROW_ID,
    key_sources,
    row_keys,
)

PAIRS = FeaturesConfig.model_validate(CONFIG)
TEXTS = st.text(alphabet="ab|\\", max_size=4)


def nameless() -> FeaturesConfig:
    config = deepcopy(CUSTOMERS)
    del config["examples"]["key"]
    return FeaturesConfig.model_validate(config)


def keys(rows: pl.DataFrame, config: FeaturesConfig) -> list[Any]:
    return row_keys(rows.to_arrow(), config, rows.columns).to_list()


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=30))
def test_a_table_and_a_request_give_one_key_and_no_two_pairs_share_it(pairs: Any) -> None:
    rows = pl.DataFrame(
        {"user_id": [a for a, _ in pairs], "item_id": [b for _, b in pairs], "liked": 1},
        schema_overrides={"user_id": pl.String, "item_id": pl.String},
    ).select("liked", "item_id", "user_id")
    found = keys(rows, PAIRS)
    assert found == [join_values(pair) for pair in pairs]
    assert len(set(found)) == len(set(pairs))


def test_a_key_with_a_gap_is_none() -> None:
    rows = pl.DataFrame({"user_id": [7, None], "item_id": ["a", "b"], "liked": [1, 0]})
    assert keys(rows, PAIRS) == ["7|a", None]
    assert join_values(["7", None]) is None and join_values(["7", "a"]) == "7|a"


def test_one_column_stays_as_it_is() -> None:
    rows = customers(5)["customers"]
    found = row_keys(rows.to_arrow(), FeaturesConfig.model_validate(CUSTOMERS), rows.columns)
    assert found.equals(rows["customer_id"])


def test_content_names_a_row_in_any_order_and_whatever_its_label() -> None:
    config, rows = nameless(), customers(300)["customers"]
    assert key_sources(config, rows.columns) == sorted(set(rows.columns) - {"churned"})
    found = dict(zip(rows["customer_id"], keys(rows, config), strict=True))
    assert len(set(found.values())) == 300 and {len(k) for k in found.values()} == {HASH_DIGITS}
    turned = rows.sample(fraction=1, shuffle=True, seed=1).select(sorted(rows.columns))
    later = turned.with_columns(churned=1 - pl.col("churned"))
    for changed in (turned, later, turned.drop("churned")):
        raw = changed.to_arrow()
        again = row_keys(raw, config, rows.columns)
        assert again.name == ROW_ID
        assert dict(zip(changed["customer_id"], again, strict=True)) == found
    moved = rows.with_columns(pl.col("balance") + 0.01)
    assert not set(keys(moved, config)) & set(found.values())


def test_texts_of_any_width_are_one_content() -> None:
    config, rows = nameless(), customers(50)["customers"]
    views = pl.DataFrame(rows.to_arrow(compat_level=pl.CompatLevel.newest()))
    wide = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    assert row_keys(wide, config, rows.columns).to_list() == keys(views, config)


def test_equal_rows_have_keys_of_their_own_in_the_order_of_their_labels() -> None:
    rows = pl.DataFrame({"x": [1, 2, 1, 1], "churned": [1, 0, None, 0]})
    found = keys(rows, nameless())
    base = found[3]
    assert found == [f"{base}-1", found[1], f"{base}-2", base] and "-" not in found[1]
    assert keys(rows.reverse(), nameless()) == found[::-1]


@pytest.mark.parametrize("columns", [["user_id", "user_id"]])
def test_a_column_is_named_once(columns: list[str]) -> None:
    config = deepcopy(CONFIG)
    config["examples"]["key"] = columns
    with pytest.raises(ValueError, match="`key` names user_id twice"):
        FeaturesConfig.model_validate(config)
