"""What a model must beat to be worth serving: a constant, and a linear model fitted here.

Also the search for a feature that gives the label away on its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.rows.scoring import read_part_batches
from slipway.components.contracts.splits import LABEL, Kind, Part, Splits, part_file
from slipway.components.evaluate.measures.measure import Scorer
from slipway.components.evaluate.measures.weights import sample_weights
from slipway.components.metrics.kinds.base import LabelType

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FIT_ROWS = 50_000
LEAK_ROWS = 20_000
_CATEGORIES = 30
_BINS = 129


def sample_part(
    folder: Path, splits: Splits, part: Part, rows: int, columns: list[str]
) -> "pa.Table":
    """At most `rows` rows of a part, evenly spaced in its order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = max(splits.rows.get(part, 0), 1)
    step = max(total / rows, 1.0)
    start, kept = 0, []
    for table in read_part_batches(folder, part, columns):
        stop = start + table.num_rows
        picks = (np.arange(np.ceil(start / step), np.ceil(stop / step)) * step).astype(np.int64)
        picks = picks[(picks >= start) & (picks < stop)]
        kept.append(table.take(pa.array(picks - start)))
        start = stop
    if not kept:
        return pq.read_schema(part_file(folder, part)).empty_table().select(columns)
    return pa.concat_tables(kept).slice(0, rows)


def fit_baseline(
    folder: Path, splits: Splits, label: LabelType, weigh_by: str | None = None
) -> Scorer:
    """Fits the linear model to beat on at most 50,000 rows of the training part.

    Classes get a logistic regression, a number a ridge regression. Numbers are standardised (missing is
    the mean, with a flag), categories one-hot (the 30 most common), times become the hour of the day and
    the day of the week. `weigh_by` names the column of weights that it is measured with, so that it
    learns with them too.
    """
    names = [feature.name for feature in splits.features]
    more = [LABEL] if weigh_by is None or weigh_by in names else [weigh_by, LABEL]
    train = sample_part(folder, splits, "train", FIT_ROWS, [*names, *more])
    labels = train[LABEL].to_numpy()
    known = label.is_usable(labels)
    if not known.all():
        train, labels = train.filter(known), labels[known]
    weights = None if weigh_by is None else sample_weights(train, weigh_by, "train")
    answer = _FITS[label.kind](design_matrix(train, splits), labels, label, weights)
    return Scorer(
        name=label.baselines[1],
        score=lambda table: answer(design_matrix(table, splits)),
        label=label,
        columns=tuple(names),
    )


Answer = Callable[["np.ndarray"], "np.ndarray"]
"""Answers to rows of a design: float32 [N] or [N, W], as the kind of label has them."""


def _fit_binary(
    design: "np.ndarray", labels: "np.ndarray", label: LabelType, weights: "np.ndarray | None"
) -> Answer:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=200, tol=1e-3)
    model.fit(design, labels.astype(np.int8), weights)
    return lambda rows: model.predict_proba(rows)[:, 1].astype(np.float32)


def _fit_multiclass(
    design: "np.ndarray", labels: "np.ndarray", label: LabelType, weights: "np.ndarray | None"
) -> Answer:
    """A multinomial one; a class that the training part lacks has the probability 0."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=200, tol=1e-3)
    model.fit(design, labels.astype(np.int32), weights)

    def answer(rows: "np.ndarray") -> "np.ndarray":
        answers = np.zeros((len(rows), len(label.class_names)), np.float32)
        answers[:, model.classes_] = model.predict_proba(rows)
        return answers

    return answer


def _fit_number(
    design: "np.ndarray", labels: "np.ndarray", label: LabelType, weights: "np.ndarray | None"
) -> Answer:
    """Its interval is as wide as its own residuals ask for."""
    import numpy as np
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1.0)
    model.fit(design.astype(np.float64), labels, weights)
    level = label.settings["level"]
    half = float(np.quantile(np.abs(labels - model.predict(design)), level)) if len(labels) else 0.0

    def answer(rows: "np.ndarray") -> "np.ndarray":
        values = model.predict(rows.astype(np.float64))
        return np.stack([values, values - half, values + half], axis=1).astype(np.float32)

    return answer


_Fit = Callable[["np.ndarray", "np.ndarray", LabelType, "np.ndarray | None"], Answer]
_FITS: dict[LabelKind, _Fit] = {
    "binary": _fit_binary,
    "multiclass": _fit_multiclass,
    "number": _fit_number,
}


def design_matrix(table: "pa.Table", splits: Splits) -> "np.ndarray":
    """Rows as a float32 matrix, by the statistics of the training part only."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: list[np.ndarray] = []
    for feature in splits.features:
        known = splits.statistics[feature.name]
        values = table[feature.name]
        if feature.kind == "numeric":
            mean, spread = known.get("mean") or 0.0, known.get("std") or 1.0
            number = values.cast(pa.float64()).fill_null(float("nan")).to_numpy()
            columns += [np.nan_to_num((number - mean) / spread), np.isnan(number)]
        elif feature.kind == "categorical":
            counts = known["values"]
            common = sorted(counts, key=lambda value: (-counts[value], value))[:_CATEGORIES]
            code = pc.index_in(values.cast(pa.string()), pa.array(common, pa.string()))
            found = code.fill_null(-1).to_numpy()
            columns += [found == i for i in range(len(common))]
        elif feature.kind == "boolean":
            columns += [values.fill_null(False).to_numpy(), values.is_null().to_numpy()]
        else:
            hour = pc.hour(values).fill_null(0).to_numpy() * (2 * np.pi / 24)
            day = pc.day_of_week(values).fill_null(0).to_numpy()
            columns += [np.sin(hour), np.cos(hour), np.sin(2 * hour), np.cos(2 * hour)]
            columns += [day == i for i in range(7)]
    return np.column_stack(columns).astype(np.float32)


def measure_features(folder: Path, splits: Splits, label: LabelType) -> dict[str, float]:
    """How well each feature alone tells the label, in either direction: from 0.5 to 1.

    That is the AUC (of several classes the mean of each against the rest) or a number's concordance, on
    at most 20,000 test rows. A category stands for the labels that it has in a training sample. So do
    bins of a number where there are more than two classes, since its order tells the first and the last
    of them only. That a value is missing counts too: a null may give the label away.
    """
    import numpy as np

    names = [feature.name for feature in splits.features]
    test = _labelled_sample(folder, splits, "test", label)
    train = _labelled_sample(folder, splits, "train", label)
    if len(np.unique(test[1])) < 2:
        return {}
    kinds = {feature.name: feature.kind for feature in splits.features}
    result = {}
    for name in names:
        if kinds[name] == "categorical":
            told = _tell_groups(label, test, train, *_category_groups(test[0], train[0], name))
        else:
            told = _tell_numbers(label, test, train, name, kinds[name])
        result[name] = float(told.mean())
    return result


def explain_features(folder: Path, splits: Splits, label: LabelType) -> dict[str, float]:
    """What each feature alone explains of the label: the accuracy of several classes, the R² of a number.

    The answer to a row is what its category, or its number's bin, stands for in a training sample; of a
    number also a line, where that is nearer. What is explained less, the test part or the training
    sample itself, counts: a few test rows may be told by chance, and one's own rows by heart. Unlike the
    order of `measure_features`, which tells much of an honest measurement, this is near 1 only
    where nothing is left to learn.
    """
    parts = [_labelled_sample(folder, splits, part, label) for part in ("test", "train")]
    test, train = parts
    result = {}
    for feature in splits.features:
        if feature.kind == "categorical":
            *groups, count = _category_groups(test[0], train[0], feature.name)
        else:
            *groups, count = _number_groups(test[0], train[0], feature.name, feature.kind)
        scores = label.stand_for(train[1], groups[1], count)
        told = [
            _EXPLAINS[label.kind](labels, scores[group])
            for (_, labels), group in zip(parts, groups, strict=True)
        ]
        if label.kind == "number" and feature.kind != "categorical":
            told = list(map(max, told, _explain_by_line(parts, feature.name, feature.kind)))
        result[feature.name] = min(told)
    return result


def _explain_classes(labels: "np.ndarray", answers: "np.ndarray") -> float:
    return float((answers.argmax(axis=1) == labels).mean())


def _explain_number(labels: "np.ndarray", answers: "np.ndarray") -> float:
    spread = float(((labels - labels.mean()) ** 2).sum())
    away = float(((labels - answers.reshape(len(labels))) ** 2).sum())
    return 1 - away / spread if spread else 0.0


_EXPLAINS: dict[LabelKind, Callable[["np.ndarray", "np.ndarray"], float]] = {
    "multiclass": _explain_classes,
    "number": _explain_number,
}


def _explain_by_line(parts: "list[Sample]", name: str, kind: Kind) -> list[float]:
    """The R² of a line through the last of some samples in each; 0 where a value is missing."""
    import numpy as np

    numbers = [_numbers(table, name, kind) for table, _ in parts]
    if not all(np.isfinite(values).all() for values in numbers) or not np.ptp(numbers[-1]):
        return [0.0] * len(parts)
    line = np.polynomial.Polynomial.fit(numbers[-1], parts[-1][1], 1)
    return [
        _explain_number(labels, line(values))
        for (_, labels), values in zip(parts, numbers, strict=True)
    ]


Sample = tuple["pa.Table", "np.ndarray"]
"""Rows with usable labels, and those labels, [N]."""


def _labelled_sample(folder: Path, splits: Splits, part: Part, label: LabelType) -> Sample:
    names = [feature.name for feature in splits.features]
    table = sample_part(folder, splits, part, LEAK_ROWS, [*names, LABEL])
    labels = table[LABEL].to_numpy()
    known = label.is_usable(labels)
    return table.filter(known), labels[known]


def _tell_groups(
    label: LabelType,
    test: Sample,
    train: Sample,
    test_group: "np.ndarray",
    train_group: "np.ndarray",
    groups: int,
) -> "np.ndarray":
    """How well a group's labels in the training sample tell those of the test rows in it."""
    scores = label.stand_for(train[1], train_group, groups)
    return label.tells(test[1], scores[test_group])


def _category_groups(
    test: "pa.Table", train: "pa.Table", name: str
) -> "tuple[np.ndarray, np.ndarray, int]":
    """The place of each row's value among those of the training sample; the last: not there."""
    import pyarrow.compute as pc

    known = pc.unique(train[name])
    places = [
        pc.index_in(table[name].cast(known.type), known).fill_null(len(known)).to_numpy()
        for table in (test, train)
    ]
    return places[0], places[1], len(known) + 1


def _numbers(table: "pa.Table", name: str, kind: Kind) -> "np.ndarray":
    """A feature as float64 [N]; missing is NaN."""
    import numpy as np
    import pyarrow as pa

    values = table[name]
    if kind == "time":
        values = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
    numbers: np.ndarray = values.cast(pa.float64()).fill_null(np.nan).to_numpy()
    return numbers


def _number_groups(
    test: "pa.Table", train: "pa.Table", name: str, kind: Kind
) -> "tuple[np.ndarray, np.ndarray, int]":
    """The bin of each row's number, with as many rows of the training sample each; missing is its own."""
    import numpy as np

    scores, seen = _numbers(test, name, kind), _numbers(train, name, kind)
    inside = np.nan_to_num(seen[~np.isnan(seen)])
    edges = np.unique(np.quantile(inside, np.linspace(0, 1, _BINS))) if len(inside) else inside
    groups = [
        np.where(np.isnan(of), len(edges) + 1, np.searchsorted(edges, np.nan_to_num(of), "right"))
        for of in (scores, seen)
    ]
    return groups[0], groups[1], len(edges) + 2


def _tell_numbers(
    label: LabelType, test: Sample, train: Sample, name: str, kind: Kind
) -> "np.ndarray":
    """By the order of the values, by their being missing, and of several classes by their bins."""
    import numpy as np

    scores = _numbers(test[0], name, kind)
    missing = np.isnan(scores)
    # Infinity is a value like another here: the order is all that counts.
    order = np.nan_to_num(scores[~missing])
    told = [label.tells(test[1][~missing], order), label.tells(test[1], missing)]
    if len(label.class_names) > 2:
        told.append(
            _tell_groups(label, test, train, *_number_groups(test[0], train[0], name, kind))
        )
    return np.max(told, axis=0)
