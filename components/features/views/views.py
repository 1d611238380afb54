"""The rows of each feature view, made from the dataset's tables.

A view's table has one row a change: the entity's key, `event_timestamp` (when the value became known)
and the features. Numeric features are float64, categorical ones strings, times whole seconds (what
Feast's online store can hold), so that a value is the same online and offline.

No example sees itself. A view that looks back on the examples' own table (`FeaturesConfig.is_history`)
counts a row only after that row's own prediction: the row that is predicted, and any other of the same
instant, is not known to it yet. This is a matter of the key and the moment alone, so that it holds in
the offline and the online store alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import EARLIEST, NEVER
from slipway.components.config.data import Window
from slipway.components.config.features.features import (
    FeaturesConfig,
    FeatureView,
    Kind,
    TableField,
)
from slipway.components.contracts.dataset import Manifest, read_batches, read_table
from slipway.components.contracts.rows.row_key import (
    ROW_ID,
    content_hashes,
    joined,
    key_sources,
    numbered,
)
from slipway.components.contracts.splits import TIME
from slipway.components.features import tables
from slipway.components.features.columns import (
    KeyType,
    as_key,
    as_utc,
    earlier,
    finite,
    instant_type,
    key_columns,
    key_types,
    kind_of,
    moment,
    require_kind,
    require_numeric,
    require_years,
    typed,
)
from slipway.components.features.views.aggregates import (
    AFTER,
    HAPPENED,
    KEY,
    KNOWN,
    aggregate_rows,
    event_columns,
    value_columns,
)
from slipway.components.features.views.expressions import require_new, with_columns_of
from slipway.components.metrics.outcomes.exact import is_above
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ALWAYS = EARLIEST
"""When the rows of a table without time are known from: no example is read at an earlier moment."""
NAMED = ":named"
"""What an event that may be pushed is called: the values of the stream's key."""
_READ_AT_ONCE = 8
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True, kw_only=True)
class ViewTable:
    """What a view's table came to.

    Attributes:
        rows: how many.
        kinds: each feature's kind, as the table holds it: of a `since` the moment that it counts from.
        untyped: features whose column has no type, since every value of it is null.
        begins: the first moment that the view's data say anything of: when the first row happened or
            was known; None: there is no row of use, so that nothing can be said at any moment.
        known: when what happened in the window asked for became known; None: nothing did, or no window
            was asked for.
    """

    rows: int
    kinds: dict[str, Kind]
    untyped: set[str]
    begins: datetime | None = None
    known: "KnownSpan | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSpan:
    """When the events of a window became known.

    Attributes:
        first, last: of those that happened in the window.
        lead: of all events, the longest time from when one was known to when it happened.
        lag: the longest time from when one happened to when it was known. Neither is below zero.
    """

    first: datetime
    last: datetime
    lead: timedelta
    lag: timedelta

    def with_other(self, other: "KnownSpan") -> "KnownSpan":
        """The span of both."""
        return KnownSpan(
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            lead=max(self.lead, other.lead),
            lag=max(self.lag, other.lag),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ViewFrame:
    rows: "pl.DataFrame"
    kinds: dict[str, Kind]
    untyped: set[str]
    begins: datetime | None
    known: KnownSpan | None


def write_view(
    dataset: Path,
    manifest: Manifest,
    config: FeaturesConfig,
    view: FeatureView,
    target: str,
    window: Window | None = None,
) -> ViewTable:
    """Makes one view's table and writes it; of a long one, a share of the entities at a time.

    Memory grows with the share's rows, which are more than `tables.SHARE` only where one entity has more.

    Args:
        dataset: the validated dataset.
        manifest: its manifest.
        config: the project's `features` section.
        view: the view.
        target: path or URI of the view's table.
        window: of what happened in it, `ViewTable.known` says when it became known.

    Raises:
        SlipwayError: the dataset lacks a table or column, or a column has a type without a kind.
    """
    import pyarrow as pa

    columns = source_columns(manifest, config, view)
    sources = Sources.of(config, view, key_columns(manifest, config))
    if config.keys_of(view) == (ROW_ID,):
        sources = replace(sources, content=_content(manifest, config, view))
    total = manifest.tables[view.table].rows
    found = ViewTable(rows=0, kinds={}, untyped=set())
    begins: list[datetime] = []

    def read() -> Iterator["pl.DataFrame"]:
        batches = read_batches(dataset, view.table, columns)
        while some := list(islice(batches, _READ_AT_ONCE)):
            yield sources.read(pa.Table.from_batches(some)).drop_nulls(sources.columns)

    def made() -> Iterator["pl.DataFrame"]:
        for share in shares():
            part = _made(share, config, view, sources, window)
            found.kinds.update(part.kinds)
            found.untyped |= part.untyped
            begins.extend(moment for moment in (part.begins,) if moment is not None)
            if part.known:
                found.known = part.known.with_other(found.known or part.known)
            yield part.rows

    def shares() -> Iterator["pl.DataFrame"]:
        if total > tables.SHARE:
            return tables.entity_shares(read(), list(sources.columns), total)
        return iter([sources.read(read_table(dataset, view.table, columns))])

    found.rows = tables.write_parts(made(), target)
    found.begins = min(begins, default=None)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a view is looked up by.

    Attributes:
        keys: the key's columns in the view's table to be.
        columns: the source's columns that hold them. kinds: how the store holds each.
        content: columns that a row's own key is made of, where it is the row's content.
    """

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    kinds: list[KeyType]
    content: list[str]

    @classmethod
    def of(cls, config: FeaturesConfig, view: FeatureView, keys: dict[str, str]) -> "Sources":
        """A view's, from the `key_columns`."""
        kinds = key_types(keys)
        columns = config.keys_of(view)
        return cls(
            keys=columns,
            columns=config.sources_of(view),
            kinds=[kinds[key] for key in columns],
            content=[],
        )

    def read(self, table: "pa.Table") -> "pl.DataFrame":
        """Rows of the source; a hash of their content stands beside them where it is their key."""
        import polars as pl

        rows = pl.DataFrame(table)
        return rows.with_columns(content_hashes(table, self.content)) if self.content else rows

    def entities(self, rows: "pl.DataFrame", where: str) -> "pl.DataFrame":
        """Each row's key under the names of the view's table; null where a value can be none."""
        import polars as pl

        if self.content:
            return pl.DataFrame([numbered(rows[ROW_ID])])
        return rows.select(
            as_key(pl.col(c), rows.schema[c], kind, f"{where}: key column {c}").alias(key)
            for key, c, kind in zip(self.keys, self.columns, self.kinds, strict=True)
        )


def _content(manifest: Manifest, config: FeaturesConfig, view: FeatureView) -> list[str]:
    if config.keys_of(view) != (ROW_ID,):
        return []
    return key_sources(config, manifest.tables[view.table].columns)


def source_columns(manifest: Manifest, config: FeaturesConfig, view: FeatureView) -> list[str]:
    """The columns that a view is made of, its keys first."""
    content = _content(manifest, config, view)
    columns = wanted_columns(config, view, content or config.sources_of(view))
    require_columns(manifest, view.table, columns, f"view {view.name}")
    require_new(view, manifest)
    return columns


def wanted_columns(config: FeaturesConfig, view: FeatureView, keys: Sequence[str]) -> list[str]:
    """The columns of its table that a view reads, `keys` first."""
    predicted = config.examples.time if config.is_history(view) else None
    stream = config.stream_of(view)
    named = stream.key_columns if stream else ()
    wanted = [*keys, view.time, view.known, predicted, *sorted(view.source_columns), *named]
    return list(dict.fromkeys(name for name in wanted if name is not None))


def _made(
    rows: "pl.DataFrame",
    config: FeaturesConfig,
    view: FeatureView,
    sources: Sources,
    window: Window | None,
) -> _ViewFrame:
    """The view's rows from all rows of some entities: ordered by key and time, one a key and moment."""
    import polars as pl

    read = read_events(rows, config, view, sources)
    own, numbers = _numbered_entities(read.entities)
    events = countable(read.events.with_columns(own.alias(KEY)), view)
    if config.stream_of(view) is not None:
        events = first_known(events)
    begins = events.select(pl.min_horizontal(pl.min(KNOWN), pl.min(HAPPENED))).item()
    known = _known_of(events, window)
    made = changes(events, view)
    if numbers is None:
        made = made.rename({KEY: sources.keys[0]})
    else:
        made = made.join(numbers, on=KEY, how="left", maintain_order="left").drop(KEY)
        made = made.select(*sources.keys, pl.exclude(sources.keys))
    return _ViewFrame(
        rows=made.rename({KNOWN: TIME}),
        kinds=read.kinds,
        untyped=read.untyped,
        begins=begins,
        known=known,
    )


@dataclass(frozen=True, slots=True)
class ViewEvents:
    """What a view makes of the rows of its table, a row each and in their order.

    Attributes:
        entities: each row's key, under the names of the view's table.
        events: HAPPENED, KNOWN, AFTER, the values that the features are made of, and where the table's
            events are pushed NAMED.
        kinds, untyped: as in ViewTable.
    """

    entities: "pl.DataFrame"
    events: "pl.DataFrame"
    kinds: dict[str, Kind]
    untyped: set[str]


def read_events(
    rows: "pl.DataFrame", config: FeaturesConfig, view: FeatureView, sources: Sources
) -> ViewEvents:
    """Reads rows of a view's table as its events.

    The source's columns are read into names that no column of a project can have, and get their own
    names last: a table may well have a column named as our times, or as the entity's key.

    Raises:
        SlipwayError: a column has values that the view cannot be made of.
    """
    import polars as pl

    for name, field in view.fields.items():
        source = field if isinstance(field, str) else field.column
        if source not in view.columns:
            require_years(rows, source, f"View {view.name}, field {name}: column {source}")
    for source in sorted(view.source_columns) if view.columns else ():
        require_years(rows, source, f"View {view.name}: column {source}")
    rows = with_columns_of(view, as_utc(rows))
    for column in (view.time, view.known):
        if column and not isinstance(rows.schema[column], pl.Datetime | pl.Null):
            raise SlipwayError(
                f"View {view.name}: column {column} of table {view.table} is"
                f" {rows.schema[column]}, not a timestamp."
            )
    for name, field in view.fields.items():
        if not isinstance(field, str) and field.kind:
            where = f"View {view.name}, field {name}: column {field.column}"
            require_kind(rows, field.column, field.kind, where)
    kinds, untyped, values = _values(rows.schema, view)
    stream = config.stream_of(view)
    named = []
    if stream is not None:
        named.append(joined(rows.select(stream.key_columns)).alias(NAMED))
    return ViewEvents(
        entities=sources.entities(rows, f"view {view.name}"),
        events=rows.select(*_moments(rows.schema, config, view), *values, *named),
        kinds=kinds,
        untyped=untyped,
    )


def countable(events: "pl.DataFrame", view: FeatureView) -> "pl.DataFrame":
    """The events that name an entity and become known some time."""
    import polars as pl

    events = events.drop_nulls([KEY, KNOWN, HAPPENED])
    return events.filter(pl.col(KNOWN) < NEVER - view.available)


def first_known(events: "pl.DataFrame") -> "pl.DataFrame":
    """Of an entity's events with one name the one that was known first, in any order of the rows.

    An event without a name is none that was pushed: all of them count.
    """
    import polars as pl

    rest = [name for name in events.columns if name not in (KEY, NAMED, KNOWN, HAPPENED)]
    ordered = events.sort([KEY, NAMED, KNOWN, HAPPENED, *sorted(rest)], maintain_order=True)
    repeats = ordered.select(
        (pl.struct(KEY, NAMED) == pl.struct(KEY, NAMED).shift()) & pl.col(NAMED).is_not_null()
    ).to_series()
    return ordered.filter(~repeats.fill_null(value=False))


def changes(events: "pl.DataFrame", view: FeatureView) -> "pl.DataFrame":
    """The view's rows: KEY, KNOWN and the features at each moment when one of them may change."""
    if view.aggregates:
        return aggregate_rows(events, {name: view.aggregates[name] for name in view.feature_names})
    return _newest_known(events).select(KEY, KNOWN, *view.feature_names)


def _numbered_entities(entities: "pl.DataFrame") -> tuple["pl.Series", "pl.DataFrame | None"]:
    """Each row's entity as one column; of keys of several columns a number, and each number's key."""
    if entities.width == 1:
        return entities.to_series(), None
    numbers = entities.drop_nulls().unique().sort(entities.columns).with_row_index(KEY)
    found = entities.join(numbers, on=entities.columns, how="left", maintain_order="left")
    return found[KEY], numbers


def _known_of(events: "pl.DataFrame", window: Window | None) -> KnownSpan | None:
    """When the first and the last became known of what happened in a window, and how far from it."""
    import polars as pl

    if window is None:
        return None
    inside = pl.col(HAPPENED).is_between(window.start, window.end, closed="left")
    first, last = events.filter(inside).select(pl.min(KNOWN), last=pl.max(KNOWN)).row(0)
    if first is None:
        return None
    ahead = pl.col(HAPPENED) - pl.col(KNOWN)
    lead, lag = events.select(lead=ahead.max(), lag=-ahead.min()).row(0)
    nothing = timedelta(0)
    return KnownSpan(first=first, last=last, lead=max(lead, nothing), lag=max(lag, nothing))


def _values(
    schema: "pl.Schema", view: FeatureView
) -> tuple[dict[str, Kind], set[str], list["pl.Expr"]]:
    """Each feature's kind, the features without a type, and the columns that they are made from."""
    import polars as pl

    kinds: dict[str, Kind] = {}
    untyped, values = set(), []
    if view.aggregates:
        return _values_of_events(schema, view)
    for name in view.feature_names:
        field = view.fields[name]
        declared = field.kind if isinstance(field, TableField) else None
        column = field if isinstance(field, str) else field.column
        dtype = schema[column]
        if dtype == pl.Null and declared is None:
            untyped.add(name)
        kinds[name] = declared or kind_of(dtype, f"view {view.name}: column {column}")
        values.append(typed(pl.col(column), dtype, kinds[name]).alias(name))
    return kinds, untyped, values


def _values_of_events(
    schema: "pl.Schema", view: FeatureView
) -> tuple[dict[str, Kind], set[str], list["pl.Expr"]]:
    """What `_values` gives, of a view of aggregates."""
    import polars as pl

    kinds: dict[str, Kind] = dict.fromkeys(view.feature_names, "numeric")
    own: dict[str, Kind] = {}
    for name, aggregate in view.aggregates.items():
        where, column = f"view {view.name}, aggregate {name}", aggregate.column
        if aggregate.function == "since":
            kinds[name] = "time"
        if column is None:
            continue
        if aggregate.function in ("distinct", "most_common"):
            own[column] = kind_of(schema[column], f"{where}: column {column}")
            if aggregate.function == "most_common":
                kinds[name] = own[column]
        elif not schema[column].is_(pl.Boolean):
            require_numeric(schema, column, where)
    values = [
        _event_value(column, schema[column], above).alias(internal)
        for (column, above), internal in event_columns(view.aggregates).items()
    ]
    values += [
        typed(pl.col(column), schema[column], own[column]).alias(internal)
        for column, internal in value_columns(view.aggregates).items()
    ]
    untyped = {
        name
        for name, aggregate in view.aggregates.items()
        if aggregate.function == "most_common" and schema[aggregate.column or ""] == pl.Null
    }
    return kinds, untyped, values


def _event_value(column: str, dtype: "pl.DataType", above: Decimal | None) -> "pl.Expr":
    """What an aggregate sums up of a column: its numbers, or whether they are above one."""
    import polars as pl

    value = pl.col(column)
    if above is None:
        return finite(value.cast(pl.Float64))
    value = finite(value) if dtype.is_float() else value
    return is_above(value, dtype, above).cast(pl.Float64)


def _moments(schema: "pl.Schema", config: FeaturesConfig, view: FeatureView) -> list["pl.Expr"]:
    """When each row happened, when it became known, and whether it counts only AFTER that."""
    import polars as pl

    if view.time is None:
        always = pl.lit(ALWAYS, instant_type())
        return [always.alias(HAPPENED), always.alias(KNOWN), pl.lit(value=False).alias(AFTER)]
    happened = moment(view.time, schema)
    known = earlier(moment(view.known or view.time, schema), view.available)
    after = pl.lit(value=False)
    if config.examples.time is not None and config.is_history(view):
        predicted = earlier(moment(config.examples.time, schema), config.examples.lead)
        after = (known <= predicted).fill_null(value=False)
        known = pl.when(after).then(predicted).otherwise(known)
    return [happened.alias(HAPPENED), known.alias(KNOWN), after.alias(AFTER)]


def require_columns(manifest: Manifest, table: str, columns: list[str], where: str) -> None:
    """Refuses a table or column that the dataset does not have.

    Raises:
        SlipwayError: naming what is missing and what is there.
    """
    if table not in manifest.tables:
        raise SlipwayError(
            f"{where} reads table '{table}', which the dataset does not have"
            f" ({', '.join(manifest.tables)}). Add it to data.tables or correct the name."
        )
    there = manifest.tables[table].columns
    missing = [column for column in columns if column not in there]
    if missing:
        raise SlipwayError(
            f"{where} reads {', '.join(missing)}, which table '{table}' does not have. Its columns"
            f" are {', '.join(there)}."
        )


def _newest_known(rows: "pl.DataFrame") -> "pl.DataFrame":
    """The rows that are, when they become known, the newest of their entity, one a moment.

    A row that comes late, when a newer one is known already, must not replace it.
    """
    import polars as pl

    moment = pl.col(KNOWN) + pl.when(AFTER).then(pl.lit(_MICROSECOND)).otherwise(timedelta(0))
    rows = rows.with_columns(moment).sort([KEY, KNOWN, HAPPENED], maintain_order=True)
    rows = rows.filter(pl.col(HAPPENED) >= pl.col(HAPPENED).cum_max().over(KEY))
    last = (pl.struct(KEY, KNOWN) != pl.struct(KEY, KNOWN).shift(-1)).fill_null(value=True)
    return rows.filter(last)
