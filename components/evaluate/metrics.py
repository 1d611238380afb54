"""The metrics that the gate looks at, computed by torchmetrics from a stream of batches.

torchmetrics either keeps every score (exact AUC; memory grows with the rows) or compares every score
with every threshold (slow). The two curve metrics here keep torchmetrics' binned state and its way to
compute, and fill that state from one histogram a batch: memory stays flat and a row costs one look-up.
"""

from typing import TYPE_CHECKING, Any

from slipway.components.evaluate.tally import BINS, SPAN

if TYPE_CHECKING:
    import numpy as np


class StreamedMetrics:
    """Accuracy, F1, precision, recall, AUC, average precision, log loss and Brier of a stream."""

    def __init__(self, threshold: float) -> None:
        """Starts with no rows.

        Args:
            threshold: a row is called positive where its probability reaches it.
        """
        import torch
        from torchmetrics import MeanMetric, MetricCollection
        from torchmetrics import classification as binary

        class Filled:
            """Fills a binned metric's state from a histogram of the scores."""

            def update(self: Any, preds: torch.Tensor, target: torch.Tensor) -> None:
                where = torch.bucketize(preds.double(), self.thresholds, right=True) - 1
                index = where.clamp(0, BINS - 1) * 2 + target
                counts = torch.bincount(index, minlength=BINS * 2).reshape(BINS, 2)
                reached = counts.flip(0).cumsum(0).flip(0)
                self.confmat[:BINS, 0, 1] += reached[:, 0]
                self.confmat[:BINS, 1, 1] += reached[:, 1]
                total = counts.sum(0)
                self.confmat[:BINS, 0, 0] += total[0] - reached[:, 0]
                self.confmat[:BINS, 1, 0] += total[1] - reached[:, 1]
                self.confmat[BINS, 0, 0] += total[0]
                self.confmat[BINS, 1, 0] += total[1]

        class Auroc(Filled, binary.BinaryAUROC):
            pass

        class AveragePrecision(Filled, binary.BinaryAveragePrecision):
            pass

        edges = torch.sigmoid(torch.linspace(-SPAN, SPAN, BINS + 1, dtype=torch.float64))
        # Nothing reaches the last threshold, so that the curve ends at (0, 0).
        edges[-1] = 2.0
        options: dict[str, Any] = {"validate_args": False}
        # The operations are small: more threads of this process only spin between them, which cost up to
        # ten times the CPU on a busy machine and gained nothing.
        torch.set_num_threads(1)
        self._torch = torch
        self._threshold = threshold
        # torchmetrics calls a row positive above its threshold, we from the threshold on: it is
        # given the labels that were decided here.
        self._called = MetricCollection(
            {
                "accuracy": binary.BinaryAccuracy(**options),
                "f1": binary.BinaryF1Score(**options),
                "precision": binary.BinaryPrecision(**options),
                "recall": binary.BinaryRecall(**options),
            }
        )
        self._scored = {
            "auc": Auroc(thresholds=edges, **options),
            "average_precision": AveragePrecision(thresholds=edges, **options),
        }
        self._means = {"log_loss": MeanMetric(), "brier": MeanMetric()}

    def update(self, probability: "np.ndarray", label: "np.ndarray") -> None:
        """Takes a batch: float32 [N] within 0 and 1, and integers [N] of 0 and 1."""
        torch = self._torch
        preds = torch.from_numpy(probability)
        target = torch.from_numpy(label).long()
        self._called.update((preds >= self._threshold).long(), target)
        for metric in self._scored.values():
            metric.update(preds, target)
        exact = preds.double().clamp(1e-7, 1 - 1e-7)
        self._means["log_loss"].update(
            torch.nn.functional.binary_cross_entropy(exact, target.double(), reduction="none")
        )
        self._means["brier"].update((exact - target) ** 2)

    def compute(self) -> dict[str, float]:
        """The metrics over all rows so far, as floats (NaN where torchmetrics gives it)."""
        values = {**self._called.compute()}
        values.update({name: metric.compute() for name, metric in self._scored.items()})
        values.update({name: metric.compute() for name, metric in self._means.items()})
        return {name: float(value) for name, value in values.items()}
