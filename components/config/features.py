"""Which features a row has, when each is known, what is predicted, and how time is split."""

from datetime import datetime, timedelta
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from slipway.components.config.base import Duration, Name, Section, format_duration, format_instant

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


class Label(Section):
    """What is predicted: a boolean column, or a numeric column above a value.

    Attributes:
        column: in the examples' table. A row where it is null has no label.
        above: the label is positive where the column is greater; None reads a boolean (or 0/1).
        known: the column with the time at which the label is known; None: the example's time.
    """

    column: Name
    above: float | None = None
    known: Name | None = None


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
        return self


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


class Split(Section):
    """How the window is cut by time: train, then validation, then test at its end.

    Attributes:
        gap: rows this close before the next part are left out, so that no label of one part is
            known only inside the next.
    """

    validation: Duration
    test: Duration
    gap: Duration = timedelta(0)

    def cut(self, start: datetime, end: datetime) -> dict[str, tuple[datetime, datetime]]:
        """The half-open stretch of time of each part: train first, test last, with the gap before each.

        Raises:
            ValueError: the window is too short for the parts.
        """
        test = end - self.test
        validation = test - self.validation
        if validation - self.gap <= start or test - self.gap <= validation:
            validate, last, gap = map(format_duration, (self.validation, self.test, self.gap))
            raise ValueError(
                f"{validate} of validation, {last} of test and gaps of {gap} leave nothing to train on"
                f" of the window {format_instant(start)} to {format_instant(end)}. Shorten the parts,"
                " or lengthen data.window"
            )
        return {
            "train": (start, validation - self.gap),
            "validation": (validation, test - self.gap),
            "test": (test, end),
        }


class OfflineStore(Section):
    """The engine that joins the views to the examples: ours on one machine, Feast's on many.

    Attributes:
        type: polars (slipway.components.features.offline_store), or Feast's own spark or ray.
        options: the engine's settings as Feast's page on it lists them, as in
            {spark_conf: {spark.master: "k8s://https://host"}}.
    """

    type: Literal["polars", "spark", "ray"] = "polars"
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _has_its_options(self) -> Self:
        if self.type == "polars" and self.options:
            raise ValueError("the polars store has no options")
        return self


class FeaturesConfig(Section):
    """The `features` section. `offline_store`: None means Polars."""

    entities: dict[Name, Name] = Field(min_length=1)
    examples: Examples
    label: Label
    views: list[FeatureView] = Field(min_length=1)
    split: Split
    offline_store: OfflineStore | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        views: set[str] = set()
        taken = set(self.entities.values()) | {self.examples.key}
        for view in self.views:
            if view.name in views:
                raise ValueError(f"two views are named {view.name}")
            views.add(view.name)
            if view.entity not in self.entities:
                raise ValueError(
                    f"view {view.name} is of entity '{view.entity}', which is not among the"
                    f" entities ({', '.join(self.entities)})"
                )
            for feature in view.feature_names:
                if feature in taken:
                    raise ValueError(
                        f"feature {feature} of view {view.name} has a name that is taken by a key"
                        " or another feature: give it another name"
                    )
                taken.add(feature)
            self._hides_label(view)
        return self

    def _hides_label(self, view: FeatureView) -> None:
        """Refuses a view that could show an example its own label."""
        if view.table != self.examples.table or self.label.column not in view.source_columns:
            return
        label_known = self.label.known or self.examples.time
        reads = f"view {view.name} reads the label's column {self.label.column}"
        if view.time is None or (view.known or view.time) != label_known or view.available:
            raise ValueError(
                f"{reads} before the label is known, and so would see the future: set"
                f" `known: {label_known}` (and no `available`)"
            )
        if self.label.known is None and not self.examples.lead:
            raise ValueError(
                f"{reads}, which counts as known at the very moment of the prediction: an example"
                " would see its own label. Set label.known, or examples.lead"
            )
