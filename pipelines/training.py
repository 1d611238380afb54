"""The training pipeline: from source tables to a served model, if the gate lets it pass."""

from collections.abc import Mapping
from dataclasses import dataclass

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_channel import PipelineChannel

from slipway.components.config.checks.consistency import required_columns
from slipway.components.config.gate import GateConfig
from slipway.components.config.kinds import UNBOUNDED
from slipway.components.config.model import Project
from slipway.components.config.orchestration import PipelineName
from slipway.components.config.parameters import struct_of
from slipway.components.deploy.component import deploy
from slipway.components.evaluate.component import evaluate
from slipway.components.features.component import features as build_features
from slipway.components.register.component import register
from slipway.components.support.images import STAGES, image
from slipway.components.train.component import train
from slipway.pipelines.interface import Channels, ParameterTypes, pipeline_function
from slipway.pipelines.packed import pack_schema, pack_section, shared_root
from slipway.pipelines.reading import read_good_rows
from slipway.pipelines.tasks import (
    notify_at_end,
    notify_of_verdict,
    pipeline_config,
    scratch_of,
    settle,
)

_ABOUT: dict[PipelineName, str] = {
    "training": "Ingests and validates data, joins features point in time, trains, and registers and"
    " deploys the model only if it passes the gate. For people: it reads the window that is given, and"
    " takes from the cache what did not change.",
    "retraining": "Trains the same model again, past the same gate, on data up to now. For monitoring,"
    " which starts it when the model decays, and for schedules: an empty window_end is the scheduled"
    " time, and the data are always read anew.",
}
# A container has 64 MB there, too few for NCCL and for torch's loaders.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108


_PARAMETERS: ParameterTypes = {
    "project": str,
    "data_root": str,
    "window_start": str,
    "window_end": str,
    "data_version": str,
    "data": dict,
    "schema": str,
    "features": dict,
    "training_seed": int,
    "training_epochs": int,
    "training_learning_rate": float,
    "training_gpus": str,
    "training_gpu_type": str,
    "training_gpu_node_selector": dict,
    "training_gpu_tolerations": list,
    "training_allow_cpu": bool,
    "training": dict,
    "gate_accuracy": float,
    "gate_f1": float,
    "gate_auc": float,
    "gate_override_approver": str,
    "gate_override_reason": str,
    "gate": dict,
    "deployment_target": str,
    "deployment": dict,
}
# Kubeflow's form shows the alphabet: a field begins with its section, so that a section stands together.
_TEXTS = """Trains, gates, registers and deploys a model.

Args:
    project: Name of the model, its service, the MLflow experiment and the Feast project. Leave it.
    data_root: Folder of the tables in an object store, as s3://bucket/lake. Relative paths start there.
    window_start: First instant of the data, as 2024-01-01 or 2024-01-01T06:00:00Z (no zone means UTC);
        or how long before its end, as 365d. Empty: the tables whole, where none has a time.
    window_end: First instant after the data, as 2024-12-31. Empty, in the retraining pipeline: when the
        run was scheduled.
    data_version: Any text, as monday-2. The cached data serve as long as it stays the same. Empty: once
        read, the same window is not read again.
    data: The rest of the project file's data section: tables, formats, time columns. Leave it, or
        change the project file and compile again.
    schema: What the tables must satisfy, as JSON text; or the file below the data root that holds
        it, where it is large. Leave it.
    features: The project file's features section. Leave it.
    training_seed: Seed of every random choice of training: a whole number, as 0.
    training_epochs: Passes over the training table, at most: a whole number, as 10. 0: as the table's
        size asks.
    training_learning_rate: Peak learning rate, as 0.002. 0: as the table's size asks.
    training_gpus: How many accelerators to ask for: a whole number, as 1. 0 trains on the CPU.
    training_gpu_type: Accelerator resource that the training node offers, as nvidia.com/gpu.
    training_gpu_node_selector: Labels that the training node must have, as {"pool": "gpu"}; {}: any.
    training_gpu_tolerations: Taints that training tolerates, as [{"key": "gpu", "operator": "Exists"}].
    training_allow_cpu: true: train on the CPU where GPUs were asked for and none is there. Else false.
    training: The rest of the project file's training section.
    gate_accuracy: Least accuracy on the test part: more than 0, up to 1, as 0.8.
    gate_f1: Least F1 on the test part: more than 0, up to 1, as 0.5.
    gate_auc: Least area under the ROC curve on the test part: more than 0, up to 1, as 0.75.
    gate_override_approver: Who lets the model pass where the gate refuses it, as Ada Lovelace. Empty:
        nobody.
    gate_override_reason: Why, as pilot for one week. Both stand in the verdict and the registry.
    gate: The rest of the project file's gate section.
    deployment_target: kserve; or local, for a process on the machine that runs the pipeline.
    deployment: The rest of the project file's deployment section.
"""


def training_arguments(project: Project, schema: Mapping[str, object]) -> dict[str, object]:
    """The pipeline's parameters as a project sets them.

    They are the defaults that `slipway compile` bakes in, and what `slipway run` passes, so that an
    override with `--set` needs no other pipeline.
    """
    data, training, gate = project.data, project.training, project.gate
    start, end = data.window_texts
    return {
        "project": project.project_name,
        "data_root": shared_root(project),
        "window_start": start,
        "window_end": end,
        "data_version": "",
        "data": pack_section(project, "data").value,
        "schema": pack_schema(schema).value,
        "features": pack_section(project, "features").value,
        "training": struct_of(training, "training"),
        "training_seed": training.seed,
        # A number in the UI; 0 stands for what the section leaves to the table's size.
        "training_epochs": 0 if training.epochs == "auto" else training.epochs,
        "training_learning_rate": 0.0
        if training.learning_rate == "auto"
        else training.learning_rate,
        "training_gpu_type": training.accelerator.type,
        # The driver reads what it writes into a pod as text: a number would come out empty.
        "training_gpus": str(training.accelerator.count),
        "training_gpu_node_selector": training.accelerator.node_selector,
        "training_gpu_tolerations": training.accelerator.tolerations,
        "training_allow_cpu": training.allow_cpu,
        "gate": struct_of(_with_intended_zeros(gate), "gate"),
        "gate_accuracy": gate.accuracy,
        "gate_f1": gate.f1,
        "gate_auc": gate.auc,
        "gate_override_approver": "",
        "gate_override_reason": "",
        "deployment": struct_of(project.deployment, "deployment"),
        "deployment_target": project.deployment.target,
    }


def _with_intended_zeros(gate: GateConfig) -> GateConfig:
    """The section with the thresholds named that the project itself sets to 0.

    A form sends 0 for a number that was blanked: a 0 that nobody meant would let every model pass.
    """
    meant = [name for name in UNBOUNDED if getattr(gate, name) == 0 or name in gate.unbounded]
    return gate.model_copy(update={"unbounded": meant})


def training_pipeline(
    loaded: Project, schema: Mapping[str, object], *, scheduled: bool = False
) -> BaseComponent:
    """Builds the training pipeline with a project's settings as the defaults of its parameters.

    Args:
        loaded: the project.
        schema: the content of its schema file.
        scheduled: build the retraining pipeline: its window may end when the run was scheduled. That
            time is another at each run, so its ingest is never served from the cache, and what comes
            after it is not either; the pipeline that people start keeps its cache.
    """
    title: PipelineName = "retraining" if scheduled else "training"
    due = dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER if scheduled else ""
    name = f"{loaded.project_name}-{title}"
    steps = _Steps(project=loaded, scratch=scratch_of(loaded.orchestration, title))

    def wire(given: Channels) -> None:
        with notify_at_end(
            loaded, name, loaded.monitoring.to_struct(), given.data_root, "ingest-to-deploy"
        ):
            splits = steps.prepare_data(given, due)
            bundle = steps.train(given, splits)
            evaluated = steps.evaluate(given, bundle, splits)
            notify_of_verdict(loaded, evaluated.outputs["verdict"], loaded.monitoring.to_struct())
            with dsl.If(evaluated.outputs["Output"] == "pass", name="gate-passed"):
                steps.release(given, bundle, splits, evaluated)

    return dsl.pipeline(
        name=name,
        display_name=f"{loaded.project_name}: {title}",
        description=_ABOUT[title],
        pipeline_config=pipeline_config(loaded.orchestration, title),
    )(pipeline_function(_PARAMETERS, _TEXTS, training_arguments(loaded, schema), wire))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """The steps of a training; each adds tasks to the pipeline that is traced.

    Attributes:
        project: the project.
        scratch: what a task that may write much is given.
    """

    project: Project
    scratch: dict[str, str]

    def prepare_data(self, given: Channels, due: str) -> PipelineChannel:
        """Ingest, validate and features; returns the splits."""
        good = read_good_rows(
            given,
            self.project,
            self.scratch,
            window_start=given.window_start,
            window_end=given.window_end,
            data_version=given.data_version,
            required=required_columns(self.project.features),
            scheduled_at=due,
        )
        featured = settle(
            build_features(
                dataset=good,
                project=given.project,
                config=given.features,
                data_root=given.data_root,
                **self.scratch,
            ),
            self.project,
        )
        return featured.outputs["splits"]

    def train(self, given: Channels, splits: PipelineChannel) -> PipelineChannel:
        """Trains where the devices are; returns the bundle."""
        trained = settle(
            train(
                splits=splits,
                project=given.project,
                config=given.training,
                seed=given.training_seed,
                epochs=given.training_epochs,
                learning_rate=given.training_learning_rate,
                gpus=given.training_gpus,
                gpu_type=given.training_gpu_type,
                gpu_node_selector=given.training_gpu_node_selector,
                gpu_tolerations=given.training_gpu_tolerations,
                allow_cpu=given.training_allow_cpu,
                **self.scratch,
            ),
            self.project,
        )
        _place(trained, self.project, given)
        return trained.outputs["bundle"]

    def evaluate(
        self, given: Channels, bundle: PipelineChannel, splits: PipelineChannel
    ) -> dsl.PipelineTask:
        """The gate; its verdict depends on the current champion, so it is never taken from the cache."""
        return settle(
            evaluate(
                bundle=bundle,
                splits=splits,
                project=given.project,
                config=given.gate,
                gate_accuracy=given.gate_accuracy,
                gate_f1=given.gate_f1,
                gate_auc=given.gate_auc,
                override_approver=given.gate_override_approver,
                override_reason=given.gate_override_reason,
                monitoring=self.project.monitoring.to_struct(),
            ),
            self.project,
        ).set_caching_options(False)

    def release(
        self,
        given: Channels,
        bundle: PipelineChannel,
        splits: PipelineChannel,
        evaluated: dsl.PipelineTask,
    ) -> None:
        """Registers and deploys what the gate let pass."""
        verdict = evaluated.outputs["verdict"]
        registered = settle(
            register(
                bundle=bundle,
                verdict=verdict,
                splits=splits,
                card=evaluated.outputs["card"],
                project=given.project,
                schema=given.schema,
                features=given.features,
                data_root=given.data_root,
                images={stage: image(stage) for stage in (*STAGES, "predictor")},
                pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            ),
            self.project,
        ).set_caching_options(False)
        settle(
            deploy(
                release=registered.outputs["release"],
                verdict=verdict,
                splits=splits,
                project=given.project,
                config=given.deployment,
                target=given.deployment_target,
            ),
            self.project,
        ).set_caching_options(False)


def _place(task: dsl.PipelineTask, project: Project, given: Channels) -> None:
    """Gives the training task its devices, the nodes that have them, and shared memory."""
    affinity = project.training.accelerator.affinity
    # On several nodes the devices are those of the job that the task creates: it needs none itself.
    if project.training.nodes.count == 1:
        task.set_accelerator_type(given.training_gpu_type).set_accelerator_limit(
            given.training_gpus
        )
        # kfp 2.17 forgets to hand this one on where an exit handler wraps the pipeline.
        task.register_pipeline_channels([given.training_gpu_type])
        kubernetes.add_node_selector_json(task, given.training_gpu_node_selector)
        kubernetes.add_toleration_json(task, given.training_gpu_tolerations)
    kubernetes.empty_dir_mount(task, volume_name="shm", mount_path=_SHARED_MEMORY, medium="Memory")
    if affinity and project.training.nodes.count == 1:
        kubernetes.add_node_affinity_json(task, affinity)
