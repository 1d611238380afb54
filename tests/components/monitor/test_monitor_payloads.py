"""KServe's own payload log in place of the predictor's: the shapes that its agent writes."""

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.components.config.data import Window
from slipway.components.monitor.window import main_version, open_window, read_answers
from slipway.components.support.errors import SlipwayError

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
START = NOON.replace(minute=0)
WINDOW = Window(start=START, end=START + timedelta(hours=1))


def record(name: str, kind: str, content: Any, service: str = "flights") -> dict[str, Any]:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {
        "Url": {"Scheme": "s3", "Host": "bucket"},
        "Bytes": base64.b64encode(raw).decode(),
        "ContentType": "application/json",
        "ReqType": f"org.kubeflow.serving.inference.{kind}",
        "Id": name,
        "InferenceService": service,
        "Namespace": "models",
        "Component": "predictor",
        "Metadata": None,
    }


def request(miles: list[Any], keys: list[str]) -> dict[str, Any]:
    def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
        return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}

    return {
        "inputs": [
            tensor("miles", "FP64", miles),
            tensor("carrier", "BYTES", ["AA"] * len(miles)),
            tensor("weekend", "BOOL", [True] * len(miles)),
            tensor("departs", "BYTES", ["2026-03-01T17:15:00-05:00"] * len(miles)),
            tensor("flight_id", "BYTES", keys),
        ]
    }


def answer(probability: list[float], version: str = "3") -> dict[str, Any]:
    outputs = [
        {"name": "probability", "datatype": "FP32", "data": probability},
        {"name": "label", "datatype": "INT64", "data": [int(p >= 0.5) for p in probability]},
    ]
    return {"model_name": "flights", "model_version": version, "outputs": outputs}


def write(folder: Path, records: list[dict[str, Any]], name: str, at: datetime = NOON) -> None:
    """A batch as the agent writes it, by the ending of its name."""
    path = folder / "models" / "flights" / "predictor" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".json"):
        path.write_text(json.dumps(records))
    else:
        columns = {"bytes": "Bytes", "req_type": "ReqType", "id": "Id"}
        columns["inference_service"] = "InferenceService"
        table = {column: [r[field] for r in records] for column, field in columns.items()}
        table["bytes"] = [base64.b64decode(value) for value in table["bytes"]]
        pq.write_table(pa.table(table), path, compression="snappy")
    os.utime(path, (at.timestamp(), at.timestamp()))


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_rows_of_the_window(tmp_path: Path, form: str) -> None:
    write(tmp_path, [record("a", "request", request([1.5, None], ["k0", "k1"]))], f"a.{form}")
    write(tmp_path, [record("a", "response", answer([0.25, 0.75]))], f"b.{form}")
    both = [
        record("c", "request", request([9.0], ["k2"])),
        record("c", "response", answer([0.5])),
        record("lost", "request", request([1.0], ["k3"])),
        record("x", "request", request([1.0], ["k4"]), service="other"),
    ]
    write(tmp_path, both, f"c.{form}", NOON + timedelta(minutes=5))
    early = [record("e", "request", request([1.0], ["k5"])), record("e", "response", answer([0.1]))]
    write(tmp_path, early, f"e.{form}", START - timedelta(minutes=1))

    window = open_window(f"kserve+file://{tmp_path}#flight_id", "flights", WINDOW)
    answers = read_answers(window, "binary")
    rows = {(r["key"], r["status"]): r for r in answers.to_pylist()}
    assert set(rows) == {("k0", 200), ("k1", 200), ("k2", 200), (None, 500)}
    assert [rows["k0", 200][n] for n in ("probability", "label", "row")] == [0.25, 0, 0]
    assert [rows["k1", 200][n] for n in ("probability", "label", "row")] == [0.75, 1, 1]
    assert rows["k0", 200]["time"] == NOON and rows["k0", 200]["latency_ms"] is None
    assert main_version(answers) == ("3", {"3": 3})
    names = ["key", *(f"feature.{n}" for n in ("miles", "carrier", "weekend", "departs"))]
    table = pa.concat_tables(window.batches(names))
    features = {row["key"]: row for row in table.to_pylist()}
    assert features["k1"]["feature.miles"] is None and features["k0"]["feature.miles"] == 1.5
    assert features["k2"]["feature.carrier"] == "AA" and features["k2"]["feature.weekend"] is True
    # The wall clock counts, as in the predictor.
    assert features["k2"]["feature.departs"] == datetime(2026, 3, 1, 17, 15)


def test_an_empty_window_and_no_log_at_all(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        window = open_window(f"kserve+file://{folder}#flight_id", "flights", WINDOW)
        assert read_answers(window, "binary").num_rows == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", r"a.json cannot be read.*If it is damaged"),
        ("a.parquet", b"PAR1", r"a.parquet cannot be read"),
        (
            "a.json",
            [
                record("a", "request", b'{"inputs": []}\x00\x01'),
                record("a", "response", answer([0.5])),
            ],
            "a.json .id a. is not JSON: a request with binary tensors cannot",
        ),
        (
            "a.json",
            [
                record("a", "request", {}),
                record("a", "response", {"outputs": [{"name": "label", "data": ["high"]}]}),
            ],
            "holds answers that no model of Slipway gives",
        ),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (NOON.timestamp(), NOON.timestamp()))
    else:
        write(tmp_path, content, name)
    with pytest.raises(SlipwayError, match=message):
        open_window(f"kserve+file://{tmp_path}", "flights", WINDOW)


HOSTILE: dict[str, Any] = {
    "no JSON": b"\x00\xff",
    "nesting": b"[" * 100_000,
    "no object": [1],
    "inputs of another kind": {"inputs": {"a": 1}},
    "a text": {"inputs": "x"},
    "no tensors": {"inputs": [None, 1, [], {}, {"name": 3}]},
}
ODD_INPUTS: dict[str, Any] = {
    "a word for a number": {"datatype": "FP64", "data": ["abc"]},
    "an object": {"datatype": "FP64", "data": [{"a": 1}]},
    "a long number": {"datatype": "INT64", "data": [10**400]},
    "too many values": {"datatype": "FP64", "data": [1.0, 2.0]},
    "no list": {"datatype": "FP64", "data": {"a": 1}},
    "half a character": {"datatype": "BYTES", "data": ["\ud800"]},
    "a number for a word": {"datatype": "BYTES", "data": [3]},
    "no type": {"data": ["abc"]},
    "a type that is none": {"datatype": ["BYTES"], "data": [1]},
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_no_refused_request_stops_monitoring(tmp_path: Path, body: Any) -> None:
    """The agent logs what any client sends, whether it is answered or not."""
    good = [record("g", "request", request([1.0], ["k0"])), record("g", "response", answer([0.5]))]
    write(tmp_path, [*good, record("bad", "request", body)], "a.json")
    window = open_window(f"kserve+file://{tmp_path}#flight_id", "flights", WINDOW)
    rows = read_answers(window, "binary").to_pylist()
    assert sorted((row["key"] or "", row["status"]) for row in rows) == [("", 500), ("k0", 200)]


@pytest.mark.parametrize("tensor", ODD_INPUTS.values(), ids=ODD_INPUTS)
def test_an_odd_input_costs_itself_alone(tmp_path: Path, tensor: Any) -> None:
    """A server may answer a request with inputs that its model does not know."""
    body = request([1.5], ["k0"])
    body["inputs"].append({"name": "x", "shape": [1], **tensor})
    plain = request([2.5], ["k1"])
    plain["inputs"].append({"name": "x", "shape": [1], "datatype": "BOOL", "data": [True]})
    log = [
        record("o", "request", body), record("o", "response", answer([0.25])),
        record("p", "request", plain), record("p", "response", answer([0.75])),
    ]  # fmt: skip
    write(tmp_path, log, "a.json")
    window = open_window(f"kserve+file://{tmp_path}#flight_id", "flights", WINDOW)
    table = pa.concat_tables(window.batches(["key", "feature.miles"]))
    assert {row["key"]: row["feature.miles"] for row in table.to_pylist()} == {
        "k0": 1.5, "k1": 2.5,
    }  # fmt: skip
    answers = read_answers(window, "binary").to_pylist()
    assert {row["key"]: row["probability"] for row in answers} == {"k0": 0.25, "k1": 0.75}


def test_a_key_that_is_a_number_is_its_text(tmp_path: Path) -> None:
    body = request([1.5], ["k0"])
    body["inputs"][-1] = {"name": "flight_id", "shape": [1], "datatype": "INT64", "data": [7]}
    log = [record("o", "request", body), record("o", "response", answer([0.25]))]
    write(tmp_path, log, "a.json")
    window = open_window(f"kserve+file://{tmp_path}#flight_id", "flights", WINDOW)
    assert [row["key"] for row in read_answers(window, "binary").to_pylist()] == ["7"]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["2026-03-01T17:15:00-05:00", ""], pa.timestamp("us")),
        (["2026-03-01", "2026-03-02"], pa.timestamp("us")),
        (["20130114", "20130115"], pa.string()),
        (["", ""], pa.string()),
        (["2026-03-01", "soon"], pa.string()),
    ],
    ids=str,
)
def test_texts_are_times_where_they_can_be_nothing_else(
    texts: list[str], kind: pa.DataType, tmp_path: Path
) -> None:
    """A code of eight digits is a category, and a text without content a missing time."""
    body = request([1.0, 2.0], ["k0", "k1"])
    body["inputs"].append({"name": "x", "shape": [2], "datatype": "BYTES", "data": texts})
    log = [record("o", "request", body), record("o", "response", answer([0.25, 0.5]))]
    write(tmp_path, log, "a.json")
    window = open_window(f"kserve+file://{tmp_path}#flight_id", "flights", WINDOW)
    (table,) = window.batches(["feature.x"])
    there = table.schema.field("feature.x").type
    assert getattr(there, "value_type", there) == kind  # texts are read as codes
    missing = kind != pa.string() and "" in texts
    assert table["feature.x"].null_count == missing
