"""Object stores over their real protocols, and Delta tables."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.components.contracts.dataset import read_table
from slipway.components.ingest.sources import join_uri, public_uri
from slipway.components.support.errors import SlipwayError


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A real S3 server (moto) on a port of its own, reached as a private store is: by endpoint."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import httpx
    import s3fs

    httpx.post(f"http://{host}:{port}/moto-api/reset")
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}")
    store.mkdir("bucket")
    yield store
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_s3(s3: Any, ingest, events, write_lake, tmp_path: Path) -> None:
    table = events(400)
    lake = write_lake(
        {"events/day=1/a.parquet": table.slice(0, 200), "events/day=2/b.parquet": table.slice(200)},
        row_group_size=50,
    )
    s3.put(f"{lake}/events", "bucket/lake/events", recursive=True)
    manifest = ingest("s3://bucket/lake", start="2024-01-03", columns=["id", "time", "day"])
    assert manifest.tables["events"].source == "s3://bucket/lake/events"
    out = read_table(tmp_path / "out", "events")
    assert out.drop_columns(["day"]).equals(table.select(["id", "time"]).slice(48))
    local = ingest(start="2024-01-03", columns=["id", "time", "day"], output=tmp_path / "local")
    assert local.content_hash == manifest.content_hash


def test_s3_csv_and_one_object(s3: Any, ingest, tmp_path: Path) -> None:
    s3.pipe("bucket/events.csv", b"time,n\n2024-01-01T00:00:00Z,1\n")
    assert ingest("s3://bucket", path="events.csv", format="csv").rows == 1


@pytest.mark.parametrize(
    ("root", "path", "says"),
    [
        ("s3://bucket/lake", "nothing", ["nothing at s3://bucket/lake/nothing", "holds: events"]),
        ("s3://elsewhere/lake", "events", ["nothing at s3://elsewhere/lake/events"]),
        ("s3://bucket/lake", "events", ["s3://bucket/lake/events/a.parquet cannot be read"]),
    ],
)
def test_s3_refuses(s3: Any, root: str, path: str, says: list[str], ingest, tmp_path: Path) -> None:
    s3.pipe("bucket/lake/events/a.parquet", b"PAR1 but not for long")
    with pytest.raises(SlipwayError) as caught:
        ingest(root, path=path)
    assert [words for words in says if words not in str(caught.value)] == [], str(caught.value)
    assert not (tmp_path / "out").exists()


def test_s3_that_does_not_answer(ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(
        SlipwayError, match=r"s3://bucket/lake/events cannot be read: .*127.0.0.1:9"
    ):
        ingest("s3://bucket/lake")
    s3fs.S3FileSystem.clear_instance_cache()


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Python's own file server, with the range requests that every real one answers."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if "Range" not in self.headers or not path.is_file():
            return super().do_GET()
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        content = path.read_bytes()
        part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header(
            "Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        )
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server that gives the lake's files."""
    handler = functools.partial(_Ranges, directory=str(tmp_path / "lake"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_https_gives_a_single_file(web: str, ingest, events, write_lake, tmp_path: Path) -> None:
    write_lake({"events/a.parquet": events(50)})
    manifest = ingest(web, path="events/a.parquet?signature=secret")
    assert read_table(tmp_path / "out", "events").equals(events(50))
    assert manifest.tables["events"].source == f"{web}/events/a.parquet"
    with pytest.raises(SlipwayError, match="there is nothing at"):
        ingest(web, path="events/b.parquet")


@pytest.fixture
def delta(events, tmp_path: Path) -> Path:
    """A Delta table of two versions: 100 rows, from which 60 were deleted, then 50 more."""
    import deltalake

    path = tmp_path / "lake" / "events"
    deltalake.write_deltalake(str(path), events(100))
    deltalake.DeltaTable(str(path)).delete("\"time\" >= '2024-01-02T16:00:00Z'")
    deltalake.write_deltalake(str(path), events(50, 100), mode="append")
    return path


def test_delta(delta: Path, ingest, events, tmp_path: Path) -> None:
    ingest(format="delta")
    out = read_table(tmp_path / "out", "events").sort_by("time")
    assert out["time"].to_pylist() == (
        events(40)["time"].to_pylist() + events(50, 100)["time"].to_pylist()
    )


def test_delta_window_and_columns(delta: Path, ingest, events, tmp_path: Path) -> None:
    manifest = ingest(format="delta", start="2024-01-02", end="2024-01-06", columns=["id", "time"])
    out = read_table(tmp_path / "out", "events").sort_by("time")
    assert out.column_names == ["id", "time"]
    assert out["id"].to_pylist() == [f"event-{i}" for i in [*range(24, 40), *range(100, 120)]]
    assert manifest.tables["events"].min_time == "2024-01-02T00:00:00Z"


def test_a_delta_table_read_as_plain_parquet_is_refused(s3: Any, delta: Path, ingest) -> None:
    """Its folder still has the deleted rows."""
    with pytest.raises(SlipwayError, match=r"lake/events is a Delta table.*Set `format: delta`"):
        ingest()
    s3.put(str(delta), "bucket/lake/events", recursive=True)
    with pytest.raises(SlipwayError, match="is a Delta table"):
        ingest("s3://bucket/lake")


def test_a_damaged_delta_log_is_told_in_its_own_words_alone(delta: Path, ingest) -> None:
    (delta / "_delta_log" / "00000000000000000002.json").write_text('{"broken')
    with pytest.raises(SlipwayError, match=r"lake/events cannot be read: .*Json error.*") as caught:
        ingest(format="delta")
    assert not [odd for odd in ("\x1b", "\n", "<unknown>") if odd in str(caught.value)]


def test_delta_refuses(delta: Path, ingest) -> None:
    with pytest.raises(SlipwayError, match="has no column nope"):
        ingest(format="delta", columns=["time", "nope"])
    next(delta.glob("*.parquet")).unlink()
    for file in delta.glob("*.parquet"):
        file.write_bytes(b"PAR1")
    with pytest.raises(SlipwayError, match="lake/events cannot be read"):
        ingest(format="delta")


def test_delta_on_s3(s3: Any, delta: Path, ingest) -> None:
    s3.put(str(delta), "bucket/lake/events", recursive=True)
    assert ingest("s3://bucket/lake", format="delta").rows == 90


@pytest.mark.parametrize(
    ("root", "path", "uri"),
    [
        ("s3://b/lake/", "flights", "s3://b/lake/flights"),
        ("s3://b/lake", "gs://c/x", "gs://c/x"),
        ("lake", "/data/x", "/data/x"),
        ("", "x", "x"),
    ],
)
def test_join(root: str, path: str, uri: str) -> None:
    assert join_uri(root, path) == uri


def test_a_signature_is_not_shown() -> None:
    assert public_uri("https://h/x.csv?sig=abc#f") == "https://h/x.csv"
    assert public_uri("abfss://c@a.dfs.core.windows.net/x") == "abfss://c@a.dfs.core.windows.net/x"
