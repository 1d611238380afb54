"""The KFP face of train."""

from kfp import dsl

from slipway.components.support.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(
    splits: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    seed: int,
    epochs: int,
    learning_rate: float,
    gpus: str,
    gpu_type: str,
    gpu_node_selector: dict,
    gpu_tolerations: list,
    allow_cpu: bool,
    bundle: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    scratch: str = "",
):
    """Trains a PyTorch model and exports it with its preprocessing inside.

    Args:
        splits: Train, validation and test tables; of the test table only features are read, to compare
            the exported files with the trained model.
        project: The project's name: the MLflow experiment and the model.
        config: The project's `training` section.
        seed: Seed of every random choice.
        epochs: Passes over the training table, at most; early stopping may end sooner. 0: as the
            table's size asks.
        learning_rate: Peak learning rate. 0: as the table's size asks.
        gpus: GPUs that the task was given, a whole number; 0 trains on the CPU.
        gpu_type: Accelerator resource of the nodes, as nvidia.com/gpu; this and the next two are for
            training on several nodes, whose pods the task starts itself.
        gpu_node_selector: Labels that those nodes must have.
        gpu_tolerations: Taints that their pods tolerate, as a list of Kubernetes tolerations.
        allow_cpu: Whether to train on the CPU where GPUs were asked for and none is there.
        bundle: The model: ONNX, signature, training log.
        report: Curves and calibration, to look at.
        metrics: Metrics on the validation part.
        scratch: Folder for what does not fit into memory; empty: the pod's own disk.
    """
    from pathlib import Path

    from slipway.components.support.environment import use_scratch
    from slipway.components.train.train import TrainingTask, train_model

    use_scratch(scratch)
    result = train_model(
        TrainingTask(
            splits=Path(splits.path),
            project=project,
            config=config,
            seed=seed,
            epochs=epochs,
            learning_rate=learning_rate,
            gpus=gpus,
            gpu_type=gpu_type,
            gpu_node_selector=gpu_node_selector,
            gpu_tolerations=gpu_tolerations,
            allow_cpu=allow_cpu,
            bundle=Path(bundle.path),
            report=Path(report.path),
            storage=bundle.uri,
        )
    )
    bundle.metadata.update(result.metadata())
    for name, value in result.metrics.items():
        metrics.log_metric(name, value)
