"""The reference kept with a model version at release: what a window is compared with.

Register writes it as artifacts of the version's run (`contracts.reference`) and names it in the version's
tag `slipway.reference_uri`.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.monitoring.reference import (
    FILE,
    ROWS,
    ReferenceSummary,
    answer_column,
)
from slipway.components.contracts.release import Tag
from slipway.components.contracts.splits import LABEL, TIME, Feature, Kind, Part
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.monitor.measures.expected_error import ErrorByWidth, fit_errors
from slipway.components.monitor.measures.sketch import (
    Counts,
    Floats,
    Sketch,
    add_column,
    bin_edges,
    hours_since_1970,
    new_sketch,
    numbers,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking import connect

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A part of the reference, sketched.

    Attributes:
        model_version: the version that it belongs to.
        features: the model's inputs. table: the sampled rows.
        edges: bin edges of each numeric and time feature.
        sketches: feature to its sketch. prediction: the sketch of what the model predicted there.
        release: metric to its value on the test part when the model was released.
        label: what the model's answers mean.
        thresholds: metric to the gate's bound on it; empty where the version was registered before they
            were kept.
        errors: what an interval's width tells of the error, of a number; None elsewhere.
        fairness: as in `ReferenceSummary`.
    """

    model_version: str
    features: tuple[Feature, ...]
    table: "pa.Table"
    edges: dict[str, Floats]
    sketches: dict[str, Sketch]
    prediction: Sketch
    release: dict[str, float]
    label: LabelType
    errors: ErrorByWidth | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    fairness: tuple[dict[str, Any], ...] = ()

    @property
    def kinds(self) -> dict[str, Kind]:
        """Feature to its kind, in the model's order."""
        return {feature.name: feature.kind for feature in self.features}


def fetch_reference(model: str, model_version: str, part: Part) -> Reference:
    """Fetches the reference of the version that the log names.

    Args:
        model: the registered model.
        model_version: as in the inference log: a version of the registry, or the beginning of the
            model's hash, which the predictor uses where it was given no version.
        part: "train" or "test".

    Raises:
        SlipwayError: the registry has no such version, or it was registered without a reference.
    """
    server = connect()
    versions = server.list_versions(model)
    found = [v for v in versions if v.version == model_version] or [
        v
        for v in versions
        if len(model_version) >= 8 and v.tags.get(Tag.MODEL_HASH, "").startswith(model_version)
    ]
    if not found:
        known = ", ".join(v.version for v in versions) or "none"
        raise SlipwayError(
            f"The inference log names version {model_version} of {model}, which the registry does"
            f" not have (it has: {known}). Check MLFLOW_TRACKING_URI and INFERENCE_LOG_URI: they"
            " must belong to the same installation."
        )
    version = found[0]
    uri = version.tags.get(Tag.REFERENCE_URI)
    if not uri:
        raise SlipwayError(
            f"Version {version.version} of {model} was registered without a reference (it has no"
            f" tag {Tag.REFERENCE_URI}), so its drift cannot be measured. Register it with the"
            " register stage."
        )
    with tempfile.TemporaryDirectory() as scratch:
        what = f"The reference of {model} version {version.version}"
        folder = server.fetch(uri, Path(scratch), what=what)
        return read_reference(folder, version.version, part)


def read_reference(folder: Path, model_version: str, part: Part) -> Reference:
    """Reads and sketches one part of a reference folder.

    Raises:
        SlipwayError: it is damaged, of another version, or has no rows of the part.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    summary = ReferenceSummary.read(folder / FILE)
    try:
        table = pq.ParquetFile(folder / ROWS).read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SlipwayError(f"{folder / ROWS} cannot be read: {error}.") from error
    label = label_type(
        summary.label_kind,
        threshold=summary.threshold,
        classes=summary.classes,
        level=summary.level,
        costs=summary.costs,
        set_threshold=summary.set_threshold,
    )
    _require_columns(table, summary.features, label, model_version)
    errors = _errors_by_width(table, label)
    table = table.filter(pc.equal(table["part"], part))
    if not table.num_rows:
        raise SlipwayError(
            f"The reference of version {model_version} has no rows of the part {part}: set"
            " monitoring.drift.reference to the other."
        )
    hours = hours_since_1970(table[TIME]) if TIME in table.column_names else None
    edges, sketches = _sketch(table, summary.features, hours)
    name, kind = label.watched
    predicted = table[answer_column(label.kind, name)]
    prediction_edges = bin_edges(numbers(predicted, kind)) if kind == "numeric" else None
    prediction = new_sketch(kind, prediction_edges)
    add_column(prediction, predicted, kind, hours)
    release = {name: value for name, value in summary.release.items() if value is not None}
    return Reference(
        model_version=model_version,
        features=summary.features,
        table=table,
        edges=edges,
        sketches=sketches,
        prediction=prediction,
        release=release,
        label=label,
        errors=errors,
        thresholds=summary.thresholds,
        fairness=tuple(summary.fairness),
    )


def _require_columns(
    table: "pa.Table", features: Iterable[Feature], label: LabelType, model_version: str
) -> None:
    answers = [answer_column(label.kind, name) for name, _ in label.columns()]
    wanted = ("part", *answers, *(feature.name for feature in features))
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise SlipwayError(
            f"The reference of version {model_version} lacks the columns {', '.join(missing)}."
        )


def _sketch(
    table: "pa.Table", features: Iterable[Feature], hours: Counts | None
) -> tuple[dict[str, Floats], dict[str, Sketch]]:
    """Bin edges and sketches by feature."""
    edges: dict[str, Floats] = {}
    sketches: dict[str, Sketch] = {}
    for feature in features:
        column = table[feature.name]
        if feature.kind in ("numeric", "time"):
            edges[feature.name] = bin_edges(numbers(column, feature.kind))
        sketches[feature.name] = new_sketch(feature.kind, edges.get(feature.name))
        add_column(sketches[feature.name], column, feature.kind, hours)
    return edges, sketches


def _errors_by_width(table: "pa.Table", label: LabelType) -> ErrorByWidth | None:
    """What the test part, which the model was not fitted on, says of errors and widths."""
    import pyarrow.compute as pc

    if label.kind != "number":
        return None
    rows = table.filter(pc.and_(pc.equal(table["part"], "test"), pc.is_valid(table[LABEL])))
    names = {answer_column(label.kind, name): name for name, _ in label.columns()}
    answers = label.from_columns(rows.select(list(names)).rename_columns(list(names.values())))
    return fit_errors(rows[LABEL].to_numpy(), answers)
