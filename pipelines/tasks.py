"""What every task of every pipeline carries: retries, a timeout, resources, and its environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel

from slipway.components.config.model import Project
from slipway.components.config.orchestration import (
    PROJECT_LABEL,
    STAGE_LABEL,
    Orchestration,
    PipelineName,
    TaskName,
    TaskSettings,
    WorkspaceVolume,
)
from slipway.components.monitor.component import report_end, report_verdict
from slipway.components.support import environment
from slipway.pipelines.packed import pack_schema, pack_section, shared_root

# The settings that may hold a password; the rest stand in the config map.
SECRET_SETTINGS = (
    "MLFLOW_TRACKING_URI",
    "FEAST_REDIS_URL",
    "MODEL_PRIVATE_KEY",
    "MODEL_PRIVATE_KEY_PASSWORD",
)
# What a namespace may do without.
OPTIONAL_SETTINGS = (
    "FEAST_REDIS_URL",
    "MODEL_PRIVATE_KEY",
    "MODEL_PRIVATE_KEY_PASSWORD",
    *environment.TRUST,
)
USER = 10001
RETRIES = 3
TIMEOUT = timedelta(hours=1)
VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResources:
    """What a task may use: cores as in "2", memory as in "4Gi"."""

    cpu: str = "1"
    memory: str = "2Gi"


RESOURCES = {
    "ingest": TaskResources(cpu="2"),
    "validate": TaskResources(cpu="2"),
    "features": TaskResources(cpu="4", memory="8Gi"),
    "train": TaskResources(cpu="4", memory="16Gi"),
    "evaluate": TaskResources(cpu="2", memory="4Gi"),
    "register": TaskResources(),
    "deploy": TaskResources(),
    "monitor": TaskResources(cpu="2", memory="4Gi"),
}

# Tasks beside the stages', each from the image of one of them.
HELPERS = {
    "plan-ingest": TaskResources(),
    "ingest-shard": RESOURCES["ingest"],
    "merge-dataset": TaskResources(),
    "validate-shard": RESOURCES["validate"],
    "merge-validated": TaskResources(),
    "scoring-features": RESOURCES["features"],
    "backfill": RESOURCES["features"],
    "score": TaskResources(cpu="2", memory="4Gi"),
    "plan-scoring": TaskResources(),
    "score-shard": TaskResources(cpu="2", memory="4Gi"),
    "merge-predictions": TaskResources(),
    "monitor-predictions": RESOURCES["monitor"],
    "plan-monitoring": TaskResources(),
    "monitor-shard": TaskResources(cpu="2"),
    "merge-monitoring": RESOURCES["monitor"],
    "retrain": TaskResources(memory="1Gi"),
    "prune-online": TaskResources(),
    "report-end": TaskResources(memory="1Gi"),
    "report-verdict": TaskResources(memory="1Gi"),
}


# What a task reads of `slipway.components.support.environment.VARIABLES`.
SETTINGS: dict[str, tuple[str, ...]] = {
    "features": ("FEATURE_STORE_URI", "FEAST_REDIS_URL"),
    "backfill": ("FEATURE_STORE_URI", "FEAST_REDIS_URL"),
    "prune-online": ("FEATURE_STORE_URI", "FEAST_REDIS_URL"),
    "train": ("MLFLOW_TRACKING_URI",),
    "evaluate": ("MLFLOW_TRACKING_URI",),
    "register": ("MLFLOW_TRACKING_URI", "MODEL_PRIVATE_KEY", "MODEL_PRIVATE_KEY_PASSWORD"),
    "deploy": (
        "MLFLOW_TRACKING_URI",
        "INFERENCE_LOG_URI",
        *environment.TRUST,
        "SLIPWAY_HOME",
        "FEATURE_STORE_URI",
        "FEAST_REDIS_URL",
    ),
    "score": ("MLFLOW_TRACKING_URI", *environment.TRUST),
    "plan-scoring": ("MLFLOW_TRACKING_URI", *environment.TRUST),
    "score-shard": ("MLFLOW_TRACKING_URI", *environment.TRUST),
    "monitor": (
        "MLFLOW_TRACKING_URI",
        "INFERENCE_LOG_URI",
        "MONITORING_URI",
        "FEATURE_STORE_URI",
        "FEAST_REDIS_URL",
    ),
    "monitor-predictions": ("MLFLOW_TRACKING_URI", "MONITORING_URI"),
    "plan-monitoring": ("INFERENCE_LOG_URI",),
    "monitor-shard": ("MLFLOW_TRACKING_URI", "INFERENCE_LOG_URI"),
    "merge-monitoring": (
        "MLFLOW_TRACKING_URI",
        "INFERENCE_LOG_URI",
        "MONITORING_URI",
        "FEATURE_STORE_URI",
        "FEAST_REDIS_URL",
    ),
    "retrain": ("MONITORING_URI",),
    "report-end": ("MONITORING_URI",),
    "report-verdict": ("MONITORING_URI",),
}


def batch_arguments(project: Project, schema: Mapping[str, object]) -> dict[str, object]:
    """The parameters that scoring and backfill share: where the tables are, and what is made of them."""
    return {
        "project": project.project_name,
        "data_root": shared_root(project),
        "data": pack_section(project, "data").value,
        "schema": pack_schema(schema).value,
        "features": pack_section(project, "features").value,
    }


def settle(task: dsl.PipelineTask, project: Project) -> dsl.PipelineTask:
    """Gives a task what the design asks of every one.

    Three retries with backoff, a timeout of an hour, cores and memory, a numeric user, labels that
    costs are counted by, and the environment settings that its stage reads, by reference to the
    namespace's config map and secret. The project's `orchestration.tasks` takes precedence.

    Args:
        task: the task of a stage.
        project: the project.
    """
    usual = {**RESOURCES, **HELPERS}[task.name]
    own = project.orchestration.tasks.get(cast(TaskName, task.name), TaskSettings())
    cpu, memory = own.cpu or usual.cpu, own.memory or usual.memory
    task.set_retry(
        num_retries=RETRIES if own.retries is None else own.retries,
        backoff_duration="30s",
        backoff_factor=2,
        backoff_max_duration="600s",
    )
    task.set_cpu_request(cpu).set_cpu_limit(cpu)
    task.set_memory_request(memory).set_memory_limit(memory)
    kubernetes.set_timeout(task, int((own.timeout or TIMEOUT).total_seconds()))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=0, run_as_non_root=True)
    labels = {**own.labels, PROJECT_LABEL: project.project_name, STAGE_LABEL: task.name}
    for label, value in labels.items():
        kubernetes.add_pod_label(task, label, value)
    if own.node_selector:
        kubernetes.add_node_selector_json(task, own.node_selector)
    if own.tolerations:
        kubernetes.add_toleration_json(task, own.tolerations)
    if own.affinity:
        kubernetes.add_node_affinity_json(task, own.affinity)
    kubernetes.use_config_map_as_env(
        task,
        environment.CONFIG_MAP,
        {name: name for name in environment.STORE_SETTINGS},
        optional=True,
    )
    kubernetes.use_secret_as_env(
        task, environment.SECRETS, {name: name for name in environment.STORE_SECRETS}, optional=True
    )
    for name in SETTINGS.get(task.name, ()):
        if name in SECRET_SETTINGS:
            kubernetes.use_secret_as_env(
                task,
                environment.SECRETS,
                {name: environment.OWN_NAMES.get(name, name)},
                optional=name in OPTIONAL_SETTINGS,
            )
        else:
            kubernetes.use_config_map_as_env(
                task, environment.CONFIG_MAP, {name: name}, optional=name in OPTIONAL_SETTINGS
            )
    return task


def route_secrets(task: dsl.PipelineTask, project: Project) -> None:
    """Gives a task the variables that the alert routes' urls name, from the namespace's secret."""
    urls = " ".join(route.url for route in project.monitoring.routes)
    for name in sorted(set(VARIABLE.findall(urls))):
        kubernetes.use_secret_as_env(task, environment.SECRETS, {name: name}, optional=True)


def notify_at_end(
    project: Project, pipeline: str, config: object, data_root: object, stages: str
) -> dsl.ExitHandler:
    """An exit handler around a pipeline: it notifies the alert routes of a run that failed.

    A project without routes gets it too: routes may come with a run's own parameters.

    Args:
        project: the project.
        pipeline: the pipeline's name.
        config: the `monitoring` section, as the pipeline's parameter or as a struct.
        data_root: the pipeline's parameter: large settings lie below it.
        stages: what the group is called that Kubeflow draws around the stages: it shows an exit handler's
            tasks below a name, and no others would see a stage whose pod was killed.
    """
    report = report_end(
        project=project.project_name, config=config, pipeline=pipeline, data_root=data_root
    )
    settle(report, project).set_caching_options(False)
    route_secrets(report, project)
    return dsl.ExitHandler(report, name=stages)


def notify_of_verdict(project: Project, verdict: PipelineChannel, config: object) -> None:
    """Notifies the alert routes of a refusal, and where a person overrode the gate.

    The task itself reads that from the verdict: in kfp 2.17 a condition on a name with an apostrophe
    is false. It runs in every training, with routes or without: Kubeflow counts the tasks of a group
    when a container of it ends, and after a refusal no other one would. The exit handler would then be
    told that the run is still going, which is what it is told of a pod that was killed.

    Args:
        project: the project.
        verdict: the gate's decision, from the task that made it.
        config: the `monitoring` section, as the pipeline's parameter or as a struct.
    """
    report = report_verdict(verdict=verdict, project=project.project_name, config=config)
    settle(report, project).set_caching_options(False)
    route_secrets(report, project)


def scratch_of(orchestration: Orchestration, pipeline: PipelineName) -> dict[str, str]:
    """What a task that may write much is given: the run's volume, where this pipeline has one."""
    has_one = volume_of(orchestration, pipeline) is not None
    return {"scratch": dsl.WORKSPACE_PATH_PLACEHOLDER} if has_one else {}


def volume_of(orchestration: Orchestration, pipeline: PipelineName) -> WorkspaceVolume | None:
    """The volume that a run of a pipeline gets, or None."""
    volume = orchestration.workspace
    return volume if volume and pipeline in volume.pipelines else None


def pipeline_config(orchestration: Orchestration, pipeline: PipelineName) -> dsl.PipelineConfig:
    """When a run is given up, how long the pods of an ended one stay, and its volume.

    Args:
        orchestration: the project's section.
        pipeline: which pipeline it is.
    """
    volume = volume_of(orchestration, pipeline)
    return dsl.PipelineConfig(
        active_deadline_seconds=int(orchestration.deadline.total_seconds()),
        ttl_seconds_after_finished=int(orchestration.keep.total_seconds()),
        workspace=_volume(volume) if volume else None,
    )


def _volume(volume: WorkspaceVolume) -> dsl.WorkspaceConfig:
    patch: dict[str, object] = {}
    if volume.storage_class:
        patch["storageClassName"] = volume.storage_class
    if volume.access_modes:
        patch["accessModes"] = list(volume.access_modes)
    return dsl.WorkspaceConfig(
        size=volume.size, kubernetes=dsl.KubernetesWorkspaceConfig(pvcSpecPatch=patch)
    )
