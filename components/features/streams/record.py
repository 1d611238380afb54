"""What a push must know of a project, kept in its feature store: written and read by features alone."""

import json
from dataclasses import asdict, dataclass

from slipway.components.contracts.feature_store import StoreLocation
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import write_text

_FILE = "streams.json"
_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """What a push must know of a project, as of its last materialisation: streams.json.

    Attributes:
        features: the project's `features` section.
        keys: the entities' key columns with their Arrow types.
        tables: stream to its columns with their Arrow types.
        window: that of its dataset, [start, end) in ISO 8601; None: it is not cut by time.
        schema: the content of the schema file that the dataset passed; empty: it passed none.
    """

    features: dict[str, object]
    keys: dict[str, str]
    tables: dict[str, dict[str, str]]
    window: list[str] | None = None
    schema: str = ""


def write_streams(place: StoreLocation, record: StreamRecord) -> None:
    """Writes streams.json into the project's folder of the feature store."""
    text = json.dumps({"version": _VERSION, **asdict(record)}, indent=1)
    if place.folder is not None:
        write_text(place.folder / _FILE, text)
        return
    import fsspec

    with fsspec.open(f"{place.root}/{_FILE}", "w") as file:
        file.write(text)


def read_streams(place: StoreLocation) -> StreamRecord:
    """Reads streams.json.

    Raises:
        SlipwayError: there is none, or not one that this code reads.
    """
    import fsspec

    where = f"{place.folder if place.folder is not None else place.root}/{_FILE}"
    try:
        with fsspec.open(where) as file:
            content = json.loads(file.read())
    except FileNotFoundError as error:
        raise SlipwayError(
            f"The feature store {place.root} takes no pushes yet: declare `features.streams`, and run the"
            " features stage once (`slipway run`)."
        ) from error
    except (ValueError, RecursionError) as error:
        raise SlipwayError(f"{where} is not JSON: {error}. Run the features stage.") from error
    if not isinstance(content, dict) or content.pop("version", None) != _VERSION:
        raise SlipwayError(f"{where} is of another version of Slipway. Run the features stage.")
    return StreamRecord(**content)
