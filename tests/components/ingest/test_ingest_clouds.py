"""Google's and Azure's stores: their own libraries, against a server that speaks their protocol.

The doubles stand where the network would: they know the few requests that reading makes, ask for the
credentials that the environment gives, and answer as the public documentation of each API says.
"""

import base64
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from slipway.components.contracts.dataset import read_table
from slipway.components.support.errors import SlipwayError

DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
ACCOUNT, CONTAINER = "lakehouse", "raw"


class _Store(http.server.BaseHTTPRequestHandler):
    """What both stores share: objects by name, ranges, an answer to a list request."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    seen: list[tuple[str, str]]

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def content(self, name: str, **headers: str) -> None:
        """An object's bytes, or the asked part of them."""
        data = self.objects[name]
        asked = self.headers.get("x-ms-range") or self.headers.get("Range")
        if asked is None:
            return self.answer(200, data, **headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last) if last else len(data) - 1, len(data) - 1)
        part = data[int(first) : end + 1]
        span = f"bytes {first}-{end}/{len(data)}"
        self.seen.append((name, f"{len(part)} of {len(data)}"))
        return self.answer(206, part, Content_Range=span, **headers)

    def listed(self, prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
        """Names below a prefix, and with a delimiter the folders in place of what they hold."""
        names, folders = [], set()
        for name in sorted(self.objects):
            rest = name.removeprefix(prefix) if name.startswith(prefix) else None
            if rest is None:
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                names.append(name)
        return names, sorted(folders)

    def log_message(self, *args: Any) -> None:
        pass


class _Google(_Store):
    """The JSON API of Cloud Storage, and the token endpoint of a service account."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        token = {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"}
        self.answer(200, json.dumps(token).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.headers.get("Authorization") != "Bearer a-token":
            return self.answer(401, b"who is asking?")
        _, _, path = url.path.partition("/storage/v1/b/raw/o")
        name = unquote(path.lstrip("/"))
        if "/storage/v1/b/raw" not in url.path or (name and name not in self.objects):
            return self.answer(404, b'{"error": {"code": 404, "message": "No such object"}}')
        if query.get("alt") == "media":
            return self.content(name)
        if name:
            return self.json(self.described(name))
        names, folders = self.listed(query.get("prefix", ""), query.get("delimiter", ""))
        return self.json({"items": [self.described(n) for n in names], "prefixes": folders})

    def described(self, name: str) -> dict[str, str]:
        stamps = dict.fromkeys(("timeCreated", "updated"), "2024-01-01T00:00:00.000Z")
        size = str(len(self.objects[name]))
        return {"kind": "storage#object", "bucket": "raw", "name": name, "size": size, **stamps}

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")


class _Azure(_Store):
    """The Blob service's REST API."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if not self.headers.get("Authorization", "").startswith(f"SharedKey {ACCOUNT}:"):
            return self.answer(403, b"", x_ms_error_code="AuthenticationFailed")
        container, _, name = unquote(url.path).removeprefix(f"/{ACCOUNT}/").partition("/")
        if container != CONTAINER:
            return self.answer(404, b"", x_ms_error_code="ContainerNotFound")
        stamps = {"Last_Modified": DATE, "ETag": '"1"', "x_ms_version": "2024-01-01"}
        if query.get("comp") == "list":
            return self.list_blobs(query.get("prefix", ""), query.get("delimiter", ""))
        if not name:
            return self.answer(200, b"", **stamps)
        if name not in self.objects:
            return self.answer(404, b"", x_ms_error_code="BlobNotFound")
        kind = {"x_ms_blob_type": "BlockBlob", "Content_Type": "application/octet-stream"}
        if self.command == "HEAD":
            size = str(len(self.objects[name]))
            return self.answer(200, b"", Content_Length=size, **stamps, **kind)
        return self.content(name, **stamps, **kind)

    def list_blobs(self, prefix: str, delimiter: str) -> None:
        names, folders = self.listed(prefix, delimiter)
        blobs = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{DATE}</Last-Modified>"
            f"<Etag>1</Etag><Content-Length>{len(self.objects[name])}</Content-Length>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for name in names
        )
        blobs += "".join(f"<BlobPrefix><Name>{escape(f)}</Name></BlobPrefix>" for f in folders)
        body = (
            '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="http://x/"'
            f' ContainerName="{CONTAINER}"><Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>'
        )
        self.answer(200, body.encode(), Content_Type="application/xml")


@pytest.fixture
def serve() -> Iterator[Callable[[type[_Store]], tuple[str, type[_Store]]]]:
    """Starts a store of a kind: its address, and its class, which holds the objects."""
    servers = []

    def start(kind: type[_Store]) -> tuple[str, type[_Store]]:
        store = type(kind.__name__, (kind,), {"objects": {}, "seen": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), store)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", store

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def google(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Cloud Storage that knows the service account in the mounted file, and the root of its lake."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    address, store = serve(_Google)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "test",
        "client_email": "reader@test.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": key.decode(),
        "token_uri": f"{address}/token",
    }
    (tmp_path / "key.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    yield "gs://raw/lake", store
    import gcsfs  # here, since the stage sets how it is imported

    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def azure(serve, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Blob service that knows the account whose key is in the environment, and its lake's root."""
    import adlfs

    address, store = serve(_Azure)
    key = base64.b64encode(b"a key of the account").decode()
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};"
        f"BlobEndpoint={address}/{ACCOUNT};",
    )
    adlfs.AzureBlobFileSystem.clear_instance_cache()
    yield f"abfss://{CONTAINER}@{ACCOUNT}.dfs.core.windows.net/lake", store
    adlfs.AzureBlobFileSystem.clear_instance_cache()


STORES = ("google", "azure")


@pytest.mark.parametrize("name", STORES)
def test_the_same_rows_as_from_this_machine(
    name: str, request, ingest, events, write_lake, tmp_path: Path
) -> None:
    root, store = request.getfixturevalue(name)
    table = events(20_000)
    lake = write_lake(
        {
            "events/day=1/a.parquet": table.slice(0, 10_000),
            "events/day=2/b.parquet": table.slice(10_000),
        },
        row_group_size=1000,
        compression="none",
    )
    for file in lake.rglob("*.parquet"):
        store.objects[f"lake/{file.relative_to(lake)}"] = file.read_bytes()
    chosen = {"start": "2024-03-01", "end": "2024-03-10", "columns": ["id", "time", "day"]}
    manifest = ingest(root, **chosen)
    local = ingest(lake, **chosen, output=tmp_path / "local")
    assert manifest.rows == 9 * 24
    assert manifest.content_hash == local.content_hash
    assert manifest.tables["events"].source == f"{root}/events"
    first = table["id"].to_pylist()[60 * 24]
    assert read_table(tmp_path / "out", "events")["id"][0].as_py() == first
    # Only footers and the columns of the row groups in the window were fetched.
    whole = sum(map(len, store.objects.values()))
    assert 0 < sum(int(span.split()[0]) for _, span in store.seen) < whole / 2


@pytest.mark.parametrize("name", STORES)
def test_what_is_not_there(name: str, request, ingest, tmp_path: Path) -> None:
    root, store = request.getfixturevalue(name)
    store.objects |= {"lake/sales/a.parquet": b"x", "lake/events.csv": b"x"}
    with pytest.raises(SlipwayError, match=rf"nothing at {root}/events\. .*events\.csv, sales"):
        ingest(root)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", STORES)
def test_a_damaged_object(name: str, request, ingest, tmp_path: Path) -> None:
    root, store = request.getfixturevalue(name)
    store.objects["lake/events/a.parquet"] = b"PAR1 but not for long"
    with pytest.raises(SlipwayError, match=r"lake/events/a\.parquet cannot be read"):
        ingest(root)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", STORES)
def test_csv_from_a_store(name: str, request, ingest) -> None:
    root, store = request.getfixturevalue(name)
    store.objects["lake/events/a.csv"] = b"time,n\n2024-01-01T00:00:00Z,1\n"
    assert ingest(root, format="csv").rows == 1
