"""Feature rows: unlabelled rows with the features of a model. Written by features, read by score.

Layout, version 1::

    rows.json
    rows.parquet

The table is ordered by time and has the columns: the rows' key, `event_timestamp` (UTC, when the
predicted thing happens), the entities' keys, and the features under their names, with the types that
`slipway.components.contracts.splits` gives them. It has no label. A project without time has no
`event_timestamp`, and the rows are ordered by key.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from slipway.components.contracts.record import Record
from slipway.components.contracts.splits import Feature

FILE = "rows.json"
ROWS = "rows.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRows(Record):
    """What the table holds.

    Attributes:
        key: the column that names a row.
        entities: entity key columns with their Arrow types.
        features: the features, in the order of the project's views.
        untyped: features that are null in every row, of a column without a type: of any kind.
        window: the rows' [start, end) in ISO 8601, UTC; None: they have no time, and are all there are.
        data_hash: content hash of the dataset that the features were computed from.
        lead_seconds: how long before `event_timestamp` the features were read.
    """

    ABSENT: ClassVar[str] = "holds no feature rows"
    SPARSE: ClassVar[frozenset[str]] = frozenset({"features.since_hours"})

    project: str
    key: str
    entities: dict[str, str]
    features: tuple[Feature, ...]
    rows: int
    window: tuple[str, str] | None
    data_hash: str
    lead_seconds: int = 0
    untyped: tuple[str, ...] = ()
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return f"{self.rows:,} rows with {len(self.features)} features"

    def metadata(self) -> dict[str, object]:
        """What the KFP artifact shows."""
        return {
            "rows": self.rows,
            "features": [feature.name for feature in self.features],
            "window_start": self.window[0] if self.window else "",
            "window_end": self.window[1] if self.window else "",
            "data_hash": self.data_hash,
        }


def write_feature_rows(folder: Path, rows: FeatureRows) -> None:
    """Writes rows.json: the last step before the folder is moved into place."""
    rows.write(folder / FILE)


def read_feature_rows(folder: Path) -> FeatureRows:
    """Reads rows.json.

    Raises:
        SlipwayError: the folder is not a whole set of rows of a version that this code reads.
    """
    return FeatureRows.read(folder / FILE)
