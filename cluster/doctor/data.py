"""The doctor's check of where a run would read its tables."""

from collections.abc import Iterator

from slipway.cluster.doctor.findings import Line, fail, ok, skip
from slipway.cluster.sources import read_sources
from slipway.pipelines.package import Package


def sources(package: Package, arguments: dict[str, object]) -> Iterator[Line]:
    """That no table lies on one machine, which no pod would see.

    Args:
        package: the compiled pipeline.
        arguments: parameters that a run is to be started with.
    """
    tables, root, found = read_sources(package, arguments)
    if not tables:
        yield skip("data", "this pipeline reads no tables")
    elif found:
        yield fail(
            "data",
            f"{', '.join(found)}: a pod does not see this machine's disk. Compile with --cluster --set"
            " data.root=s3://…, or give --set data_root=s3://… here and to `slipway submit`",
        )
    else:
        yield ok("data", f"{tables} tables, {root or 'each by its own address'}")
