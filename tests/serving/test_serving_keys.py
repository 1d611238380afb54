"""Online look-ups take every key that training takes: over V2 in JSON and binary, gRPC, and V1."""

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from prometheus_client import CollectorRegistry
from support.datasets import write_dataset
from support.serving_bundles import expected as expected_probabilities
from support.serving_bundles import flight_tensors, free_port, make_bundle, predictor, tensor

from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.splits import Feature, read_splits
from slipway.components.features.features import build_features
from slipway.serving.errors import RequestError
from slipway.serving.online.features import OnlineFeatures, OnlineMetrics, OnlinePolicy
from slipway.serving.protocol.rows import RowReader, Rows
from slipway.serving.protocol.tensors import decode_tensor

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ORDERS = 24 * 10
CONFIG: dict[str, Any] = {
    "entities": {"order": "order", "shop": "shop"},
    "examples": {"table": "orders", "key": "order", "time": "placed", "lead": "1h"},
    "label": {"column": "returned"},
    "split": {"validation": "2d", "test": "2d"},
    "views": [
        {"name": "basket", "entity": "order", "table": "orders", "fields": {"amount": "amount"}},
        {"name": "stock", "entity": "shop", "table": "stock", "fields": {"shelf": "shelf"}},
        {
            "name": "past", "entity": "shop", "table": "orders", "time": "placed",
            "aggregates": {
                "orders_1d": {"function": "count", "window": "1d"},
                "mean_amount_1d": {"function": "mean", "column": "amount", "window": "1d"},
            },
        },
    ],
}  # fmt: skip
SHOPS: dict[str, tuple[Any, list[Any]]] = {
    "int64": (pl.Int64, [-(2**62), 5, 2**53 + 1]),
    "int32": (pl.Int32, [-7, 5, 2**31 - 1]),
    "int8": (pl.Int8, [-7, 5, 100]),
    "uint32": (pl.UInt32, [7, 5, 2**32 - 1]),
    "uint64": (pl.UInt64, [2**63, 5, 2**64 - 1]),
    "text": (pl.String, ["", "a b", "007"]),
}


@dataclass
class World:
    """A store that the features stage has filled, and what reads it."""

    reader: RowReader
    online: OnlineFeatures
    bundle: Bundle
    kind: Any
    shops: list[Any]

    def read(self, tensors: list[dict[str, Any]]) -> Rows:
        completed = asyncio.run(self.online.complete(self.reader, tensors))
        return self.reader.read(completed)

    def values(self, tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows = self.read(tensors)
        names = self.bundle.numeric
        return [
            {n: None if v != v else v for n, v in zip(names, row, strict=True)}
            for row in rows.numeric.tolist()
        ]


def fill(folder: Path, kind: Any, shops: list[Any], config: dict[str, Any] = CONFIG) -> Bundle:
    """Orders 0 to 239, all but the last day's in the three shops, some in none; only two have stock."""
    numbers = range(ORDERS)
    orders = pl.DataFrame(
        {
            "order": pl.Series(numbers, dtype=pl.Int64),
            "shop": pl.Series([None if n % 4 == 3 else shops[n % 4] for n in numbers], dtype=kind),
            "placed": pl.Series(
                [START + n * HOUR for n in numbers], dtype=pl.Datetime("us", "UTC")
            ),
            "amount": [float(n) for n in numbers],
            "returned": [n % 3 == 0 for n in numbers],
        }
    )
    stock = pl.DataFrame({"shop": pl.Series(shops[:2], dtype=kind), "shelf": [10.0, 20.0]})
    dataset = write_dataset(
        folder / "dataset", {"orders": orders, "stock": stock},
        ("2024-01-01T00:00:00Z", "2024-01-11T00:00:00Z"),
    )  # fmt: skip
    build_features(dataset=dataset, project="shop", config=config, output=folder / "splits")
    splits = read_splits(folder / "splits")
    return Bundle(
        name="shop", features=splits.features, key=splits.key, entities=splits.entities,
        feature_service=splits.feature_service, threshold=0.5, vocabularies={}, data_hash="",
    )  # fmt: skip


def paired() -> RowReader:
    bundle = Bundle(
        name="pairs", features=(Feature(name="age", kind="numeric", view="v"),), key="row_id",
        key_columns=("user_id", "item_id"), entities={}, feature_service="pairs", threshold=0.5,
        vocabularies={}, data_hash="",
    )  # fmt: skip
    return RowReader(bundle, max_rows=10, missing_as_null=False)


def test_a_key_of_several_columns_is_put_together_from_a_request() -> None:
    reader = paired()
    age = tensor("age", "FP64", [1.0])
    user, item = tensor("user_id", "BYTES", ["7"]), tensor("item_id", "BYTES", ["a|b"])
    for _ in range(2):  # the second time by the order that the first one left
        assert reader.read([age, item, user]).keys == ["7|a\\|b"]
    assert reader.read([tensor("user_id", "INT64", [7]), item, age]).keys == ["7|a\\|b"]
    # One column says nothing; what is sent as the key itself stands.
    for _ in range(2):
        assert reader.read([age, item]).keys is None
        assert reader.read([age, user, item, tensor("row_id", "BYTES", ["own"])]).keys == ["own"]
    gap = [tensor("age", "FP64", [1.0, 2.0]), tensor("user_id", "BYTES", ["7", None])]
    rows = reader.read([*gap, tensor("item_id", "BYTES", ["a", "b"])])
    assert rows.keys == ["7|a", None]
    tensors = reader.instance_tensors(
        [{"age": 1.0, "user_id": 7, "item_id": "a"}, {"age": 2.0, "user_id": 8, "item_id": "b"}]
    )
    assert reader.read(tensors).keys == ["7|a", "8|b"]
    with pytest.raises(RequestError, match="item_idd"):
        reader.read([age, tensor("item_idd", "BYTES", ["a"])])


@pytest.fixture(params=SHOPS, scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("keys")
    kind, shops = SHOPS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE_URI", str(folder / "store"))
        patch.delenv("FEAST_REDIS_URL", raising=False)
        bundle = fill(folder, kind, shops)
        reader = RowReader(bundle, max_rows=100, missing_as_null=False)
        online = OnlineFeatures("shop", bundle, OnlineMetrics(CollectorRegistry()), OnlinePolicy())
        yield World(reader, online, bundle, kind, shops)
        online.close()


def expected(shop: int | None, order: int | None) -> dict[str, Any]:
    """The values at the end of the window, of the shop by its place."""
    made: dict[str, Any] = {"amount": None if order is None else float(order), "shelf": None}
    if shop is None:
        return made | {"orders_1d": None, "mean_amount_1d": None}
    # Known in the last day before midnight: orders 217 on, since that of the day's beginning is out.
    mine = [float(n) for n in range(ORDERS - 23, ORDERS) if n % 4 == shop]
    shelf = (10.0, 20.0, None)[shop]
    return made | {"shelf": shelf, "orders_1d": len(mine), "mean_amount_1d": sum(mine) / len(mine)}


def integer_types(values: list[int]) -> list[str]:
    held = {
        f"{sign}INT{bits}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits if sign else bits - 1))
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    }
    return [name for name, (low, high) in held.items() if all(low <= v < high for v in values)]


def test_v2_takes_a_key_in_every_type_that_holds_it(world: World) -> None:
    orders, places = [10, 239, 120], [0, 1, 2]
    wanted = [expected(shop, order) for shop, order in zip(places, orders, strict=True)]
    texts = [str(shop) for shop in world.shops]
    ways = [("BYTES", texts)]
    if world.kind != pl.String:
        ways += [(name, world.shops) for name in integer_types(world.shops)]
        assert len(ways) > 1
    order_ways = [("BYTES", [str(n) for n in orders])] + [
        (n, orders) for n in integer_types(orders)
    ]
    for kind, shops in ways:
        for order_kind, numbers in order_ways:
            tensors = [tensor("shop", kind, shops), tensor("order", order_kind, numbers)]
            assert world.values(tensors) == wanted, (kind, order_kind)
            # The log names an example by its digits, however they came.
            assert world.read(tensors).keys == ["10", "239", "120"]
            if kind != "BYTES":
                dtype = np.dtype(kind.lower())
                raw = memoryview(np.array(shops, dtype).tobytes())
                tensors[0]["data"] = decode_tensor("shop", kind, [3], raw, 100)
                assert world.values(tensors) == wanted, f"binary {kind}"


def test_v1_takes_numbers_and_digits(world: World) -> None:
    texts = [str(shop) for shop in world.shops]
    for shops in [texts] + ([world.shops] if world.kind != pl.String else []):
        for orders in ([10, 239, 120], ["10", "239", "120"]):
            instances = [{"shop": s, "order": o} for s, o in zip(shops, orders, strict=True)]
            body = json.loads(json.dumps(instances))
            tensors = world.reader.instance_tensors(body, keyed=True)
            assert world.values(tensors) == [expected(s, int(o)) for s, o in enumerate(orders)]


def test_grpc_takes_them_as_v2_does(world: World) -> None:
    from slipway.serving.grpc.messages import message
    from slipway.serving.grpc.server import _CONTENTS, read_message

    wanted = [expected(s, o) for s, o in enumerate([10, 239, 120])]
    texts = [str(shop).encode() for shop in world.shops]
    ways = [("BYTES", texts)]
    ways += (
        [] if world.kind == pl.String else [(n, world.shops) for n in integer_types(world.shops)]
    )
    for kind, shops in ways:
        request = message("ModelInferRequest")(model_name="shop")
        for name, datatype, values in (("shop", kind, shops), ("order", "INT32", [10, 239, 120])):
            item = request.inputs.add(name=name, datatype=datatype, shape=[3])
            getattr(item.contents, _CONTENTS[datatype]).extend(values)
        read = read_message(request, world.reader.bounds, ("probability",))
        assert world.values(read.inputs) == wanted, kind


def test_a_null_names_no_entity_and_an_unknown_one_has_no_events(world: World) -> None:
    unknown = "nowhere" if world.kind == pl.String else 99
    kind = "BYTES" if world.kind == pl.String else "INT64" if world.kind != pl.UInt64 else "UINT64"
    tensors = [
        tensor("shop", kind, [None, unknown, world.shops[0], None]),
        tensor("order", "INT64", [10, 11, None, None]),
    ]
    nothing = {"shelf": None, "mean_amount_1d": None}
    wanted = [
        {"amount": 10.0, "orders_1d": None} | nothing,
        {"amount": 11.0, "orders_1d": 0.0} | nothing,
        expected(0, None),
        {"amount": None, "orders_1d": None} | nothing,
    ]
    assert world.values(tensors) == wanted
    assert world.read(tensors).keys == ["10", "11", None, None]
    instances = [
        {"shop": s, "order": o} for s, o in zip(*(t["data"] for t in tensors), strict=True)
    ]
    assert world.values(world.reader.instance_tensors(instances, keyed=True)) == wanted


WRONG: list[tuple[str, Callable[[World], dict[str, Any]], str]] = [
    ("a fraction", lambda w: tensor("shop", "FP64", [1.5]), "datatype 'FP64': give BYTES or an"),
    ("a truth", lambda w: tensor("shop", "BOOL", [True]), "has datatype 'BOOL'"),
    ("a number that is none", lambda w: tensor("order", "INT64", ["7"]), "value 7, which is not INT64"),
    ("too large for its type", lambda w: tensor("order", "INT8", [300]), "a value that INT8 cannot hold"),
    ("no digits", lambda w: tensor("order", "BYTES", ["seven"]), "int64: 'seven' is no such number"),
    ("other digits", lambda w: tensor("order", "BYTES", ["007"]), "'007' is no such number"),
    ("beyond int64", lambda w: tensor("order", "UINT64", [2**63]), "is no such number"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_is_no_key_is_refused(
    world: World, make: Callable[[World], dict[str, Any]], words: str
) -> None:
    bad = make(world)
    good = (
        tensor("order", "INT64", [1]) if bad["name"] == "shop" else tensor("shop", "BYTES", ["5"])
    )
    with pytest.raises(RequestError, match=rf"'{bad['name']}' .*{words}") as refused:
        asyncio.run(world.online.complete(world.reader, [bad, good]))
    assert refused.value.status == 400


def test_a_text_key_is_no_number(world: World) -> None:
    if world.kind != pl.String:
        return
    with pytest.raises(RequestError, match="'shop' is an entity key of texts: give BYTES"):
        world.values([tensor("shop", "INT64", [7]), tensor("order", "INT64", [1])])


def test_the_predictor_answers_for_whole_number_keys_on_all_its_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example's own key is a whole number too: what is looked up by it, and what the log says."""
    import tritonclient.grpc as triton

    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    numbers = range(ORDERS)
    flights = pl.DataFrame(
        {
            "flight_id": pl.Series(numbers, dtype=pl.Int64),
            "at": pl.Series([START + n * HOUR for n in numbers], dtype=pl.Datetime("us", "UTC")),
            "late": [n % 2 == 0 for n in numbers],
            **{t["name"]: t["data"] for t in flight_tensors(ORDERS) if t["name"] != "flight_id"},
        }
    ).with_columns(pl.col("departs").str.to_datetime(time_unit="us"))
    fields = {name: name for name in ("miles", "delay", "weekend", "carrier", "origin", "departs")}
    config = {
        "entities": {"flight": "flight_id"},
        "examples": {"table": "flights", "key": "flight_id", "time": "at"},
        "label": {"column": "late"},
        "split": {"validation": "2d", "test": "2d"},
        "views": [
            {
                "name": "schedule",
                "entity": "flight",
                "table": "flights",
                "fields": fields,
            }
        ],
    }
    window = ("2024-01-01T00:00:00Z", "2024-01-11T00:00:00Z")
    dataset = write_dataset(tmp_path / "dataset", {"flights": flights}, window)
    build_features(dataset=dataset, project="flights", config=config, output=tmp_path / "splits")
    bundle = tmp_path / "bundle"
    make_bundle(bundle)
    content = json.loads((bundle / "bundle.json").read_text())
    content |= {"entities": {"flight_id": "int64"}, "feature_service": "flights"}
    (bundle / "bundle.json").write_text(json.dumps(content))
    port = free_port()
    flags = ("--online", f"--grpc-port={port}")
    truth = [expected_probabilities(ORDERS)[n] for n in (7, 107)]
    with predictor(tmp_path / "p", *flags, bundle=bundle) as running:
        ways: list[tuple[str, list[Any]]] = [
            ("INT64", [7, 107]), ("INT32", [7, 107]), ("UINT64", [7, 107]), ("BYTES", ["7", "107"]),
        ]  # fmt: skip
        for kind, keys in ways:
            answer = running.infer([tensor("flight_id", kind, keys)])
            assert answer.json()["outputs"][0]["data"] == pytest.approx(truth), kind
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        for kind in ("INT64", "UINT32"):
            asked = triton.InferInput("flight_id", [2], kind)
            asked.set_data_from_numpy(np.array([7, 107], np.dtype(kind.lower())))
            assert client.infer("flights", [asked]).as_numpy(
                "probability"
            ).tolist() == pytest.approx(truth)
        url = f"{running.url}/v1/models/flights:predict"
        for keys in ([7, 107], ["7", "107"]):
            body = {"instances": [{"flight_id": key} for key in keys]}
            answer = httpx.post(url, json=body)
            assert [p["probability"] for p in answer.json()["predictions"]] == pytest.approx(truth)


def test_a_view_that_is_not_kept_online_is_asked_of_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store would have none of its values: a count would be 0."""
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    config = copy.deepcopy(CONFIG)
    config["views"][2]["online"] = False
    bundle = fill(tmp_path, pl.Int64, [1, 2, 3], config)
    reader = RowReader(bundle, max_rows=100, missing_as_null=False)
    online = OnlineFeatures("shop", bundle, OnlineMetrics(CollectorRegistry()), OnlinePolicy())
    keys = [tensor("order", "INT64", [5]), tensor("shop", "INT64", [2])]
    sent = [tensor("orders_1d", "FP64", [7.0]), tensor("mean_amount_1d", "FP64", [1.5])]
    try:
        with pytest.raises(
            RequestError, match="does not keep mean_amount_1d, orders_1d"
        ) as refused:
            asyncio.run(online.complete(reader, keys))
        assert refused.value.status == 400
        row = reader.read(asyncio.run(online.complete(reader, [*keys, *sent]))).numeric[0]
    finally:
        online.close()
    assert dict(zip(bundle.numeric, row, strict=True)) == {
        "amount": 5.0, "shelf": 20.0, "orders_1d": 7.0, "mean_amount_1d": 1.5,
    }  # fmt: skip
