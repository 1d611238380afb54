"""What no section of a project file knows alone: its sections, and the schema, must fit one another.

All of it would fail a stage later on, after the stages before it have done their work.
"""

import difflib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import EARLIEST, NEVER, format_instant
from slipway.components.config.checks.kubernetes_names import host_problem
from slipway.components.config.features.features import FeaturesConfig, FeatureView
from slipway.components.config.gate import EVERY_CLASS
from slipway.components.config.kinds import metrics_of
from slipway.components.support.columns import ROW_ID
from slipway.components.support.expressions.functions import TYPES, Type
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
    yield from _gate_weights(project, schema)
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
            yield place, f"{_key(place)}: data.tables has no {table}.{_near(table, tables)}"


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
                f"{_key(place)}: {view.table} is read from the same path as the examples' table {own},"
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
        entry = _tables_of(schema).get(table)
        if (
            listed is None
            and isinstance(entry, dict)
            and entry.get("additionalProperties") is False
        ):
            listed, where = list(entry.get("properties", ())), f"the schema's table {table}"
        if listed is not None and column not in listed:
            yield place, f"{_key(place)}: {where} has no column {column}.{_near(column, listed)}"


def _expressions(project: "Project", schema: dict[str, object]) -> Iterator[tuple["Location", str]]:
    """Expressions that read what is not there, or of another type than a function takes."""
    features = project.features
    types: dict[str, Type | None] = {}
    for number, view in enumerate(features.views):
        columns: dict[str, Type | None] = dict.fromkeys(view.source_columns)
        columns |= {
            name: _type_in_schema(entry)
            for name, entry in _properties(schema, view.table).items()
            if name in view.source_columns
        }
        place: Location = ("features", "views", number, "columns")
        for name in view.columns:
            if name in _properties(schema, view.table):
                yield (
                    (*place, name),
                    f"{_key((*place, name))}: table {view.table} has a column {name}: give it another"
                    " name.",
                )
        yield from _types_of(place, view.columns, columns)
        for name in view.feature_names:
            types[name] = _type_of_feature(view, name, columns)
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
                yield (*place, name), f"{_key((*place, name))}: it has no value in any row."
        except ExpressionError as error:
            types[name] = None
            yield (*place, name), f"{_key((*place, name))}: {error}."


def _type_of_feature(view: FeatureView, name: str, columns: dict[str, Type | None]) -> Type | None:
    """A feature's type as far as the files say it."""
    if name in view.aggregates:
        aggregate = view.aggregates[name]
        return columns[aggregate.column or ""] if aggregate.function == "most_common" else "number"
    field = view.fields[name]
    if isinstance(field, str):
        return columns[field]
    return TYPES[field.kind] if field.kind else columns[field.column]


def _type_in_schema(entry: Any) -> Type | None:
    """The type of values that a column's entry in the schema admits; None: it does not say."""
    kinds = entry.get("type") if isinstance(entry, dict) else None
    named = [
        kind for kind in ([kinds] if isinstance(kinds, str) else kinds or []) if kind != "null"
    ]
    if len(named) != 1:
        return None
    if named[0] == "string":
        return "time" if entry.get("format") in ("date-time", "local-date-time", "date") else "text"
    kind: Type | None = {"integer": "number", "number": "number", "boolean": "boolean"}.get(
        named[0]
    )  # type: ignore[assignment]
    return kind


def _properties(schema: dict[str, object], table: str) -> dict[str, object]:
    entry = _tables_of(schema).get(table)
    found = entry.get("properties") if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}


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
            hint = _near(column, columns) or f" Name a feature{calendar}."
            yield place, f"gate.slices.columns: '{column}' is no feature and no key.{hint}"
    for number, rule in enumerate(project.gate.fairness):
        if rule.by not in columns:
            hint = _near(rule.by, columns) or " Name it in features.examples.beside."
            yield (
                ("gate", "fairness", number, "by"),
                f"gate.fairness: '{rule.by}' is no feature, no key and no column beside them.{hint}",
            )
    ranking = project.gate.ranking
    if ranking is not None and ranking.by not in columns:
        hint = _near(ranking.by, columns) or " Name it in features.examples.beside."
        yield (
            ("gate", "ranking", "by"),
            f"gate.ranking: '{ranking.by}' is no feature, no key and no column beside them.{hint}",
        )
    yield from _rules_of_label(project)
    yield from _metrics_of_label(project)
    yield from _training_of_label(project)
    block, blocks = project.gate.block, _BLOCKS if timed else _BLOCKS[-1:]
    if block not in columns and block in _BLOCKS and block not in blocks:
        yield (
            ("gate", "block"),
            f"gate.block: '{block}' is a stretch of time, and the examples have none. Write `row`, or"
            " the column of a key.",
        )
    elif block not in columns and block not in blocks:
        hint = _near(block, [*columns, *blocks]) or f" Name one of {', '.join(blocks)}, or a key."
        yield ("gate", "block"), f"gate.block: '{block}' is no feature and no key.{hint}"


def _gate_weights(project: "Project", schema: dict[str, Any]) -> Iterator[tuple["Location", str]]:
    """What weighs the test rows is a number that the test table has."""
    weights, features = project.gate.weights, project.features
    if weights is None:
        return
    beside = features.examples.beside
    columns = {*features.feature_names, *features.expressions, *beside} - features.hidden
    place: Location = ("gate", "weights")
    if weights not in columns:
        hint = _near(weights, columns) or " Name it in features.examples.beside."
        yield (
            place,
            f"gate.weights: '{weights}' is no feature and no column of features.examples.beside.{hint}",
        )
    entry = _properties(schema, features.examples.table).get(weights)
    if weights in features.own_beside and _type_in_schema(entry) not in (None, "number"):
        yield (
            place,
            f"gate.weights: by the schema, {weights} of table {features.examples.table} is a"
            f" {_type_in_schema(entry)}; rows are weighed by a number.",
        )


def _rules_of_label(project: "Project") -> Iterator[tuple["Location", str]]:
    """Fairness and least values of classes that the label's kind does not have."""
    label, gate = project.features.label, project.gate
    names = {"binary": ("0", "1"), "multiclass": label.classes or (), "number": ()}[label.kind]
    if label.merge_rare is not None and names:
        names = (*names, label.merge_rare)
    for number, rule in enumerate(gate.fairness):
        place: Location = ("gate", "fairness", number)
        if label.kind == "number" and rule.measure != "error":
            yield (
                (*place, "measure"),
                f"gate.fairness: features.label.kind is number, whose groups are compared by `error`, not"
                f" by {rule.measure}.",
            )
        elif label.kind == "multiclass" and rule.measure != "error" and rule.positive is None:
            yield (
                (*place, "positive"),
                f"gate.fairness: {rule.measure} of several classes needs `positive`, the class that"
                " counts as positive.",
            )
        elif rule.positive is not None and names and rule.positive not in names:
            yield (
                (*place, "positive"),
                f"gate.fairness: the label has no class {rule.positive}.{_near(rule.positive, names)}",
            )
    if gate.ranking is not None and label.kind != "binary":
        yield (
            ("gate", "ranking"),
            f"gate.ranking: features.label.kind is {label.kind}; rows are relevant or not where it is"
            " binary.",
        )
    if gate.classes and label.kind == "number":
        yield (
            ("gate", "classes"),
            "gate.classes: features.label.kind is number, which has no classes.",
        )
    for name in gate.classes:
        if name != EVERY_CLASS and names and name not in names:
            yield (
                ("gate", "classes", name),
                f"gate.classes: the label has no class {name}. It has {', '.join(names[:20])}.",
            )


def _metrics_of_label(project: "Project") -> Iterator[tuple["Location", str]]:
    """A bound on a metric that the label's kind does not have would never be measured."""
    label, gate = project.features.label, project.gate
    kind, costs = label.kind, label.costs is not None
    sets = kind == "multiclass" and project.training.sets is not None
    known = metrics_of(kind, costs=costs, sets=sets)
    if not costs and project.training.threshold == "cost":
        yield (
            ("training", "threshold"),
            "training.threshold: `cost` needs features.label.costs, which says what wrong answers cost.",
        )
    places: list[tuple[Location, Collection[str]]] = [
        (("gate", "metrics"), gate.metrics),
        (("gate", "champion", "margins"), gate.champion.margins),
        (("gate", "slices", "least"), gate.slices.least),
        (("gate", "slices", "margins"), gate.slices.margins),
    ]
    if kind == "number":
        of_classes = ("accuracy", "f1", "auc", "calibration_error", "min_class_rows")
        places.append((("gate",), [name for name in of_classes if name in gate.model_fields_set]))
    elif "coverage" in gate.model_fields_set and not sets:
        places.append((("gate",), ["coverage"]))
    for place, metrics in places:
        for metric in metrics:
            if place == ("gate",) or metric not in known:
                yield (
                    (*place, metric),
                    f"{_key((*place, metric))}: features.label.kind is {kind}, which is measured by"
                    f" {', '.join(known)}.",
                )


def _training_of_label(project: "Project") -> Iterator[tuple["Location", str]]:
    """A setting of another kind of label would be passed over in silence."""
    kind, training = project.features.label.kind, project.training
    of_kind = {
        "positive_weight": "binary",
        "threshold": "binary",
        "class_weights": "multiclass",
        "interval": "number",
        "sets": "multiclass",
    }
    for name, wanted in of_kind.items():
        if name in training.model_fields_set and kind != wanted:
            yield (
                ("training", name),
                f"training.{name} is for a label of kind {wanted}, and features.label.kind is {kind}:"
                " leave it out.",
            )
    yield from _sample_weight(project)
    if kind == "multiclass" and isinstance(training.class_weights, dict):
        named = project.features.label.classes or ()
        for name in training.class_weights:
            if named and name not in named and name != project.features.label.merge_rare:
                yield (
                    ("training", "class_weights", name),
                    f"training.class_weights: features.label.classes has no {name}.{_near(name, named)}",
                )


def _sample_weight(project: "Project") -> Iterator[tuple["Location", str]]:
    weight, features = project.training.sample_weight, project.features
    named = [name for view in features.views for name in view.feature_names]
    named += features.examples.beside
    if weight is not None and weight not in named:
        hint = " Name it there: it then weighs the rows and is no input of the model."
        yield (
            ("training", "sample_weight"),
            f"training.sample_weight: '{weight}' is no feature and no column of features.examples.beside."
            + (_near(weight, named) or hint),
        )


def _schema(project: "Project", schema: dict[str, object]) -> Iterator[tuple["Location", str]]:
    """Validate refuses a table that the schema does not name, and one that it names in vain."""
    named, tables = _tables_of(schema), project.data.tables
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
                f" have.{_near(table, tables)}",
            )


def _tables_of(schema: dict[str, object]) -> dict[str, object]:
    tables = schema.get("tables")
    return tables if isinstance(tables, dict) else {}


def _key(place: "Location") -> str:
    return ".".join(map(str, place))


def _near(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def _endless_host(project: "Project") -> Iterator[tuple["Location", str]]:
    deployment = project.deployment
    if deployment.namespace and deployment.part_before:
        found = host_problem(
            project.project_name, deployment.namespace, part=deployment.part_before
        )
        if found:
            yield ("deployment", "namespace"), f"deployment.namespace: {found}"
