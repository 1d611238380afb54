"""From tables to a project: the guesses in order, then the files."""

import os
import posixpath
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import format_instant
from slipway.components.config.data import Window
from slipway.components.ingest.sources import public_uri
from slipway.components.support.errors import ProjectError
from slipway.local.guess.document import Document, Flow
from slipway.local.guess.fields import FieldGuess, Fields, guess_fields
from slipway.local.guess.gates import GateGuess, guess_gate, guess_window
from slipway.local.guess.guess import Answers, Guess, Notes
from slipway.local.guess.histories import History, guess_histories
from slipway.local.guess.labels import LabelGuess, find_label, guess_label
from slipway.local.guess.moments import Moments, guess_moments
from slipway.local.guess.relations import Join, guess_joins, guess_key, stem_of
from slipway.local.guess.splits import SplitGuess, guess_split
from slipway.local.guess.tables import facts
from slipway.local.guess.tables.amounts import warn_of_lost_numbers
from slipway.local.guess.tables.facts import TableFacts
from slipway.local.guess.tables.named import require_columns
from slipway.local.guess.trial import LEAK, Labels, Trial, cut, labels_of, try_baselines

if TYPE_CHECKING:
    import polars as pl

SCHEMA = "schemas/input.json"
EDITOR_SCHEMA = "schemas/project.schema.json"
_CPU_ROWS = 200_000
Settings = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """All that was guessed.

    Attributes:
        name: of the project.
        label: what is predicted. moments: its time. key: what names an example.
        split: how rows are parted. joins: the other tables.
        fields: features of a row. histories: of what came before.
        trial: what the baselines came to. gate: the gate's values, and the alerts'.
        warnings: what a person should look at before believing the model.
    """

    name: str
    tables: tuple[TableFacts, ...]
    label: LabelGuess
    moments: Moments
    key: Guess[tuple[str, ...]]
    split: SplitGuess
    joins: tuple[Join, ...]
    fields: Fields
    histories: tuple[History, ...]
    trial: Trial
    gate: GateGuess
    warnings: tuple[str, ...]


def make_draft(tables: list[TableFacts], answers: Answers) -> Draft:
    """Guesses a project.

    Args:
        tables: what the tables hold.
        answers: what a person said.

    Raises:
        Question: the tables do not tell something that is needed.
        ProjectError: an answer does not fit the tables.
    """
    notes = Notes()
    for table in tables:
        for warning in table.warnings:
            notes.warn(f"{table.name}: {warning}")
    own, column = find_label(tables, answers)
    require_columns("exclude", answers.exclude, tables)
    label = guess_label(own, column, answers)
    moments = guess_moments(own, column, answers)
    key = guess_key(own, column, answers, notes)
    joins = guess_joins(own, [table for table in tables if table is not own], column, notes)
    for guess in (label.kind, label.positive, moments):
        for warning in guess.warnings:
            notes.warn(warning)
    for name, why in moments.later.items():
        if name != moments.known.value:
            notes.warn(
                f"LEAK: {name} is known only after the prediction ({why}), so it is left out. What else"
                " is known only then? Leave it out with --exclude"
            )
    fields = guess_fields(label, key.value, moments, joins, answers)
    _warn_of_later_tables(joins, fields, notes)
    warn_of_lost_numbers(tables, {(field.table, field.column) for field in fields.found}, notes)
    labels = labels_of(label)
    split = guess_split(label, moments, labels.values)
    trial = _try(
        fields, labels, cut(labels, label, moments, split, key.value), moments, label, notes
    )
    histories = tuple(guess_histories(label, key.value, moments, joins, fields))
    if not fields.found and not histories:
        raise ProjectError(_nothing_left(label, key.value, moments, fields, notes))
    gate = guess_gate(trial, notes)
    gate.monitoring |= _window_of_monitoring(own, split, trial)
    return Draft(
        name=answers.name or facts.as_name(own.name, "project").replace("_", "-")[:40].strip("-"),
        tables=tuple(tables),
        label=label,
        moments=moments,
        key=key,
        split=split,
        joins=tuple(joins),
        fields=fields,
        histories=histories,
        trial=trial,
        gate=gate,
        warnings=tuple(notes.warnings),
    )


def _window_of_monitoring(
    own: TableFacts, split: SplitGuess, trial: Trial
) -> dict[str, Guess[object]]:
    if not split.window.value:
        # Without times the test rows are the requests of `slipway run`.
        return guess_window(trial.rows.get("test", 0), "the requests of slipway run have")
    start, end = split.window.value
    weeks = max((end - start) / timedelta(weeks=1), 1)
    return guess_window(own.rows / weeks, "a week has")


def _nothing_left(
    label: LabelGuess, key: tuple[str, ...], moments: Moments, fields: Fields, notes: Notes
) -> str:
    """What to say where no column becomes a feature: why each does not, and how it can."""
    why = {column: reason for table in fields.left_out.values() for column, reason in table.items()}
    why |= dict.fromkeys(key, "it names a row")
    why |= {name: "a time" for name in (moments.time.value, moments.known.value) if name}
    told = "; ".join(f"{column} ({reason})" for column, reason in why.items())
    others = f"The others: {told}." if told else "It has no other column."
    about = [warning for warning in notes.warnings if any(name in warning for name in why)]
    return " ".join(
        [
            f"{label.table.name} has no column to predict {label.column.source} from. {others}",
            *(f"{warning}." for warning in about),
            "Add a column with what is known before the label is, or another table that shares a key.",
        ]
    )


def _warn_of_later_tables(joins: list[Join], fields: Fields, notes: Notes) -> None:
    for join in joins:
        if join.single and join.time and not fields.of(join.table.name):
            notes.warn(
                f"LEAK: the rows of {join.table.name} come after the prediction ({join.time}), so it"
                " gives no features"
            )


def _try(
    fields: Fields,
    labels: Labels,
    parts: "pl.Series",
    moments: Moments,
    label: LabelGuess,
    notes: Notes,
) -> Trial:
    """The trial without the columns that give the label away."""
    trial = try_baselines(fields, labels, parts, moments, label)
    leaks = {name: value for name, value in trial.alone.items() if value >= LEAK}
    measure = {"binary": "AUC", "multiclass": "accuracy", "number": "R²"}[label.kind.value]
    for name, value in leaks.items():
        told = f"{measure} {value:.3f}"
        fields.leave_out(
            name, f"it alone tells the label, {told}: a leak, or the label by another name"
        )
        notes.warn(
            f"LEAK: {name} alone tells {label.column.source} ({told}), so it is left out. If it is known"
            " at the prediction, add it to the view and say why in gate.leak.acknowledged"
        )
    if leaks:
        trial = try_baselines(fields, labels, parts, moments, label)
    reached = trial.baseline["auc"].value if "auc" in trial.baseline else None
    if reached is not None and reached >= LEAK:
        notes.warn(
            f"too good to be true: a logistic regression has AUC {reached:.3f}, and the gate refuses a"
            f" model from {LEAK:g} on. Look for columns that are known only after {label.column.source}"
            " is; if it is right, say why in gate.leak.acknowledged"
        )
    explained = trial.baseline["r2"].value if "r2" in trial.baseline else None
    if explained is not None and explained >= LEAK:
        notes.warn(
            f"too good to be true: a linear regression explains R² {explained:.3f} of"
            f" {label.column.source}, and the gate refuses a model that puts {LEAK:.0%} of all pairs of"
            " rows in the right order. Look for columns of which it is a sum or a part; if it is right,"
            " say why in gate.leak.acknowledged"
        )
    return trial


def project_text(draft: Draft, folder: Path) -> str:
    """The project file of a draft.

    Args:
        draft: what was guessed.
        folder: where the file is going to be.
    """
    places = ", ".join(public_uri(t.place).rsplit("/", 1)[-1] for t in draft.tables)
    document = Document(
        [
            f"# yaml-language-server: $schema={EDITOR_SCHEMA}",
            f"# What `slipway init` made of {places}. Above each value stands why; change what you know",
            '# better, then `slipway run`. The docs\' page "Your own data" goes through it.',
        ]
    )
    document.set("project_name", draft.name, "Names the model, the endpoint and the runs.")
    _data(document, draft, folder)
    document.set("schema", SCHEMA, "What each column must hold; rows that do not are set apart.")
    _features(document, draft)
    _training(document, draft)
    for name, guess in draft.gate.gate.items():
        document.set(f"gate.{name}", guess.value, guess.comment)
    for name, guess in draft.gate.monitoring.items():
        document.set(f"monitoring.{name}", guess.value, guess.comment)
    return document.text()


def _data(document: Document, draft: Draft, folder: Path) -> None:
    root, paths = _places(draft.tables, folder)
    document.set(
        "data.root",
        root,
        "Where the paths below start, seen from this folder; s3://bucket/path works too.",
    )
    if window := draft.split.window.value:
        start, end = map(format_instant, window)
        document.set("data.window", Flow(start=start, end=end), draft.split.window.comment)
    for table, path in zip(draft.tables, paths, strict=True):
        settings = Flow(path=path, format=table.form)
        if table is draft.label.table and draft.moments.time.value:
            settings["time"] = draft.moments.time.value
        if table.rename:
            settings["rename"] = dict(table.rename)
        told = f"{table.rows:,} rows."
        if table.dialect:
            settings["csv"] = table.dialect.model_dump(exclude_defaults=True)
            told += " How its csv is written was seen in its first rows: `csv` says what was taken."
        if table.types:
            settings["types"] = table.our_types
            told += " `types` are numbers that the file does not write in one way."
        document.set(f"data.tables.{table.name}", settings, told)


def _places(tables: tuple[TableFacts, ...], folder: Path) -> tuple[str, list[str]]:
    """The root of all tables, and each one's path below it."""
    places = [table.place for table in tables]
    if any("://" in place for place in places):
        stores = {place.partition("://")[0] for place in places}
        rests = [place.partition("://")[2] for place in places]
        if len(stores) > 1 or not all(rests) or len({r.split("/")[0] for r in rests}) > 1:
            return "", places
        base = posixpath.commonpath([posixpath.dirname(rest) for rest in rests])
        below = [posixpath.relpath(rest, base) for rest in rests]
        return f"{stores.pop()}://{base}", below
    absolute = [str(Path(place).resolve()) for place in places]
    base = os.path.commonpath([str(Path(place).parent) for place in absolute])
    return os.path.relpath(base, folder.resolve()), [os.path.relpath(p, base) for p in absolute]


def entity_of(column: str) -> str:
    """What a key names: customer, for customer_id."""
    for ending in ("_id", "_key", "_no", "_code", "_number", "id"):
        if column.lower().endswith(ending) and len(column) > len(ending):
            return column[: -len(ending)].rstrip("_").lower()
    return column.lower()


def _features(document: Document, draft: Draft) -> None:
    label, key, time = draft.label, draft.key, draft.moments.time
    entities = _entities(draft)
    if entities:
        document.set(
            "features.entities", Flow({name: column for column, name in entities.items()}),
            "What features are looked up by: a name, and the column with its key.",
        )  # fmt: skip
    document.set("features.examples.table", label.table.name, "One row is one thing to predict.")
    if key.value:
        value = key.value[0] if len(key.value) == 1 else list(key.value)
        document.set("features.examples.key", value, key.comment)
    else:
        document.comment("features.examples", f"No `key`: {key.comment}")
    if time.value:
        document.set("features.examples.time", time.value, time.comment)
        document.comment(
            "features.examples.time",
            "If you predict some time before it, say how long with `lead: 2h`: nothing later is used.",
        )
    else:
        document.comment("features.examples", f"No `time`: {time.comment}")
    _label(document, draft)
    split = Flow(draft.split.split.value)
    document.set("features.split", split, draft.split.split.comment)
    document.set("features.views", _views(document, draft, entities))


def _label(document: Document, draft: Draft) -> None:
    label, known = draft.label, draft.moments.known
    document.set("features.label.column", label.column.name, "As --label says.")
    document.set("features.label.kind", label.kind.value, label.kind.comment)
    for name, guess in (("positive", label.positive), ("unknown", label.unknown)):
        if guess.value is not None:
            value = guess.value[0] if len(guess.value) == 1 else list(guess.value)
            document.set(f"features.label.{name}", value, guess.comment)
        elif guess.reason:
            document.comment("features.label.kind", guess.comment)
    if label.above:
        above: float | str = label.above
        try:
            above = float(label.above)
        except ValueError:
            above = label.above
        document.set("features.label.above", above, "As --above says.")
    if known.value:
        document.set("features.label.known", known.value, known.comment)


def _entities(draft: Draft) -> dict[str, str]:
    """Column with a key to the entity's name: of the examples, the joined tables, the histories."""
    columns = [*draft.key.value[:1]] if len(draft.key.value) == 1 else []
    columns += [join.own for join in draft.joins] + [h.own for h in draft.histories]
    entities: dict[str, str] = {}
    for column in dict.fromkeys(columns):
        name = stem_of(draft.label.table) if column in draft.key.value else entity_of(column)
        while name in entities.values():
            name = f"{name}_{column}"
        entities[column] = name
    return entities


def _views(document: Document, draft: Draft, entities: dict[str, str]) -> list[Settings]:
    views: list[Settings] = []
    own, time = draft.label.table.name, draft.moments.time.value

    def add(view: Settings, *comments: str) -> None:
        document.comment(f"features.views.{len(views)}", *comments)
        views.append(view)

    if fields := draft.fields.of(own):
        view: Settings = {"name": stem_of(draft.label.table)}
        if len(draft.key.value) == 1:
            view["entity"] = entities[draft.key.value[0]]
        view |= {"table": own, **({"time": time} if time else {}), "fields": _listed(fields)}
        add(
            view,
            f"The columns of {own} as they are. Take out each that is not known at the prediction.",
            *_kept(fields),
            *_left_out(draft.fields, own),
        )
    for join in draft.joins:
        if join.single and (fields := draft.fields.of(join.table.name)):
            view = {"name": join.table.name, "entity": entities[join.own], "table": join.table.name}
            if join.other != join.own:
                view["source_key"] = join.other
            if join.time and time:
                view["time"] = join.time
            view["fields"] = _listed(fields)
            since = (
                f"A row counts from its {join.time} on."
                if "time" in view
                else "It has no time, so its values count as known always: if they change, give it one."
            )
            left_out = _left_out(draft.fields, join.table.name)
            add(view, f"{join.reason}. {since}", *_kept(fields), *left_out)
    for history in draft.histories:
        add(_history(history, entities), f"Earlier rows only: {history.reason}.")
    return views


def _history(history: History, entities: dict[str, str]) -> Settings:
    view: Settings = {
        "name": history.name, "entity": entities[history.own], "table": history.table,
    }  # fmt: skip
    if history.other != history.own:
        view["source_key"] = history.other
    view["time"] = history.time
    if history.known:
        view["known"] = history.known
    view["aggregates"] = {name: Flow(settings) for name, settings in history.aggregates.items()}
    return view


def _listed(fields: list[FieldGuess]) -> Settings:
    return {
        field.name: Flow(column=field.column, kind=field.kind) if field.declared else field.column
        for field in fields
    }


def _kept(fields: list[FieldGuess]) -> list[str]:
    """What to say of ids that are features all the same."""
    return [f"{field.column} is {field.reason}." for field in fields if field.reason]


def _left_out(fields: Fields, table: str) -> list[str]:
    reasons = fields.left_out.get(table, {})
    if not reasons:
        return []
    return ["Left out: " + "; ".join(f"{name} ({why})" for name, why in reasons.items()) + "."]


def _training(document: Document, draft: Draft) -> None:
    if draft.trial.rows["train"] <= _CPU_ROWS:
        document.set(
            "training.accelerator", Flow(count=0),
            f"{draft.trial.rows['train']:,} rows train in a minute or so without a GPU. Change: count 1.",
        )  # fmt: skip
    else:
        document.set(
            "training.allow_cpu", True,
            "On a cluster a GPU is asked for; on this machine the CPU does where there is none.",
        )  # fmt: skip


def schema_entries(draft: Draft) -> dict[str, Any]:
    """The schema's entry of each table, as ingest is going to make it."""
    label, time, window = draft.label, draft.moments.time.value, draft.split.window.value
    entries = {}
    for table in draft.tables:
        entry = table.entry
        if table is label.table:
            if time and window and not _is_instant(table, time):
                entry = facts.entry_of(table, time, Window(start=window[0], end=window[1]))
            entry = _with_missing(entry, label.column.name)
        entries[table.name] = entry
    return entries


def _is_instant(table: TableFacts, column: str) -> bool:
    return getattr(table.columns[column].dtype, "time_zone", None) is not None


def _with_missing(entry: dict[str, Any], column: str) -> dict[str, object]:
    """The entry with a column that may be empty: the label of what is still to be predicted."""
    said = dict(entry["properties"][column])
    said.pop("x-maxNullFraction", None)
    if isinstance(said.get("type"), str):
        said["type"] = [said["type"], "null"]
    return {**entry, "properties": {**entry["properties"], column: said}}
