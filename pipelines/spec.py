"""The parts of a compiled pipeline that Slipway reads, as the published pipeline spec names them.

The spec has more (kubeflow/pipelines, api/v2alpha1/pipeline_spec.proto); nobody reads another
key. Every key may be missing: files come from other releases, and from people.
"""

from typing import Any, TypedDict


class ParameterSpec(TypedDict, total=False):
    """What a pipeline or a component declares of a parameter; `defaultValue` is any JSON value."""

    parameterType: str
    defaultValue: object
    isOptional: bool
    description: str


class Definitions(TypedDict, total=False):
    """Inputs or outputs of a component."""

    parameters: dict[str, ParameterSpec]
    artifacts: dict[str, dict[str, object]]


class TaskOutput(TypedDict):
    """The output of another task that an input takes."""

    producerTask: str
    outputParameterKey: str


class InputSource(TypedDict, total=False):
    """Where an input of a task, or a value of its pod, comes from; one of the keys is there."""

    componentInputParameter: str
    taskOutputParameter: TaskOutput
    runtimeValue: dict[str, object]


class TaskInputs(TypedDict, total=False):
    """The inputs of a task, by name."""

    parameters: dict[str, InputSource]
    artifacts: dict[str, dict[str, object]]


class ComponentRef(TypedDict):
    """The component that a task runs, by its name in `components`."""

    name: str


class TriggerPolicy(TypedDict, total=False):
    """When a task runs."""

    condition: str


class TaskSpec(TypedDict, total=False):
    """A task of a group."""

    componentRef: ComponentRef
    dependentTasks: list[str]
    inputs: TaskInputs
    triggerPolicy: TriggerPolicy


class Dag(TypedDict, total=False):
    """A group of tasks."""

    tasks: dict[str, TaskSpec]


class ComponentSpec(TypedDict, total=False):
    """A component: a group with `dag`, else what the executor of that label runs."""

    executorLabel: str
    dag: Dag
    inputDefinitions: Definitions
    outputDefinitions: Definitions


class Container(TypedDict, total=False):
    """What an executor runs."""

    image: str
    command: list[str]
    args: list[str]
    resources: dict[str, object]


class Executor(TypedDict, total=False):
    """An executor; an importer has no container."""

    container: Container


class DeploymentSpec(TypedDict, total=False):
    """The executors, by label."""

    executors: dict[str, Executor]


class PipelineInfo(TypedDict, total=False):
    """What a pipeline is called."""

    name: str
    displayName: str
    description: str


class PipelineSpec(TypedDict, total=False):
    """A compiled pipeline."""

    pipelineInfo: PipelineInfo
    root: ComponentSpec
    components: dict[str, ComponentSpec]
    deploymentSpec: DeploymentSpec
    sdkVersion: str
    schemaVersion: str


Platform = dict[str, Any]
"""The platform spec: Kubernetes' settings of executors and of the pipeline, in no shape of their own."""
