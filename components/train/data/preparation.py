"""From the split tables to a training that can start: signature, preprocessing, rows, network."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.rows.scoring import read_part_batches
from slipway.components.contracts.splits import Feature, Part, Splits
from slipway.components.support.errors import SlipwayError
from slipway.components.support.expressions.parse import names, parse
from slipway.components.train.data.source import Resident, RowSource, Streamed, choose_buffer
from slipway.components.train.data.tables import (
    RawArrays,
    TrainingRows,
    join_raw,
    make_rows,
    mapped_rows,
    raw_arrays,
    read_features,
    read_labels,
    read_weights,
    row_weights,
)
from slipway.components.train.heads.base import Head
from slipway.components.train.heads.choose import make_head
from slipway.components.train.model.choice import choose_network
from slipway.components.train.model.network import InputShape, numeric_bins
from slipway.components.train.model.preprocess import (
    WEEKDAYS,
    Preprocessor,
    encode,
    fit_preprocessor,
    missing_columns,
    refuse_infinite,
    vocabulary,
)
from slipway.components.train.process.checkpoint import fingerprint

_SAMPLE_ROWS = 500_000
"""Of a table that is streamed, so many rows are taken for the statistics."""

# Settings that do not change the trained weights: another value may go on from the same checkpoint.
_INDIFFERENT = {
    "checkpoints",
    "checkpoint_seconds",
    "threshold",
    "calibration",
    "allow_cpu",
    "nodes",
    "accelerator",
    "search",
    "pt2",
    "model",
    "trees",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What was read, whatever network it is for.

    Attributes:
        splits: what the tables hold.
        device: that the rows are on.
        trained_on: type of the device that trains.
        signature: the bundle to be, without its threshold.
        source: the training rows.
        validation: on the device.
        head: what is learned of the label.
        validation_raw: the validation part's feature values.
        scaled: preprocessed numeric columns of the training rows, or of a sample of them.
    """

    splits: Splits
    device: torch.device
    trained_on: str
    signature: Bundle
    preprocessor: Preprocessor
    source: RowSource
    validation: TrainingRows
    validation_raw: RawArrays
    head: Head
    scaled: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that training starts from.

    Attributes:
        config: the settings, without `auto`.
        parts: what was read.
        make_network: builds one member from the state of torch's global generator.
        identity: changes with everything that decides the weights.
    """

    config: TrainingConfig
    parts: Parts
    make_network: Callable[[], nn.Module]
    identity: str

    @property
    def trees_identity(self) -> str:
        """Changes with everything that decides the trees."""
        return fingerprint(network=self.identity, trees=self.config.trees.model_dump(mode="json"))

    @property
    def scaled_names(self) -> list[str]:
        """Features behind the columns of `TrainingRows.scaled`."""
        signature = self.parts.signature
        columns = [*signature.numeric, *signature.time]
        return [columns[i] for i in self.parts.preprocessor.varying_columns]


def prepare(
    folder: Path,
    splits: Splits,
    project: str,
    config: TrainingConfig,
    device: torch.device,
    trained_on: str = "",
) -> Prepared:
    """Reads the training and validation parts and takes the statistics of the first.

    Args:
        folder: the split tables.
        splits: what they hold.
        project: the bundle's name.
        config: the `training` section.
        device: to put the rows on.
        trained_on: type of the device that trains, where that is another machine's.

    Raises:
        SlipwayError: one class only, infinite values, bad weights, or no feature to learn from.
    """
    signature = _signature(folder, splits, project, config)
    labels = read_labels(folder, "train")
    head = make_head(splits, labels, config)
    head.check(labels, "train")
    buffer = choose_buffer(config.buffer_rows, len(labels), _row_bytes(splits.features), device)
    resolved = config.resolve(len(labels), costs=bool(splits.costs))
    config = resolved.model_copy(update={"buffer_rows": buffer})
    weights = _read_weights(folder, "train", labels, head, config)
    encoded = head.encode(labels)
    if buffer:
        preprocessor, rows, scaled = _spool(folder, signature, encoded, weights)
        source: RowSource = Streamed(rows=rows, buffer_rows=buffer, device=device)
    else:
        raw = raw_arrays(signature, read_features(folder, "train", signature))
        refuse_infinite(raw, signature.numeric)
        preprocessor = fit_preprocessor(raw, missing_columns(raw))
        rows = make_rows(preprocessor, raw, encoded, weights)
        scaled = rows.scaled
        source = Resident(rows=rows.to(device))
    validation_raw, validation = _validation(folder, signature, preprocessor, head, config)
    parts = Parts(
        splits=splits,
        device=device,
        trained_on=trained_on or device.type,
        signature=signature,
        preprocessor=preprocessor,
        source=source,
        validation=validation.to(device),
        validation_raw=validation_raw,
        head=head,
        scaled=scaled,
    )
    return assemble(parts, config)


def _validation(
    folder: Path, signature: Bundle, preprocessor: Preprocessor, head: Head, config: TrainingConfig
) -> tuple[RawArrays, TrainingRows]:
    """The validation part: its feature values, and its rows as the network takes them."""
    labels = read_labels(folder, "validation")
    head.check(labels, "validation")
    raw = raw_arrays(signature, read_features(folder, "validation", signature))
    weights = _read_weights(folder, "validation", labels, head, config)
    return raw, make_rows(preprocessor, raw, head.encode(labels), weights)


def _read_weights(
    folder: Path, part: Part, labels: np.ndarray, head: Head, config: TrainingConfig
) -> np.ndarray:
    """The weight of each row of a part; rows that weigh nothing are no labels to learn from."""
    sample = read_weights(folder, part, config.sample_weight)
    if sample is not None:
        head.check(labels[sample > 0], part, f"rows that weigh something ({config.sample_weight})")
    return row_weights(labels, head, config, sample)


def assemble(parts: Parts, config: TrainingConfig) -> Prepared:
    """Makes the network for what was read; no `auto` may be left in the settings.

    Raises:
        SlipwayError: there is no feature to learn from, or a model of one's own does not fit.
    """
    splits, signature, preprocessor = parts.splits, parts.signature, parts.preprocessor
    shape = InputShape(
        bins=numeric_bins(parts.scaled, config.network.bins, int(config.network.distinct)),
        plain=preprocessor.plain_width,
        cardinalities=(
            *(len(signature.vocabularies[name]) + 1 for name in signature.categorical),
            *[WEEKDAYS] * len(signature.time),
        ),
    )
    if not shape.bins and not shape.plain and not shape.cardinalities:
        raise SlipwayError("No feature has more than one value: there is nothing to learn from.")
    choice = choose_network(shape, config.network, parts.head.outputs)
    own = {"model": choice.origin} if choice.origin else {}
    return Prepared(
        config=config,
        parts=parts,
        make_network=choice.make,
        identity=fingerprint(
            config=config.model_dump(mode="json", exclude=_INDIFFERENT),
            data=splits.data_hash,
            label=[splits.label_kind, *splits.classes],
            features=[[f.name, f.kind] for f in signature.features],
            windows=splits.windows,
            split=splits.split.text,
            rows=splits.rows,
            device=parts.trained_on,
            torch=torch.__version__,
            **own,
        ),
    )


def _signature(folder: Path, splits: Splits, project: str, config: TrainingConfig) -> Bundle:
    weight = config.sample_weight
    if weight is not None and weight not in (*splits.of_kind("numeric"), *splits.beside):
        raise SlipwayError(
            f"training.sample_weight names '{weight}', which is no numeric feature and travels not beside"
            f" them. The numeric features are: {', '.join(splits.of_kind('numeric')) or 'none'};"
            f" features.examples.beside names {', '.join(splits.beside) or 'none'}."
        )
    features = tuple(feature for feature in splits.features if feature.name != weight)
    counts: dict[str, Counter[str]] = {
        f.name: Counter() for f in features if f.kind == "categorical"
    }
    for batch in read_part_batches(folder, "train", columns=list(counts)) if counts else ():
        for name, count in counts.items():
            for entry in batch[name].value_counts().to_pylist():
                count[entry["values"]] += entry["counts"]
    return Bundle(
        name=project,
        features=features,
        key=splits.key,
        key_columns=splits.key_columns,
        entities=splits.entities,
        feature_service=splits.feature_service,
        threshold=0.5,
        vocabularies={
            name: vocabulary(
                count,
                least=config.network.min_category_rows,
                most=config.network.max_categories,
            )
            for name, count in counts.items()
        },
        data_hash=splits.data_hash,
        label_kind=splits.label_kind,
        classes=splits.classes,
        costs=splits.costs,
        level=config.interval if splits.label_kind == "number" else config.sets or 0.0,
        sources=_sources(splits, weight),
        derived=splits.derived,
        predicts=splits.predicts,
    )


def _sources(splits: Splits, weight: str | None) -> tuple[Feature, ...]:
    """Features that the model does not take, and that what it takes is made of."""
    read = {name for text in splits.derived.values() for name in names(parse(text))}
    of_weight = (f for f in splits.features if f.name == weight and weight in read)
    return (*splits.sources, *of_weight)


def _row_bytes(features: tuple[Feature, ...]) -> int:
    """Bytes of one preprocessed row, at most."""
    kinds = Counter(feature.kind for feature in features)
    values = 2 * (kinds["numeric"] + kinds["boolean"]) + 5 * kinds["time"] + kinds["categorical"]
    return 4 * (values + 2)


def _spool(
    folder: Path, signature: Bundle, labels: np.ndarray, weights: np.ndarray
) -> tuple[Preprocessor, TrainingRows, Tensor]:
    """Preprocesses the training part onto the disk, batch by batch: memory stays flat.

    Returns:
        The preprocessor, the rows as memory-mapped tensors, and the numeric columns of a sample.
    """
    names = [feature.name for feature in signature.features]
    every = -(-len(labels) // _SAMPLE_ROWS)
    sample: list[RawArrays] = []
    missing: Any = False
    start = 0
    for table in read_part_batches(folder, "train", columns=names):
        raw = raw_arrays(signature, table)
        refuse_infinite(raw, signature.numeric)
        missing = missing | missing_columns(raw)
        sample.append(raw.take(slice(-start % every, None, every)))
        start += table.num_rows
    taken = join_raw(sample)
    preprocessor = fit_preprocessor(taken, missing)
    scaled, plain, codes = encode(preprocessor, taken)
    widths = {"scaled": scaled.shape[1], "plain": plain.shape[1], "codes": codes.shape[1]}
    rows = mapped_rows(widths, labels, weights)
    start = 0
    for table in read_part_batches(folder, "train", columns=names):
        encoded = encode(preprocessor, raw_arrays(signature, table))
        end = start + table.num_rows
        for whole, part in zip((rows.scaled, rows.plain, rows.codes), encoded, strict=True):
            whole[start:end] = part
        start = end
    return preprocessor, rows, scaled
