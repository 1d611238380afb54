"""JSON that is read within bounds: the same as parsed whole, and cut at the right places."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.serving_bundles import make_bundle

from slipway.serving.admission import Admission
from slipway.serving.app import InferenceCall, Predictor
from slipway.serving.errors import RequestError
from slipway.serving.protocol.bounds import (
    INLINE_BYTES,
    Bounds,
    is_plain,
    read_instances,
    read_tensors,
    scan_json,
    strict_json,
)
from slipway.serving.protocol.rows import RowReader
from slipway.serving.protocol.v2 import InferRequest, parse_request

BOUNDS = Bounds(inputs=8, rows=100)
# Texts with what could be taken for structure.
TEXTS = st.text(st.sampled_from('ab\\"[]{},:/é\U0001f600 \n'), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-9, 10**6) | st.floats(-1e9, 1e9) | TEXTS
DATA = st.lists(SCALARS, max_size=40) | st.lists(st.lists(SCALARS, min_size=1, max_size=1))
TENSOR = st.fixed_dictionaries(
    {"name": TEXTS, "shape": st.lists(st.integers(0, 99), max_size=2), "data": DATA},
    optional={"parameters": st.dictionaries(TEXTS, SCALARS, max_size=3)},
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=8)},
    optional={
        "id": TEXTS,
        "parameters": st.dictionaries(TEXTS, SCALARS, max_size=3),
        "outputs": st.lists(st.fixed_dictionaries({"name": TEXTS}), max_size=2),
    },
)


@settings(max_examples=150, deadline=None)
@given(request=REQUEST, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_a_request_is_the_same_in_parts_as_whole(
    request: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(request, indent=indent, ensure_ascii=ascii_only).encode()
    assert read_tensors(body, BOUNDS, orjson.loads) == orjson.loads(body)
    assert read_tensors(bytearray(body), BOUNDS, strict_json) == orjson.loads(body)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.dictionaries(TEXTS, SCALARS, max_size=8) | SCALARS, max_size=20),
    more=st.dictionaries(st.sampled_from(["id", "x"]), SCALARS),
)
def test_rows_are_the_same_in_parts_as_whole(rows: list[Any], more: dict[str, Any]) -> None:
    body = json.dumps({"instances": rows, **more}).encode()
    assert read_instances(body, BOUNDS, orjson.loads) == orjson.loads(body)


@settings(max_examples=150, deadline=None)
@given(content=REQUEST, block=st.integers(1, 9))
def test_parts_are_found_wherever_a_block_of_bytes_ends(
    content: dict[str, Any], block: int
) -> None:
    body = json.dumps(content, ensure_ascii=False).encode()

    def refuse() -> RequestError:
        return RequestError("too many")

    whole = scan_json(body, 3, 100, refuse)
    assert scan_json(body, 3, 100, refuse, block=block) == whole
    for cut in whole:
        part = orjson.loads(body[cut.start : cut.end])
        assert type(part) in (list, dict)
        if type(part) is list:
            assert cut.commas == max(len(part) - 1, 0)
            assert cut.opens == sum(type(item) is list for item in part)
    wanted = sum(1 + ("data" in t) + ("parameters" in t) for t in content["inputs"])
    assert len(whole) == wanted


@settings(max_examples=300, deadline=None)
@given(
    request=REQUEST,
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(b'[]{},:"\\ x1')), max_size=4),
)
def test_what_is_no_json_is_refused_in_parts_too(
    request: dict[str, Any], flips: list[tuple[int, int]]
) -> None:
    """A damaged body is read as the parser reads it whole, or refused; nothing else is raised."""
    body = bytearray(json.dumps(request).encode())
    for place, value in flips:
        body[place % len(body)] = value
    try:
        whole = orjson.loads(body)
    except ValueError:
        whole = None
    try:
        parts = read_tensors(body, BOUNDS, orjson.loads)
    except (RequestError, ValueError):
        return
    assert parts == whole


@pytest.mark.parametrize(
    ("body", "message", "status"),
    [
        (b'{"inputs":[{"data":[' + b"1," * 100 + b"1]}]}", "101 rows", 413),
        (b'{"inputs":[{"data":[' + b"[]," * 100 + b"[]]}]}", "101 rows", 413),
        (b'{"inputs":[{"x":[' + b"1," * 60 + b"1]}]}", "not the 'data'", 400),
        (b'{"inputs":[{"data":[' + b"1," * 60 + b'1],"data":1}]}', "not the 'data'", 400),
        (b'{"x":{"y":[[' + b"1," * 60 + b"1]]}}", "not the 'data'", 400),
        (b'{"inputs":[' + b'{"x":[]},' * 200 + b"{}]}", "more lists and objects", 400),
        (b'{"inputs":[' + b"{" * 20 + b"}" * 20 + b"]}", "nested more than 16", 400),
        (b'{"inputs":]}', "closes nothing", 400),
        (b'{"inputs":["', "ends too early", 400),
        (b'{"x":"' + b"a" * 100_000 + b'"}', "bytes of JSON that are no values", 400),
    ],
)
def test_what_no_signature_explains_is_refused(body: bytes, message: str, status: int) -> None:
    if "closes" in message:
        body = body.replace(b"]}", b"]]]}")
    with pytest.raises(RequestError, match=message) as error:
        read_tensors(body, BOUNDS, orjson.loads)
    assert error.value.status == status


def test_the_signature_bounds_rows_and_values(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    reader = RowReader(bundle, max_rows=10**9, missing_as_null=False)
    # Six features, the key and an entity key.
    assert reader.bounds == Bounds(inputs=8, rows=2**20 // 8)
    assert is_plain(b"{}", reader.bounds)
    assert not is_plain(b"[" * (65 + 48), reader.bounds) and is_plain(b"[" * 112, reader.bounds)
    assert not is_plain(b" " * (INLINE_BYTES + 1), reader.bounds)


@pytest.mark.parametrize(("size", "elsewhere"), [(INLINE_BYTES, False), (INLINE_BYTES + 1, True)])
def test_a_long_body_is_read_off_the_event_loop(tmp_path: Path, size: int, elsewhere: bool) -> None:
    from support.serving_bundles import flight_tensors

    from slipway.serving.batcher import Batcher
    from slipway.serving.metrics import Metrics
    from slipway.serving.model import load_model
    from slipway.serving.settings import PredictorSettings

    make_bundle(tmp_path)
    body = json.dumps({"inputs": flight_tensors(1)}).encode()
    threads: list[int] = []

    async def run() -> None:
        settings = PredictorSettings(model_dir=tmp_path)
        model, metrics = load_model(settings), Metrics("flights")
        batcher = Batcher(max_batch=8, max_queue=8, metrics=metrics)
        admission = Admission(1_000_000)
        app = Predictor(settings, model, batcher, admission, metrics, None)

        def parse() -> InferRequest:
            threads.append(threading.get_ident())
            return parse_request(body, None, model.reader.bounds, model.output_names)

        request, rows = await app.read(model, InferenceCall(0.0), size, parse)
        assert rows.count == 1 and request.inputs is None
        batcher.close()
        admission.close()

    asyncio.run(run())
    assert (threads != [threading.get_ident()]) is elsewhere
