"""What does not fit the label: settings of another kind, classes that it lacks, types of columns."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from slipway.components.config.checks.told_types import (
    key_of,
    near,
    properties,
    type_in_schema,
    type_of_column,
)
from slipway.components.config.gate import EVERY_CLASS
from slipway.components.config.kinds import LabelKind, metrics_of
from slipway.components.config.monitoring import AlertName

if TYPE_CHECKING:
    from slipway.components.config.checks.messages import Location
    from slipway.components.config.model import Project


_CLASSES: frozenset[LabelKind] = frozenset({"binary", "multiclass"})
_OF_ALERT: dict[AlertName, tuple[str | None, frozenset[LabelKind]]] = {
    "LOW_ACCURACY": ("accuracy", _CLASSES),
    "ACCURACY_DROP": ("accuracy_drop", _CLASSES),
    "COVERAGE": ("coverage", frozenset({"number"})),
    "ERROR_RISE": ("error_rise", frozenset({"number"})),
    "NEW_CLASS": (None, frozenset({"multiclass"})),
}
"""Alerts that only some kinds of label can raise: the setting of each, and the kinds."""


def of_label(project: "Project", schema: dict[str, object]) -> Iterator[tuple["Location", str]]:
    """See `consistency.inconsistencies`."""
    yield from _column_of_label(project, schema)
    yield from _rules_of_label(project)
    yield from _metrics_of_label(project)
    yield from _training_of_label(project)
    yield from _alerts_of_label(project)
    yield from _sample_weight(project, schema)
    yield from _gate_weights(project, schema)


def _column_of_label(
    project: "Project", schema: dict[str, object]
) -> Iterator[tuple["Location", str]]:
    """A column whose type, by the schema, no label of the kind can be read from."""
    label, table = project.features.label, project.features.examples.table
    found = type_in_schema(properties(schema, table).get(label.column))
    remedy = ""
    if found == "time":
        remedy = (
            "no label is made of times: give the source a column with the number, the duration or the"
            " class that is meant"
        )
    elif label.kind == "number" and found in ("text", "boolean"):
        remedy = "`kind: number` predicts numbers: write `kind: multiclass` or `binary`" + (
            ", or let the source and the schema have numbers" if found == "text" else ""
        )
    elif label.kind == "binary" and found in ("text", "boolean") and label.above is not None:
        remedy = "`above` compares numbers: write `positive`, the value that is positive"
    elif label.kind == "binary" and found == "text" and label.positive is None:
        remedy = "write `positive`, the value (or values) that are positive, or `kind: multiclass`"
    if remedy:
        yield (
            ("features", "label", "column"),
            f"features.label.column: by the schema, {label.column} of table {table} is a {found}:"
            f" {remedy}.",
        )


def _alerts_of_label(project: "Project") -> Iterator[tuple["Location", str]]:
    """An alert that no label of this kind can raise would be taken for a guard."""
    kind, monitoring = project.features.label.kind, project.monitoring
    sets = kind == "multiclass" and project.training.sets is not None
    retraining = monitoring.retraining
    reasons = retraining.reasons if "reasons" in retraining.model_fields_set else []
    for name, (setting, kinds) in _OF_ALERT.items():
        if kind in kinds or (name == "COVERAGE" and sets):
            continue
        places: list[Location] = []
        if setting in monitoring.alerts.model_fields_set:
            places.append(("monitoring", "alerts", str(setting)))
        if name in monitoring.rules:
            places.append(("monitoring", "rules", name))
        if name in reasons:
            places.append(("monitoring", "retraining", "reasons"))
        for place in places:
            yield (
                place,
                f"{key_of(place)}: features.label.kind is {kind}"
                + (" without training.sets" if name == "COVERAGE" and kind == "multiclass" else "")
                + f", which never raises {name}: leave it out.",
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
                f"gate.fairness: the label has no class {rule.positive}.{near(rule.positive, names)}",
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
                    f"{key_of((*place, metric))}: features.label.kind is {kind}, which is measured by"
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
    if kind == "multiclass" and isinstance(training.class_weights, dict):
        named = project.features.label.classes or ()
        for name in training.class_weights:
            if named and name not in named and name != project.features.label.merge_rare:
                yield (
                    ("training", "class_weights", name),
                    f"training.class_weights: features.label.classes has no {name}.{near(name, named)}",
                )


def _sample_weight(
    project: "Project", schema: dict[str, object]
) -> Iterator[tuple["Location", str]]:
    weight, features = project.training.sample_weight, project.features
    named = [name for view in features.views for name in view.feature_names]
    named += features.examples.beside
    if weight is not None and weight not in named:
        hint = " Name it there: it then weighs the rows and is no input of the model."
        yield (
            ("training", "sample_weight"),
            f"training.sample_weight: '{weight}' is no feature and no column of features.examples.beside."
            + (near(weight, named) or hint),
        )
    elif weight is not None:
        yield from _weighs_by_no_number(("training", "sample_weight"), weight, project, schema)


def _gate_weights(
    project: "Project", schema: dict[str, object]
) -> Iterator[tuple["Location", str]]:
    """What weighs the test rows is a number that the test table has."""
    weights, features = project.gate.weights, project.features
    if weights is None:
        return
    beside = features.examples.beside
    columns = {*features.feature_names, *features.expressions, *beside} - features.hidden
    place: Location = ("gate", "weights")
    if weights not in columns:
        hint = near(weights, columns) or " Name it in features.examples.beside."
        yield (
            place,
            f"gate.weights: '{weights}' is no feature and no column of features.examples.beside.{hint}",
        )
    yield from _weighs_by_no_number(place, weights, project, schema)


def _weighs_by_no_number(
    place: "Location", column: str, project: "Project", schema: dict[str, object]
) -> Iterator[tuple["Location", str]]:
    found, table = type_of_column(project.features, schema, column)
    if found not in (None, "number"):
        yield (
            place,
            f"{key_of(place)}: by the schema, {column} of table {table} is a {found}; rows are weighed by"
            " a number.",
        )
