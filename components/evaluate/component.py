"""The KFP face of evaluate."""

from kfp import dsl

from slipway.components.support.images import image


@dsl.component(base_image=image("evaluate"), install_kfp_package=False)
def evaluate(
    bundle: dsl.Input[dsl.Model],
    splits: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    gate_accuracy: float,
    gate_f1: float,
    gate_auc: float,
    monitoring: dict,
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    curves: dsl.Output[dsl.ClassificationMetrics],
    card: dsl.Output[dsl.HTML],
    override_approver: str = "",
    override_reason: str = "",
) -> str:
    """Measures the model on the test table and decides whether it may be registered.

    Args:
        bundle: The trained model.
        splits: Train, validation and test tables; the test table decides.
        project: The project's name: the registered model whose champion is compared.
        config: The project's `gate` section.
        gate_accuracy: Least accuracy on the test table, of classes; so are F1 and AUC.
        gate_f1: Least F1; of several classes their mean.
        gate_auc: Least area under the ROC curve.
        monitoring: The project's `monitoring` section: alerts that would fire at once are named.
        verdict: The decision, rule by rule, as JSON.
        metrics: The metrics on the test table.
        curves: Confusion matrix, and of two classes the ROC curve.
        card: The model card, to look at.
        override_approver: Who lets the model pass where the rules refuse it; empty: nobody.
        override_reason: Why; both stand in the verdict, the card and the registry.

    Returns:
        "pass" or "fail": registration and deployment depend on it.
    """
    from pathlib import Path

    from slipway.components.evaluate.evaluate import EvaluationTask, evaluate_model

    result = evaluate_model(
        EvaluationTask(
            bundle_path=Path(bundle.path),
            splits_path=Path(splits.path),
            project=project,
            config=config,
            parameters={"gate_accuracy": gate_accuracy, "gate_f1": gate_f1, "gate_auc": gate_auc},
            verdict_path=Path(verdict.path),
            card_path=Path(card.path),
            override_approver=override_approver,
            override_reason=override_reason,
            monitoring=monitoring,
        )
    )
    verdict.metadata.update(result.metadata())
    for name, value in result.metrics.items():
        metrics.log_metric(name, value)
    if result.labels:
        curves.log_confusion_matrix(result.labels, result.confusion)
    if result.roc[0]:
        curves.log_roc_curve(*result.roc)
    return result.outcome
