"""Where a run of a compiled pipeline would read its tables."""

from slipway.components.config.checks.places import local_sources
from slipway.components.support.settings import locate, read_setting
from slipway.pipelines.package import Package


def read_sources(package: Package, arguments: dict[str, object]) -> tuple[int, str, list[str]]:
    """What a run would read.

    Args:
        package: the compiled pipeline; what is too large for its parameters lies beside it.
        arguments: parameters that the run is to be started with.

    Returns:
        How many tables, what relative paths start from, and the fields that name a place on one machine.

    Raises:
        SlipwayError: the file of a large setting is not there, or was changed.
    """
    values = {name: part.get("defaultValue") for name, part in package.parameters.items()}
    values |= arguments
    root = str(values.get("data_root") or "")
    if not values.get("data"):
        return 0, root, []
    data = read_setting("data", locate(values["data"], package.path.parent), root)
    return len(data["tables"]), root, local_sources(data, root)
