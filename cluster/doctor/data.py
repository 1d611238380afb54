"""The doctor's check of where a run would read its tables."""

from collections.abc import Iterator
from typing import Any

from slipway.cluster.doctor.findings import Line, fail, ok, skip
from slipway.components.config.places import local_sources
from slipway.components.support.settings import locate, read_setting
from slipway.pipelines.package import Package


def sources(package: Package, arguments: dict[str, Any]) -> Iterator[Line]:
    """That no table lies on one machine, which no pod would see.

    Args:
        package: the compiled pipeline.
        arguments: parameters that a run is to be started with.
    """
    values = {name: part.get("defaultValue") for name, part in package.parameters.items()}
    values |= arguments
    root = str(values.get("data_root") or "")
    if values.get("data") is None:
        yield skip("data", "this pipeline reads no tables")
        return
    # What is too large for a parameter lies beside the compiled pipeline.
    data = read_setting("data", locate(values["data"], package.path.parent), root)
    if found := local_sources(data, root):
        yield fail(
            "data",
            f"{', '.join(found)}: a pod does not see this machine's disk. Compile with --cluster --set"
            " data.root=s3://…, or give --set data_root=s3://… here and to `slipway submit`",
        )
    else:
        yield ok("data", f"{len(data['tables'])} tables, {root or 'each by its own address'}")
