"""The rows that are predicted, and the views: where each feature comes from and when it is known."""

from datetime import timedelta
from typing import Literal, Self

from pydantic import model_validator

from slipway.components.config.base import Duration, Name, Section, format_duration

Aggregation = Literal["count", "sum", "mean", "min", "max", "std", "last", "rate"]
Kind = Literal["numeric", "categorical", "boolean", "time"]


class Examples(Section):
    """The rows that are predicted.

    Attributes:
        table: the table with one row an example.
        key: the column that names an example uniquely.
        time: when the predicted thing happens.
        lead: how long before `time` the prediction is made: nothing known later is used.
    """

    table: Name
    key: Name
    time: Name
    lead: Duration = timedelta(0)


class TableField(Section):
    """A feature that is a column as it stands."""

    column: Name
    kind: Kind | None = None


class Aggregate(Section):
    """A feature that sums up an entity's events over the last `window`.

    Attributes:
        function: count, sum, mean, min, max, std, last, or rate (events an hour).
        column: the events' column; count and rate need none.
        above: aggregate the indicator "column > above" (0/1) in place of the column.
        window: how far back events count, by the time at which they became known.
    """

    function: Aggregation
    column: Name | None = None
    above: float | None = None
    window: Duration

    @model_validator(mode="after")
    def _has_column(self) -> Self:
        if self.function not in ("count", "rate") and self.column is None:
            raise ValueError(f"function {self.function} needs a column")
        if not self.window:
            raise ValueError("a window of 0s holds no event: make it longer")
        return self

    @property
    def empty(self) -> float | None:
        """The value without events in the window."""
        return 0.0 if self.function in ("count", "sum", "rate") else None


class FeatureView(Section):
    """Features of one entity from one table.

    Attributes:
        entity: a name from `features.entities`.
        source_key: the table's column that holds the entity's key, where it is named otherwise
            there than in the examples.
        time: when the row's thing happened; None for a table without time (always known).
        known: the column with the time at which its values became known; None: `time`. A row
            whose `known` is null is never used.
        available: how long before `time` the values are already known (a schedule): 30d.
        ttl: a value older than this at the prediction is not used; None: no limit.
    """

    name: Name
    entity: Name
    table: Name
    source_key: Name | None = None
    time: Name | None = None
    known: Name | None = None
    available: Duration = timedelta(0)
    ttl: Duration | None = None
    fields: dict[Name, Name | TableField] = {}
    aggregates: dict[Name, Aggregate] = {}
    online: bool = True

    @model_validator(mode="after")
    def _has_features(self) -> Self:
        if not self.fields and not self.aggregates:
            raise ValueError(f"view {self.name} has neither fields nor aggregates")
        if self.fields and self.aggregates:
            raise ValueError(f"view {self.name} mixes fields and aggregates: make it two views")
        if self.aggregates and self.time is None:
            raise ValueError(f"view {self.name} aggregates events and so needs `time`")
        longest = max((aggregate.window for aggregate in self.aggregates.values()), default=None)
        if longest and self.ttl and self.ttl < longest:
            raise ValueError(
                f"view {self.name} forgets values after its ttl of {format_duration(self.ttl)}, sooner"
                f" than its window of {format_duration(longest)} ends: make the ttl at least as long"
            )
        return self

    @property
    def source_columns(self) -> set[str]:
        """The table's columns that the view's features are made of."""
        fields = [f if isinstance(f, str) else f.column for f in self.fields.values()]
        return {*fields, *(a.column for a in self.aggregates.values() if a.column)}

    @property
    def feature_names(self) -> list[str]:
        """Names of the view's features, sorted: a pipeline parameter does not keep a key order."""
        return sorted([*self.fields, *self.aggregates])

    def empty(self, feature: str) -> float | None:
        """A feature's value for an entity of which nothing happened: 0 for a count, a sum and a rate."""
        return self.aggregates[feature].empty if feature in self.aggregates else None
