"""KServe's own payload log, read in place of the predictor's.

Where an InferenceService has `logger.storage`, KServe's agent writes each request and each answer to the
object store, in batches, as parquet or JSON. INFERENCE_LOG_URI then is `kserve+` and that prefix, with
the input that names an example behind a `#`: `kserve+s3://bucket/payloads#flight_id`. Files are named::

    <prefix>/<namespace>/<service>/<component>/<id>-request.json   and   <id>-response.json

Its records have the payload, an id and the service, but neither time, latency nor status. So a row's time
is that at which its file was written, its latency is not known, and a request without an answer (KServe
logs only those with 200) counts as a failed one. Payloads with binary tensors are refused: the agent does
not keep the header that says where the tensors begin.

Any client chooses what stands in a request. So one without an answer is not looked into, and of an
answered one an input that is no column of so many values is left out.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypedDict

from slipway.components.config.data import Window
from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.monitoring.inference_log import (
    FEATURE_PREFIX,
    log_schema,
    partition,
)
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa
    from fsspec import AbstractFileSystem

SCHEME = "kserve+"
_SUFFIXES = (".json", ".parquet")
_Message = dict[str, Any]
"""A payload of V2, or a tensor of it, as JSON has it: whatever a client or its server wrote."""
# An answer may be in a later batch than its request.
_LATE = timedelta(minutes=10)


class _LogRecord(TypedDict):
    """One line of a batch; `bytes` is the payload as it was sent."""

    id: str
    type: str
    service: str | None
    bytes: bytes


@dataclass(slots=True)
class _Payload:
    """One request and its answer, as the log has them. `at` is microseconds since 1970, UTC."""

    at: int
    request: bytes | None = None
    answer: bytes | None = None
    path: str = ""


def convert(uri: str, model: str, window: Window, target: Path) -> int:
    """Writes a window of KServe's payload log in the layout of `contracts.inference_log`.

    Args:
        uri: as above; without `#` rows have no key.
        model: the InferenceService.
        window: of time.
        target: root of the log that is written.

    Returns:
        Rows written.

    Raises:
        SlipwayError: the store cannot be reached, a file is damaged, or payloads are binary.
    """
    payloads: dict[str, _Payload] = {}
    uri, _, key = uri.removeprefix(SCHEME).partition("#")
    for path, at, records in _files(uri, Window(start=window.start, end=window.end + _LATE)):
        for record in records:
            if record.get("service") not in (None, "", model):
                continue
            found = payloads.setdefault(record["id"], _Payload(at))
            if record["type"].endswith(".request"):
                found.request, found.at, found.path = record["bytes"], at, path
            elif record["type"].endswith(".response"):
                found.answer = record["bytes"]
    first, last = (int(moment.timestamp() * 1e6) for moment in (window.start, window.end))
    rows = [
        row
        for name, payload in payloads.items()
        if payload.request is not None and first <= payload.at < last
        for row in _rows(name, payload, key)
    ]
    try:
        _write(rows, model, target)
    except (ValueError, TypeError) as error:  # Arrow's
        raise SlipwayError(
            f"KServe's payload log {uri} holds answers that no model of Slipway gives: {error}. Does"
            f" the InferenceService {model} serve one?"
        ) from error
    return len(rows)


def _files(uri: str, window: Window) -> Iterator[tuple[str, int, list[_LogRecord]]]:
    """Each file that was written in the window: its path, when, and its records."""
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(uri)
        found = system.find(root, detail=True) if system.exists(root) else {}
    except (OSError, ValueError, ImportError) as error:
        raise SlipwayError(f"KServe's payload log {uri} cannot be read: {error}.") from error
    for path, info in sorted(found.items()):
        if not path.endswith(_SUFFIXES):
            continue
        at = _written(system, path, info)
        if window.start <= at < window.end:
            try:
                with system.open(path, "rb") as file:
                    records = _records(path, file)
            # Arrow's errors are ValueErrors.
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                raise SlipwayError(
                    f"The payload log file {path} cannot be read: {error!r}. If it is damaged, move"
                    " it away and run the window again."
                ) from error
            yield path, int(at.timestamp() * 1e6), records


def _written(system: "AbstractFileSystem", path: str, info: dict[str, Any]) -> datetime:
    moment = info.get("LastModified") or info.get("mtime") or system.modified(path)
    if isinstance(moment, int | float):
        return datetime.fromtimestamp(moment, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _records(path: str, file: "IO[bytes]") -> list[_LogRecord]:
    """A batch's records, as {"id", "type", "service", "bytes"}."""
    if path.endswith(".json"):
        return [
            {
                "id": record["Id"],
                "type": record["ReqType"],
                "service": record.get("InferenceService"),
                "bytes": base64.b64decode(record["Bytes"] or ""),
            }
            for record in json.load(file)
        ]
    import pyarrow.parquet as pq

    columns = ["id", "req_type", "inference_service", "bytes"]
    return [
        {
            "id": record["id"],
            "type": record["req_type"],
            "service": record["inference_service"],
            "bytes": record["bytes"] or b"",
        }
        for record in pq.ParquetFile(file).read(columns=columns).to_pylist()
    ]


def _content(name: str, payload: _Payload, content: bytes | None) -> _Message:
    try:
        read = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise SlipwayError(
            f"A payload in {payload.path} (id {name[:100]}) is not JSON: a request with binary tensors"
            " cannot be read from KServe's payload log. Use the predictor's own log, INFERENCE_LOG_URI."
        ) from error
    return read if isinstance(read, dict) else {}


def _rows(name: str, payload: _Payload, key: str) -> list[dict[str, object]]:
    """The log rows of a request; one, without features, where it was not answered."""
    base = {"request_id": name, "time": payload.at, "served_at": payload.at}
    failed: list[dict[str, object]] = [{**base, "row": -1, "status": 500, "model_version": ""}]
    if payload.answer is None:
        return failed
    answer = _content(name, payload, payload.answer)
    outputs = {n: _output(tensor) for n, tensor in _tensors(answer.get("outputs"))}
    rows = len(next(iter(outputs.values()), []))
    if any(len(column) != rows for column in outputs.values()):
        return failed
    inputs = dict(_tensors(_content(name, payload, payload.request).get("inputs")))
    keys = _keys(inputs.get(key, {}))
    keys = keys if len(keys) == rows else []
    columns = {
        n: column
        for n, tensor in inputs.items()
        if (column := _column(tensor)) is not None and len(column) == rows
    }
    return [
        {
            **base,
            "row": number,
            "key": keys[number] if keys else None,
            "status": 200,
            "model_version": str(answer.get("model_version") or ""),
            **{output: values[number] for output, values in outputs.items()},
            **{
                FEATURE_PREFIX + column: values[number]
                for column, values in columns.items()
                if column != key
            },
        }
        for number in range(rows)
    ]


def _tensors(given: object) -> Iterator[tuple[str, _Message]]:
    """The tensors of a message by name, without what is none."""
    for tensor in given if isinstance(given, list) else []:
        if isinstance(tensor, dict) and isinstance(tensor.get("name"), str):
            yield tensor["name"], tensor


def _output(tensor: _Message) -> list[object]:
    """An output's values, one a row: of one with several numbers a row, a list of them."""
    data, shape = tensor.get("data") or [], tensor.get("shape") or []
    if len(shape) < 2 or not isinstance(shape[1], int) or shape[1] < 1:
        return list(data)
    return [data[start : start + shape[1]] for start in range(0, len(data), shape[1])]


def _values(tensor: _Message) -> list[object]:
    """An input's values, one a row."""
    data = tensor.get("data")
    if not isinstance(data, list):
        return []
    return [value[0] if isinstance(value, list) and value else value for value in data]


def _keys(tensor: _Message) -> list[str | None]:
    """The values of the input that names the examples, as text."""
    return [None if value is None else _text(str(value)) for value in _values(tensor)]


def _column(tensor: _Message) -> list[object] | None:
    """An input's values in the type that it says; None: they are of another."""
    kind = str(tensor.get("datatype"))
    data = _values(tensor)
    taken = {"BYTES": str, "BOOL": bool}.get(kind, (int, float))
    if not all(value is None or isinstance(value, taken) for value in data):
        return None
    if kind == "BYTES":
        return [None if value is None else _text(str(value)) for value in data]
    if kind == "BOOL":
        return data
    try:
        return [None if value is None else float(value) for value in data]  # type: ignore[arg-type]
    except OverflowError:
        return None


def _text(value: str) -> str:
    """A text without what is half of a character, which no file holds."""
    return value.encode("utf-8", "replace").decode()


def _kind_of(rows: list[dict[str, object]]) -> LabelKind:
    """The kind of label whose outputs were answered with."""
    names = {name for row in rows for name in row}
    if "probabilities" in names:
        return "multiclass"
    return "number" if "value" in names else "binary"


def _write(rows: list[dict[str, Any]], model: str, target: Path) -> None:
    """One file an hour, in the contract's schema with the features that were seen."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    base = log_schema((), label_type(_kind_of(rows)).columns())
    hours: dict[datetime, list[dict[str, object]]] = {}
    for row in rows:
        moment = datetime.fromtimestamp(row["time"] / 1e6, UTC)
        hours.setdefault(moment.replace(minute=0, second=0, microsecond=0), []).append(row)
    for hour, some in hours.items():
        arrays = [
            pa.array([row.get(field.name) for row in some], pa.int64()).cast(field.type)
            if pa.types.is_timestamp(field.type)
            else pa.array([row.get(field.name) for row in some], field.type)
            for field in base
        ]
        seen = [name for row in some for name in row if name.startswith(FEATURE_PREFIX)]
        features = list(dict.fromkeys(seen))
        arrays += [_feature([row.get(name) for row in some]) for name in features]
        folder = target / partition(model, hour)
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.table(dict(zip([*base.names, *features], arrays, strict=True)))
        pq.write_table(table, folder / "payloads.parquet", compression="zstd")


def _moment(text: str) -> datetime:
    if text.isdigit():
        raise ValueError(f"{text} may be a code")
    return datetime.fromisoformat(text).replace(tzinfo=None)


def _feature(values: list[Any]) -> "pa.Array":
    """Texts that are all ISO times become times by their wall clock, as the predictor takes them.

    An empty one is a missing value. A code of eight digits is an ISO day too, and is left as it is.
    """
    import pyarrow as pa

    texts = [value for value in values if isinstance(value, str)]
    if texts and len(texts) == sum(value is not None for value in values):
        try:
            times = [_moment(value) if value else None for value in values]
            if any(times):
                return pa.array(times, pa.timestamp("us"))
        except ValueError:
            pass
        return pa.array(values, pa.string())
    try:
        return pa.array(values)
    except pa.ArrowException:  # one name, sent as a number and as a text
        return pa.array([None if value is None else str(value) for value in values], pa.string())
