"""What no section of a project file knows alone: its sections, and the schema, must fit one another.

All of it would fail a stage later on, after the stages before it have done their work.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from slipway.components.config.base import EARLIEST, NEVER, format_instant
from slipway.components.config.checks.kubernetes_names import host_problem
from slipway.components.config.checks.label_consistency import of_label
from slipway.components.config.checks.told_types import (
    key_of,
    near,
    properties,
    tables_of,
    type_in_schema,
    type_of_feature,
)
from slipway.components.config.features.features import FeaturesConfig, FeatureView
from slipway.components.support.columns import ROW_ID
from slipway.components.support.expressions.functions import Type
from slipway.components.support.expressions.parse import (
    ExpressionError,
    in_order,
    names,
    parse,
    type_of,
    unknown,
)

if TYPE_CHECKING:
    from slipway.components.config.checks.messages import Location
    from slipway.components.config.model import Project

_MONTH = "month"
_BLOCKS = ("day", "hour", "week", "row")


def columns_read(features: FeaturesConfig) -> Iterator[tuple["Location", str, str]]:
    """Each column that the features are made of: the setting that names it, its table, its name."""
    spec, label = features.examples, features.label
    for column in spec.key_columns:
        yield ("features", "examples", "key"), spec.table, column
    if spec.time:
        yield ("features", "examples", "time"), spec.table, spec.time
    for number, column in enumerate(spec.beside):
        if column in features.joined_beside:
            continue
        yield ("features", "examples", "beside", number), spec.table, column
    if features.split.by:
        yield ("features", "split", "by"), spec.table, features.split.by
    yield ("features", "label", "column"), spec.table, label.column
    if label.known:
        yield ("features", "label", "known"), spec.table, label.known
    for name, columns in features.entity_keys.items():
        if any(view.entity == name for view in features.views):
            for column in columns:
                yield ("features", "entities", name), spec.table, column
    for number, view in enumerate(features.views):
        yield from _columns_of_view(("features", "views", number), view, features)


def _columns_of_view(
    place: "Location", view: FeatureView, features: FeaturesConfig
) -> Iterator[tuple["Location", str, str]]:
    named = "source_key" if view.source_keys else "entity" if view.entity else "name"
    for column in features.sources_of(view):
        if column != ROW_ID:
            yield (*place, named), view.table, column
    for setting in ("time", "known"):
        if column := getattr(view, setting):
            yield (*place, setting), view.table, column
    for name, text in view.columns.items():
        for column in names(parse(text)):
            if column not in view.columns:
                yield (*place, "columns", name), view.table, column
    for name, field in view.fields.items():
        column = field if isinstance(field, str) else field.column
        if column not in view.columns:
            yield (*place, "fields", name), view.table, column
    for name, aggregate in view.aggregates.items():
        if aggregate.column and aggregate.column not in view.columns:
            yield (*place, "aggregates", name), view.table, aggregate.column


def required_columns(features: FeaturesConfig) -> dict[str, dict[str, str]]:
    """The columns without which there are no examples: by table, each with the setting that names it.

    Ingest asks for them before it reads anything. The features' own are left to the features stage, so
    that another feature does not make a cached ingest stale.
    """
    return {
        features.examples.table: {
            column: ".".join(map(str, place))
            for place, _, column in columns_read(features)
            if place[1] in ("examples", "label", "split")
        }
    }


def inconsistencies(
    project: "Project", schema: dict[str, object]
) -> Iterator[tuple["Location", str]]:
    """What does not fit: where it stands, and a sentence that names it.

    Args:
        project: the project file.
        schema: the content of the schema file.
    """
    yield from _endless_host(project)
    yield from _window(project)
    yield from _missing_tables(project)
    yield from _second_names(project)
    yield from _missing_columns(project, schema)
    yield from _expressions(project, schema)
    yield from _split(project)
    yield from _retraining(project)
    yield from _gate(project)
    yield from of_label(project, schema)
    yield from _schema(project, schema)


def _window(project: "Project") -> Iterator[tuple["Location", str]]:
    """A window of times that are none is read as one of all times, and no feature holds in it."""
    window = project.data.window
    if window is None:
        return
    for name, moment in (("start", window.start), ("end", window.end)):
        if not EARLIEST <= moment <= NEVER:
            yield (
                ("data", "window", name),
                f"data.window.{name}: {format_instant(moment)} is not between {format_instant(EARLIEST)}"
                f" and {format_instant(NEVER)}: give the stretch of time that has rows.",
            )


def _missing_tables(project: "Project") -> Iterator[tuple["Location", str]]:
    tables = project.data.tables
    used: list[tuple[Location, str]] = [
        (("features", "examples", "table"), project.features.examples.table)
    ]
    used += [
        (("features", "views", number, "table"), view.table)
        for number, view in enumerate(project.features.views)
    ]
    for place, table in used:
        if table not in tables:
            yield place, f"{key_of(place)}: data.tables has no {table}.{near(table, tables)}"


def _second_names(project: "Project") -> Iterator[tuple["Location", str]]:
    """Views of the examples' own table under another name: an example would see itself there."""
    tables, own = project.data.tables, project.features.examples.table
    for number, view in enumerate(project.features.views):
        if view.table == own or view.table not in tables or own not in tables:
            continue
        if tables[view.table].path.rstrip("/") == tables[own].path.rstrip("/"):
            place: Location = ("features", "views", number, "table")
            yield (
                place,
                f"{key_of(place)}: {view.table} is read from the same path as the examples' table {own},"
                f" so that an example would see itself in it. Set `table: {own}`.",
            )


def _missing_columns(
    project: "Project", schema: dict[str, object]
) -> Iterator[tuple["Location", str]]:
    """Columns that cannot be there, as `columns:` or a schema that admits no others says."""
    for place, table, column in columns_read(project.features):
        settings = project.data.tables.get(table)
        if settings is None:
            continue
        listed, where = settings.columns, f"data.tables.{table}.columns"
        entry = tables_of(schema).get(table)
        if (
            listed is None
            and isinstance(entry, dict)
            and entry.get("additionalProperties") is False
        ):
            listed, where = list(entry.get("properties", ())), f"the schema's table {table}"
        if listed is not None and column not in listed:
            yield place, f"{key_of(place)}: {where} has no column {column}.{near(column, listed)}"


def _expressions(project: "Project", schema: dict[str, object]) -> Iterator[tuple["Location", str]]:
    """Expressions that read what is not there, or of another type than a function takes."""
    features = project.features
    types: dict[str, Type | None] = {}
    for number, view in enumerate(features.views):
        columns: dict[str, Type | None] = dict.fromkeys(view.source_columns)
        columns |= {
            name: type_in_schema(entry)
            for name, entry in properties(schema, view.table).items()
            if name in view.source_columns
        }
        place: Location = ("features", "views", number, "columns")
        for name in view.columns:
            if name in properties(schema, view.table):
                yield (
                    (*place, name),
                    f"{key_of((*place, name))}: table {view.table} has a column {name}: give it another"
                    " name.",
                )
        yield from _types_of(place, view.columns, columns)
        for name in view.feature_names:
            types[name] = type_of_feature(view, name, columns)
    yield from _types_of(("features", "derived"), features.derived, types)
    for name in features.ngrams:
        if name not in types:
            yield ("features", "ngrams", name), f"features.ngrams.{name}: {unknown(name, types)}."
        elif types[name] not in (None, "text"):
            yield (
                ("features", "ngrams", name),
                f"features.ngrams.{name}: it is a {types[name]}, and n-grams are of a text.",
            )


def _types_of(
    place: "Location", expressions: dict[str, str], types: dict[str, Type | None]
) -> Iterator[tuple["Location", str]]:
    """Adds the types of expressions to those of what they read; yields what is wrong."""
    for name in in_order(expressions):
        try:
            types[name] = type_of(parse(expressions[name]), types)
            if types[name] == "missing":
                yield (*place, name), f"{key_of((*place, name))}: it has no value in any row."
        except ExpressionError as error:
            types[name] = None
            yield (*place, name), f"{key_of((*place, name))}: {error}."


def _split(project: "Project") -> Iterator[tuple["Location", str]]:
    window, time = project.data.window, project.features.examples.time
    if window is None:
        if time is not None:
            yield (
                ("data",),
                f"data.window is missing: the examples have a time ({time}), and the window says from"
                " when to when they are read. Write `window: {start: …, end: …}`.",
            )
        return
    try:
        project.features.split.cut(window.start, window.end)
    except ValueError as error:
        yield ("features", "split"), f"features.split: {error}."


def _retraining(project: "Project") -> Iterator[tuple["Location", str]]:
    """A training that monitoring asks for cuts its own window by the same split."""
    length, window = project.monitoring.retraining.window, project.data.window
    if length is None:
        return
    place = ("monitoring", "retraining", "window")
    if window is None:
        yield (
            place,
            "monitoring.retraining.window: without data.window a retraining reads all rows. Leave it"
            " out.",
        )
        return
    try:
        project.features.split.cut(window.end - length, window.end)
    except ValueError as error:
        yield place, f"monitoring.retraining.window: {error}."


def _gate(project: "Project") -> Iterator[tuple["Location", str]]:
    """Slices and blocks are columns of the test part: features, or keys."""
    features = project.features
    timed = features.examples.time is not None
    keys = {features.examples.row_key, *features.named_columns, *features.examples.beside}
    columns = keys.union(features.feature_names, features.expressions) - features.hidden
    calendar = f", a key, or {_MONTH}" if timed else " or a key"
    for number, column in enumerate(project.gate.slices.columns):
        if column not in columns and not (timed and column == _MONTH):
            place = ("gate", "slices", "columns", number)
            hint = near(column, columns) or f" Name a feature{calendar}."
            yield place, f"gate.slices.columns: '{column}' is no feature and no key.{hint}"
    for number, rule in enumerate(project.gate.fairness):
        if rule.by not in columns:
            hint = near(rule.by, columns) or " Name it in features.examples.beside."
            yield (
                ("gate", "fairness", number, "by"),
                f"gate.fairness: '{rule.by}' is no feature, no key and no column beside them.{hint}",
            )
    ranking = project.gate.ranking
    if ranking is not None and ranking.by not in columns:
        hint = near(ranking.by, columns) or " Name it in features.examples.beside."
        yield (
            ("gate", "ranking", "by"),
            f"gate.ranking: '{ranking.by}' is no feature, no key and no column beside them.{hint}",
        )
    block, blocks = project.gate.block, _BLOCKS if timed else _BLOCKS[-1:]
    if block not in columns and block in _BLOCKS and block not in blocks:
        yield (
            ("gate", "block"),
            f"gate.block: '{block}' is a stretch of time, and the examples have none. Write `row`, or"
            " the column of a key.",
        )
    elif block not in columns and block not in blocks:
        hint = near(block, [*columns, *blocks]) or f" Name one of {', '.join(blocks)}, or a key."
        yield ("gate", "block"), f"gate.block: '{block}' is no feature and no key.{hint}"


def _schema(project: "Project", schema: dict[str, object]) -> Iterator[tuple["Location", str]]:
    """Validate refuses a table that the schema does not name, and one that it names in vain."""
    named, tables = tables_of(schema), project.data.tables
    missing = [table for table in tables if table not in named]
    if missing:
        yield (
            ("schema",),
            f"schema: {project.input_schema} does not name the table"
            f"{'s' if len(missing) > 1 else ''} {', '.join(missing)}. `slipway schema infer --project"
            " DIR` writes a first entry.",
        )
    for table in named:
        if table not in tables:
            yield (
                ("schema",),
                f"schema: {project.input_schema} names the table {table}, which data.tables does not"
                f" have.{near(table, tables)}",
            )


def _endless_host(project: "Project") -> Iterator[tuple["Location", str]]:
    deployment = project.deployment
    if deployment.namespace and deployment.part_before:
        found = host_problem(
            project.project_name, deployment.namespace, part=deployment.part_before
        )
        if found:
            yield ("deployment", "namespace"), f"deployment.namespace: {found}"
