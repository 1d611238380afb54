"""The online store at 10⁶ entities: time, our memory, and Redis' bytes a value, beside tiles.

What Slipway holds online is Feast's layout: a hash for each entity, a field for each feature, with the
values as they are at the last event. A store of tiles (Tecton, Chronon) holds partial sums of a day each
instead, and adds them up when asked: here thirty days of sum, count, least and largest of one column,
packed into 32 bytes a tile, a hash for each entity. Both hold what four features of 30 days need.

    make bench NAME=online_memory    # ENTITIES=1000000
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import materialise
from benchmarks.harness import Row, cpu_seconds, report, run_python

ENTITIES = int(os.environ.get("ENTITIES", "1000000"))
FEATURES, DAYS = 4, 30
WRITE = """
import sys; from pathlib import Path
from benchmarks import materialise
from slipway.components.features.store.online import materialise as write
store = materialise.open_store(Path(sys.argv[1]), "store",
    {"type": "redis", "connection_string": f"127.0.0.1:{sys.argv[2]}"})
write(store, "view", materialise.END)
"""


@contextmanager
def redis_server(folder: Path) -> Iterator[tuple[Any, int]]:
    """A server of its own that keeps nothing on disk: its client and port."""
    import redis

    binary = shutil.which("redis-server")
    if not binary:
        sys.exit("online_memory needs a redis-server on the path.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, "--port", str(port), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port)
        time.sleep(1)
        yield client, port
    finally:
        server.terminate()
        server.wait()


def write_tiles(client: Any) -> None:
    """Thirty tiles for each entity, in pipelines of ten thousand."""
    tile = struct.pack("<dddd", 12.5, 3.0, 1.5, 8.25)
    days = {struct.pack("<H", 19_700 + day): tile for day in range(DAYS)}
    for start in range(0, ENTITIES, 10_000):
        pipe = client.pipeline(transaction=False)
        for key in range(start, min(start + 10_000, ENTITIES)):
            pipe.hset(b"v" + struct.pack("<q", key), mapping=days)
        pipe.execute()


def main() -> None:
    """Writes both, and asks Redis what it holds."""
    materialise.ENTITIES = ENTITIES
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as (client, port):
        folder = Path(name)
        materialise.write_rows(folder / "rows.parquet")
        empty = client.info("memory")["used_memory"]
        taken = run_python(WRITE, name, str(port))
        assert client.dbsize() == ENTITIES + 1  # with the key that tells how fresh the store is
        ours = client.info("memory")["used_memory"] - empty
        client.flushall()
        empty = client.info("memory")["used_memory"]
        tile_seconds = cpu_seconds(lambda: write_tiles(client))
        tiles = client.info("memory")["used_memory"] - empty
    what = f"{ENTITIES:,} entities × {FEATURES} features"
    peer = f"tiles of {DAYS} days"
    print(f"Slipway: {taken['wall_s']:.1f} s, peak {taken['peak_mb']:.0f} MB")
    report(
        "online_memory",
        [
            Row(what, peer, "CPU s", [taken["cpu_s"]], [tile_seconds]),
            Row(what, peer, "bytes an entity", [ours / ENTITIES], [tiles / ENTITIES]),
            Row(
                what,
                peer,
                "bytes a value",
                [ours / ENTITIES / FEATURES],
                [tiles / ENTITIES / FEATURES],
            ),
        ],
    )


if __name__ == "__main__":
    main()
