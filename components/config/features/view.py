"""The rows that are predicted, and the views: where each feature comes from and when it is known."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from slipway.components.config.base import (
    DURATION_PATTERN,
    Duration,
    Name,
    Section,
    format_duration,
    named_twice,
    parse_duration,
    require_bounds,
)
from slipway.components.config.features.label import Number
from slipway.components.support.columns import ROW_ID
from slipway.components.support.expressions.parse import in_order, names, parse

Aggregation = Literal[
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "std",
    "last",
    "rate",
    "since",
    "distinct",
    "most_common",
]
Kind = Literal["numeric", "categorical", "boolean", "time"]


def _is_expression(text: str) -> str:
    parse(text)
    return text


def without_circles(expressions: dict[str, str]) -> dict[str, str]:
    """The expressions, none of which reads itself.

    Raises:
        ValueError: one does.
    """
    in_order(expressions)
    return expressions


def _windows_or_duration(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        # As a float a struct of a pipeline holds it; NaN and infinity are no number of windows.
        if not (isinstance(value, int) or value.is_integer()) or value < 1:
            raise ValueError(
                f"{value} has no unit, and is no number of windows: write 7d, or 1 for one window"
            )
        return int(value)
    return parse_duration(value)


Lag = Annotated[
    int | timedelta,
    BeforeValidator(_windows_or_duration),
    AfterValidator(lambda lag: lag if isinstance(lag, int) else require_bounds(lag)),
    PlainSerializer(
        lambda lag: lag if isinstance(lag, int) else format_duration(lag), when_used="json"
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": DURATION_PATTERN, "examples": ["7d"]},
            ]
        }
    ),
]
"""A number of windows, or a duration."""
Expression = Annotated[str, AfterValidator(_is_expression)]
"""An expression of docs/features.md, as its text."""
Expressions = Annotated[dict[Name, Expression], AfterValidator(without_circles)]


class Examples(Section):
    """The rows that are predicted."""

    table: Name = Field(description="The table with one row an example.")
    key: Name | Annotated[list[Name], Field(min_length=2)] | None = Field(
        default=None,
        description="The column that names an example uniquely; or several that do so together, as in "
        "[user_id, item_id]. None: a row is named by its content.",
    )
    time: Name | None = Field(
        default=None,
        description="When the predicted thing happens; None for a table without time, whose "
        "features are joined by key alone.",
    )
    lead: Duration = Field(
        default=timedelta(0),
        description="How long before `time` the prediction is made: nothing known later is used.",
    )

    beside: list[Name] = Field(
        default=[],
        description="Columns that travel beside the features, for slices, fairness and weights: in the "
        "train, validation and test tables, but never in the model, the online store, a request or the "
        "inference log. Each is a column of `table`, or a feature of a view of another table, which is "
        "then joined as features are and is none.",
    )
    also_features: list[Name] = Field(
        default=[],
        description="Those of `beside` that a feature is made of too, which is refused unless it is said "
        "here.",
    )

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that name an example; none: its content does."""
        if self.key is None:
            return ()
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def row_key(self) -> str:
        """The one column that names an example in all that is made of it."""
        return self.key if isinstance(self.key, str) else ROW_ID

    @model_validator(mode="after")
    def _names_a_column_once(self) -> Self:
        if twice := named_twice(self.key_columns):
            raise ValueError(f"`key` names {', '.join(twice)} twice")
        return self

    @model_validator(mode="after")
    def _beside_consistent(self) -> Self:
        if twice := named_twice(self.beside):
            raise ValueError(f"`beside` names {', '.join(twice)} twice")
        lacking = [name for name in self.also_features if name not in self.beside]
        if lacking:
            raise ValueError(f"`also_features` names {', '.join(lacking)}, which `beside` does not")
        return self

    @model_validator(mode="after")
    def _leads_a_time(self) -> Self:
        if self.lead and self.time is None:
            raise ValueError(
                "`lead` says how long before `time` a row is predicted: give `time`, or leave it out"
            )
        return self


class TableField(Section):
    """A feature that is a column as it stands."""

    column: Name = Field(description="Column of the table.")
    kind: Kind | None = Field(
        default=None,
        description="`numeric`, `categorical`, `boolean` or `time`; None: by the type.",
    )


class Aggregate(Section):
    """A feature that sums up an entity's events over the last `window`."""

    function: Aggregation = Field(
        description="`count`, `sum`, `mean`, `min`, `max`, `std`, `last`, `rate` (events an hour), "
        "`since` (hours since the last event), `distinct` (how many different values), or "
        "`most_common` (the value that most events have)."
    )
    column: Name | None = Field(
        default=None,
        description="The events' column; count and rate need none, since counts every event without.",
    )
    above: Number | None = Field(
        default=None,
        description='Aggregate the indicator "column > above" (0/1) in place of the column; of since: '
        "the last event above.",
    )
    window: Duration = Field(
        default=timedelta(0),
        description="How far back events count, by the time at which they became known.",
    )
    windows: list[Duration] | None = Field(
        default=None,
        description="In place of `window` several: [1d, 7d] makes two features, named as this one with "
        "_1d and _7d behind it.",
    )
    lag: Lag | None = Field(
        default=None,
        description="The value so long before the prediction: a duration, or a number of windows.",
    )

    @model_validator(mode="after")
    def _has_window(self) -> Self:
        if self.windows is None and "window" not in self.model_fields_set:
            raise ValueError("say how far back events count: `window: 7d`, or `windows: [1d, 7d]`")
        if self.windows is not None and "window" in self.model_fields_set:
            raise ValueError("both `window` and `windows` are given: write one of them")
        if self.windows == [] or timedelta(0) in self.each_window:
            raise ValueError("a window of 0s holds no event: make it longer")
        if len(set(self.each_window)) < len(self.each_window):
            raise ValueError("`windows` has one length twice: leave one out")
        for window in self.each_window:
            require_bounds(window + self._lag_of(window))
        return self

    @model_validator(mode="after")
    def _has_column(self) -> Self:
        if self.function not in ("count", "rate", "since") and self.column is None:
            raise ValueError(f"function {self.function} needs a column")
        if self.above is not None and self.function in ("count", "rate"):
            raise ValueError(
                f"{self.function} counts every event, whatever `above` says: take `function: sum`, which"
                " then counts those above"
            )
        if self.above is not None and self.column is None:
            raise ValueError("`above` compares a column: give `column`, or leave it out")
        if self.above is not None and self.function in ("distinct", "most_common"):
            raise ValueError(f"{self.function} looks at the values themselves: leave `above` out")
        return self

    def _lag_of(self, window: timedelta) -> timedelta:
        return self.lag * window if isinstance(self.lag, int) else self.lag or timedelta(0)

    @property
    def each_window(self) -> list[timedelta]:
        """The window, or all of `windows`."""
        return [self.window] if self.windows is None else list(self.windows)

    @property
    def delay(self) -> timedelta:
        """How long before the prediction the value is of."""
        return self._lag_of(self.window)

    @property
    def reach(self) -> timedelta:
        """How far before the prediction an event still counts."""
        return self.window + self.delay

    @property
    def empty(self) -> float | None:
        """The value without events in the window."""
        return 0.0 if self.function in ("count", "sum", "rate", "distinct") else None


class FeatureView(Section):
    """Features of one entity from one table."""

    name: Name = Field(description="Name of the view.")
    entity: Name | None = Field(
        default=None,
        description="A name from `features.entities`; None: the example itself, by its key.",
    )
    table: Name = Field(description="Table that its rows are in.")
    source_key: Name | list[Name] | None = Field(
        default=None,
        description="The table's column that holds the entity's key, where it is named otherwise "
        "there than in the examples; of a key of several columns a list, in their order.",
    )
    time: Name | None = Field(
        default=None,
        description="When the row's thing happened; None for a table without time (always known).",
    )
    known: Name | None = Field(
        default=None,
        description="The column with the time at which its values became known; None: `time`. A "
        "row whose `known` is null is never used.",
    )
    available: Duration = Field(
        default=timedelta(0),
        description="How long before `time` the values are already known (a schedule): 30d.",
    )
    ttl: Duration | None = Field(
        default=None,
        description="A value older than this at the prediction is not used; None: no limit.",
    )
    columns: Expressions = Field(
        default={},
        description="Columns made of the table's own by an expression, for fields and aggregates: "
        '{late: "arr_delay > 15"}.',
    )
    fields: dict[Name, Name | TableField] = Field(
        default={}, description="Feature to column, or to `{column, kind}`."
    )
    aggregates: dict[Name, Aggregate] = Field(
        default={}, description="Feature to what sums up the events of a window."
    )
    online: bool = Field(default=True, description="Keep the newest values in the online store.")

    @field_validator("aggregates")
    @classmethod
    def _one_window_each(cls, given: dict[str, Aggregate]) -> dict[str, Aggregate]:
        """An aggregate of several windows as one a window, so that nothing after this knows of them."""
        made: dict[str, Aggregate] = {}
        for name, aggregate in given.items():
            for window in aggregate.each_window:
                several = aggregate.windows is not None
                one = f"{name}_{format_duration(window)}" if several else name
                if one in made or (several and one in given):
                    raise ValueError(
                        f"{name} with its window of {format_duration(window)} is the feature {one}, and"
                        " so is another aggregate: give one of them another name"
                    )
                made[one] = (
                    aggregate.model_copy(update={"window": window, "windows": None})
                    if several
                    else aggregate
                )
        return made

    @model_validator(mode="after")
    def _has_features(self) -> Self:
        if not self.fields and not self.aggregates:
            raise ValueError(f"view {self.name} has neither fields nor aggregates")
        if self.fields and self.aggregates:
            raise ValueError(f"view {self.name} mixes fields and aggregates: make it two views")
        if self.aggregates and self.time is None:
            raise ValueError(f"view {self.name} aggregates events and so needs `time`")
        if self.time is None and (self.known or self.ttl is not None):
            said = "known" if self.known else "ttl"
            raise ValueError(
                f"view {self.name} has `{said}` and no `time`: without `time` its rows count as always"
                f" known. Set `time` to the column with the time when a row's thing happened"
                + (f" (it may be {self.known} itself)" if self.known else "")
            )
        if self.ttl is not None and not self.ttl:
            raise ValueError(
                f"view {self.name} has a ttl of 0s, after which nothing is left: make it longer, or leave"
                " it out for no limit"
            )
        longest = max((aggregate.reach for aggregate in self.aggregates.values()), default=None)
        if longest and self.ttl and self.ttl < longest:
            raise ValueError(
                f"view {self.name} forgets values after its ttl of {format_duration(self.ttl)}, sooner"
                f" than its window of {format_duration(longest)} ends (with its lag, where it has one):"
                " make the ttl at least as long"
            )
        return self

    @property
    def source_keys(self) -> tuple[str, ...]:
        """The columns of `source_key`; none: they are named as in the examples."""
        if self.source_key is None:
            return ()
        return (self.source_key,) if isinstance(self.source_key, str) else tuple(self.source_key)

    @property
    def source_columns(self) -> set[str]:
        """The table's columns that the view's features are made of, also by way of an expression."""
        fields = [f if isinstance(f, str) else f.column for f in self.fields.values()]
        used = {*fields, *(a.column for a in self.aggregates.values() if a.column)}
        read = {name for text in self.columns.values() for name in names(parse(text))}
        return (used | read) - set(self.columns)

    @property
    def feature_names(self) -> list[str]:
        """Names of the view's features, sorted: a pipeline parameter does not keep a key order."""
        return sorted([*self.fields, *self.aggregates])

    def empty(self, feature: str) -> float | None:
        """A feature's value for an entity of which nothing happened: 0 for a count, a sum and a rate."""
        return self.aggregates[feature].empty if feature in self.aggregates else None

    def since_hours(self, feature: str) -> float | None:
        """Of a `since` its window in hours: the view's table holds the moment that it counts from."""
        aggregate = self.aggregates.get(feature)
        if aggregate is None or aggregate.function != "since":
            return None
        return aggregate.window / timedelta(hours=1)
