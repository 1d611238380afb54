"""From the split tables to a training that can start: signature, preprocessing, rows, network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.contracts.bundle import Bundle
from components.contracts.config.training import TrainingConfig
from components.contracts.errors import SlipwayError
from components.contracts.splits import Splits, read_part
from components.train.checkpoint import fingerprint
from components.train.network import InputShape, Network, numeric_bins
from components.train.preprocess import WEEKDAYS, Preprocessor, fit_preprocessor, vocabulary
from components.train.tables import (
    RawArrays,
    Rows,
    make_rows,
    raw_arrays,
    read_features,
    read_labels,
    row_weights,
)

if TYPE_CHECKING:
    import pyarrow as pa

# Settings that do not change the trained weights: another value may go on from the same checkpoint.
_INDIFFERENT = {
    "checkpoints",
    "checkpoint_seconds",
    "threshold",
    "calibration",
    "allow_cpu",
    "nodes",
    "accelerator",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that training starts from.

    Attributes:
        config: the settings, without `auto`.
        signature: the bundle to be, without its threshold.
        validation_raw: the validation part's feature values.
        make_network: builds one member from the state of torch's global generator.
        scaled_names: features behind the columns of `Rows.scaled`.
        identity: changes with everything that decides the weights.
    """

    config: TrainingConfig
    signature: Bundle
    preprocessor: Preprocessor
    rows: Rows
    validation: Rows
    validation_raw: RawArrays
    make_network: Callable[[], Network]
    scaled_names: list[str]
    identity: str


def prepare(
    folder: Path,
    splits: Splits,
    project: str,
    config: TrainingConfig,
    device: torch.device,
) -> Prepared:
    """Reads the training and validation parts and takes the statistics of the first.

    Raises:
        SlipwayError: one class only, infinite values, bad weights, or no feature to learn from.
    """
    signature = _signature(folder, splits, project, config)
    preprocessor, rows, _ = _read("train", folder, signature, config, None)
    _, validation, validation_raw = _read("validation", folder, signature, config, preprocessor)
    shape = InputShape(
        bins=numeric_bins(rows.scaled, config.network.bins),
        plain=preprocessor.plain_width,
        cardinalities=(
            *(len(signature.vocabularies[name]) + 1 for name in signature.categorical),
            *[WEEKDAYS] * len(signature.time),
        ),
    )
    if not shape.bins and not shape.plain and not shape.cardinalities:
        raise SlipwayError("No feature has more than one value: there is nothing to learn from.")
    config = config.resolve(len(rows))
    heads = config.network.tabm_heads if config.network.architecture == "tabm" else 1
    columns = [*signature.numeric, *signature.time]
    return Prepared(
        config=config,
        signature=signature,
        preprocessor=preprocessor,
        rows=rows.to(device),
        validation=validation.to(device),
        validation_raw=validation_raw,
        make_network=lambda: Network(shape, config.network, heads),
        scaled_names=[columns[i] for i in preprocessor.varying_columns],
        identity=fingerprint(
            config=config.model_dump(mode="json", exclude=_INDIFFERENT),
            data=splits.data_hash,
            features=[[f.name, f.kind] for f in signature.features],
            windows=splits.windows,
            rows=splits.rows,
            device=device.type,
            torch=torch.__version__,
        ),
    )


def _signature(folder: Path, splits: Splits, project: str, config: TrainingConfig) -> Bundle:
    weight = config.sample_weight
    if weight is not None and weight not in splits.of_kind("numeric"):
        raise SlipwayError(
            f"training.sample_weight names '{weight}', which is no numeric feature. The numeric"
            f" features are: {', '.join(splits.of_kind('numeric')) or 'none'}."
        )
    features = tuple(feature for feature in splits.features if feature.name != weight)
    names = [feature.name for feature in features if feature.kind == "categorical"]
    table = read_part(folder, "train", columns=names)
    return Bundle(
        name=project,
        features=features,
        key=splits.key,
        entities=splits.entities,
        feature_service=splits.feature_service,
        threshold=0.5,
        vocabularies={
            name: vocabulary(
                table[name],
                least=config.network.min_category_rows,
                most=config.network.max_categories,
            )
            for name in names
        },
        data_hash=splits.data_hash,
    )


def _read(
    part: Any,
    folder: Path,
    signature: Bundle,
    config: TrainingConfig,
    preprocessor: Preprocessor | None,
) -> tuple[Preprocessor, Rows, RawArrays]:
    labels = read_labels(folder, part)
    raw = raw_arrays(signature, read_features(folder, part, signature))
    weights = row_weights(labels, config.positive_weight, _sample_weight(folder, part, config))
    preprocessor = preprocessor or fit_preprocessor(raw, signature.numeric)
    return preprocessor, make_rows(preprocessor, raw, labels, weights), raw


def _sample_weight(folder: Path, part: Any, config: TrainingConfig) -> np.ndarray | None:
    if config.sample_weight is None:
        return None
    table: pa.Table = read_part(folder, part, columns=[config.sample_weight])
    column = table[config.sample_weight].fill_null(float("nan"))
    return column.to_numpy().astype(np.float32)
