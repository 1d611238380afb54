"""What a model must beat to be worth serving: a constant, and a logistic regression.

Also the search for a feature that gives the label away on its own.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.scoring import read_part_batches
from slipway.components.contracts.splits import LABEL, Part, Splits, part_file
from slipway.components.evaluate.measure import Scorer
from slipway.components.metrics.binary import auc
from slipway.components.metrics.kinds.binary import BinaryLabel

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LOGISTIC = "logistic regression"
MAJORITY = "majority class"
FIT_ROWS = 50_000
LEAK_ROWS = 20_000
_CATEGORIES = 30


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


def fit_logistic(folder: Path, splits: Splits) -> Scorer:
    """Fits a logistic regression on at most 50,000 rows of the training part.

    Numbers are standardised (missing is the mean, with a flag), categories one-hot (the 30 most
    common), times become the hour of the day and the day of the week.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    names = [feature.name for feature in splits.features]
    train = sample_part(folder, splits, "train", FIT_ROWS, [*names, LABEL])
    model = LogisticRegression(max_iter=200, tol=1e-3)
    model.fit(design_matrix(train, splits), train[LABEL].to_numpy().astype(np.int8))

    def score(table: "pa.Table") -> "np.ndarray":
        return model.predict_proba(design_matrix(table, splits))[:, 1].astype(np.float32)

    return Scorer(
        name=LOGISTIC, score=score, label=BinaryLabel(threshold=0.5), columns=tuple(names)
    )


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


def feature_aucs(folder: Path, splits: Splits) -> dict[str, float]:
    """How well each feature alone tells the label apart, in either direction: AUC from 0.5 to 1.

    On at most 20,000 test rows. A category stands for its share of positives in a training sample;
    that a value is missing counts too, since a null may give the label away.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [feature.name for feature in splits.features]
    test = sample_part(folder, splits, "test", LEAK_ROWS, [*names, LABEL])
    train = sample_part(folder, splits, "train", LEAK_ROWS, [*names, LABEL])
    test = test.filter(pc.is_in(test[LABEL], pa.array([0, 1], test[LABEL].type)))
    label = test[LABEL].to_numpy()
    if len(np.unique(label)) < 2:
        return {}

    def telling(score: "np.ndarray", of: "np.ndarray") -> float:
        value = float(np.nan_to_num(auc(of, score), nan=0.5))
        return max(value, 1 - value)

    result = {}
    for feature in splits.features:
        if feature.kind == "categorical":
            rates = (
                train.select([feature.name, LABEL])
                .group_by(feature.name)
                .aggregate([(LABEL, "mean")])
                .to_pylist()
            )
            share = {row[feature.name]: row[f"{LABEL}_mean"] for row in rates}
            score = np.array([share.get(v, 0.0) for v in test[feature.name].to_pylist()])
            result[feature.name] = telling(score, label)
            continue
        values = test[feature.name]
        if feature.kind == "time":
            values = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
        score = values.cast(pa.float64()).fill_null(np.nan).to_numpy()
        missing = np.isnan(score)
        # Infinity is a value like another here: the order is all that counts.
        order = np.nan_to_num(score[~missing])
        result[feature.name] = max(telling(order, label[~missing]), telling(missing, label))
    return result
