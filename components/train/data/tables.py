"""The training tables as tensors."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import Bundle, category_codes, model_inputs
from slipway.components.contracts.splits import LABEL, Part, read_part
from slipway.components.metrics.weights import WeightSums
from slipway.components.metrics.weights import read_weights as as_weights
from slipway.components.support.errors import SlipwayError
from slipway.components.train.model.preprocess import Preprocessor, RawArrays, encode

if TYPE_CHECKING:
    import pyarrow as pa

    from slipway.components.train.heads.base import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Preprocessed rows on one device.

    Attributes:
        scaled, plain, codes: what `Preprocessor.forward` gives, codes as int32.
        labels: float32 [N], as the head encodes them. weights: float32 [N].
    """

    scaled: Tensor
    plain: Tensor
    codes: Tensor
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "TrainingRows":
        """The same rows on another device."""
        return TrainingRows(**{name: getattr(self, name).to(device) for name in self.__slots__})


def raw_arrays(bundle: Bundle, table: "pa.Table") -> RawArrays:
    """Feature values as the exported torch program takes them."""
    rows = table.num_rows
    inputs = model_inputs(bundle, table, strings=False)
    return RawArrays(
        numeric=inputs.get("numeric", np.empty((rows, 0), np.float32)),
        codes=category_codes(bundle, table),
        time=inputs.get("time", np.empty((rows, 0), np.int64)),
    )


def read_features(folder: Path, part: Part, bundle: Bundle) -> "pa.Table":
    """The features of one part, without labels or keys."""
    return read_part(folder, part, columns=[feature.name for feature in bundle.features])


def read_labels(folder: Path, part: Part) -> np.ndarray:
    """Labels of one part, as the splits have them: float64 [N].

    Raises:
        SlipwayError: there are no rows.
    """
    labels = read_part(folder, part, columns=[LABEL])[LABEL].to_numpy().astype(np.float64)
    if len(labels) == 0:
        raise SlipwayError(f"The {part} part has no rows. Widen the window or change the split.")
    return labels


def read_weights(folder: Path, part: Part, column: str | None) -> np.ndarray | None:
    """The column that weighs the rows, where there is one: float32 [N].

    Raises:
        SlipwayError: it holds no numbers, or some cannot weigh: negative, missing or not finite ones, or
            nothing but zeros.
    """
    if column is None:
        return None
    setting = f"training.sample_weight ({column})"
    weights = as_weights(read_part(folder, part, columns=[column])[column], setting)
    sums = WeightSums()
    sums.add(weights)
    sums.refuse_unfit(setting, part, zero_weighs=True)
    # Only how they stand to one another counts. Near 1 a float32 holds those that are large or small in
    # float64 too; by a power of two no other digit changes.
    near_one = 2.0 ** -round(math.log2(weights.mean()))
    return (weights * near_one).astype(np.float32)


def row_weights(
    labels: np.ndarray, head: "Head", config: TrainingConfig, sample: np.ndarray | None
) -> np.ndarray:
    """Weight of each row, with mean 1: float32 [N].

    Args:
        labels: float64 [N], as the splits have them.
        head: says what a row of each class weighs.
        config: the `training` section.
        sample: further weight of each row, float32 [N], as `read_weights` gives it.
    """
    base = np.ones(len(labels), np.float32) if sample is None else sample
    weights = base * head.class_factors(labels, base, config)
    return (weights / weights.mean()).astype(np.float32)


def make_rows(
    preprocessor: Preprocessor, raw: RawArrays, labels: np.ndarray, weights: np.ndarray
) -> TrainingRows:
    """Preprocesses a table once, before training."""
    scaled, plain, codes = encode(preprocessor, raw)
    return TrainingRows(
        scaled=scaled,
        plain=plain,
        codes=codes,
        labels=torch.from_numpy(labels),
        weights=torch.from_numpy(weights),
    )


def join_raw(parts: Sequence[RawArrays]) -> RawArrays:
    """The rows of several tables, one after the other."""
    return RawArrays(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in RawArrays.__slots__
        }
    )


def mapped_rows(widths: dict[str, int], labels: np.ndarray, weights: np.ndarray) -> TrainingRows:
    """Rows whose features lie in files, still to be filled.

    The files have no name: they are gone with the process, however it ends.

    Args:
        widths: columns of `scaled`, `plain` and `codes`.
        labels: float32 [N]; they stay in memory.
        weights: float32 [N], as the labels.
    """

    def column(name: str) -> Tensor:
        dtype = np.int32 if name == "codes" else np.float32
        shape = (len(labels), widths[name])
        if not widths[name]:
            return torch.from_numpy(np.empty(shape, dtype))
        with tempfile.TemporaryFile() as file:
            return torch.from_numpy(np.memmap(file, dtype, "w+", shape=shape))

    return TrainingRows(
        scaled=column("scaled"),
        plain=column("plain"),
        codes=column("codes"),
        labels=torch.from_numpy(labels),
        weights=torch.from_numpy(weights),
    )
