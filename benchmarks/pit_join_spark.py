"""Point-in-time join of one view of 1 to 50 million events: our Polars store beside Feast's Spark store.

Both through Feast, a million examples, a process for each join, Spark with two local executors of one
machine (`local[2]`, 8 GB). Needs `pyspark` 4.0 and a Java, which Slipway does not install:

    make bench NAME=pit_join_spark    # SIZES=1000000,10000000,50000000
"""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Row, report, run_python
from benchmarks.pit_join import GROW, write_view

SIZES = [int(n) for n in os.environ.get("SIZES", "1000000,10000000,50000000").split(",")]
SPARK = """
import sys; from datetime import timedelta; from pathlib import Path
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Float64, Int64
from pyspark import SparkContext
from benchmarks import pit_join
folder = Path(sys.argv[1])
conf = {"spark.master": "local[2]", "spark.driver.memory": "8g", "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "16", "spark.sql.session.timeZone": "UTC",
        "spark.driver.maxResultSize": "4g", "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.local.dir": sys.argv[1]}
store = FeatureStore(config=RepoConfig(
    project="bench", provider="local", registry=str(folder / "spark.db"),
    offline_store={"type": "spark", "spark_conf": conf},
    online_store={"type": "sqlite", "path": str(folder / "online.db")},
    entity_key_serialization_version=3))
entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
store.apply([entity, FeatureView(
    name="grown", entities=[entity], ttl=timedelta(days=30),
    schema=[Field(name="key", dtype=Int64), *(Field(name=f"x{i}", dtype=Float64) for i in range(4))],
    source=SparkSource(name="rows", path=str(folder / "grown.parquet"), file_format="parquet",
                       timestamp_field="at"))])
joined = pit_join.through_feast(store, pit_join.entity_frame(1_000_000), ["grown"])
assert joined.num_rows == 1_000_000
# Its CPU counts once it has ended and was waited for.
java = SparkContext._gateway.proc
SparkContext._active_spark_context.stop()
java.stdin.close()
java.wait()
"""


def main() -> None:
    """Measures each size with both engines.

    Raises:
        SystemExit: pyspark is not installed.
    """
    if importlib.util.find_spec("pyspark") is None:
        sys.exit("pit_join_spark needs pyspark 4.0 and a Java: uv pip install 'pyspark>=4,<4.1'")
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            write_view(Path(name) / "grown.parquet", size, 3)
            ours, spark = run_python(GROW, name), run_python(SPARK, name)
        for unit, key in (("CPU s", "cpu_s"), ("wall s", "wall_s")):
            what = f"10⁶ examples, a view of {size / 1e6:g} M events"
            rows.append(Row(what, "Feast's Spark store", unit, [ours[key]], [spark[key]]))
            print(rows[-1], f"peak MB of ours {ours['peak_mb']:.0f}", flush=True)
    report("pit_join_spark", rows)


if __name__ == "__main__":
    main()
