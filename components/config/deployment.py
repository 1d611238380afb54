"""Where and how the registered model is served."""

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from slipway.components.config.base import Duration, Section
from slipway.components.config.checks.kubernetes_names import Labels, Namespace, ObjectName


class CanaryConfig(Section):
    """How a new model proves itself on a cluster before it takes all traffic."""

    share: int = Field(
        default=10,
        ge=0,
        le=50,
        description="Percent of real requests that the new model answers meanwhile; 0: only "
        "golden rows.",
    )
    window: Duration = Field(default=timedelta(minutes=5), description="For how long.")
    local_window: Duration = Field(
        default=timedelta(0),
        description="The same for the target `local`, where both models share the port and the "
        "kernel deals out the connections, whatever `share` says; 0: golden rows "
        "only.",
    )
    min_requests: int = Field(
        default=50,
        ge=1,
        description="Requests that both models must have answered for a comparison to count.",
    )
    max_error_rate: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="By how much the share of 5xx answers may be above the stable model's.",
    )
    max_latency_ratio: float = Field(
        default=2.0, gt=0, description="How many times the stable model's mean latency it may take."
    )
    max_prediction_shift: float = Field(
        default=0.25,
        gt=0,
        description="The population stability index between both models' probabilities, above "
        "what chance explains with as few rows.",
    )


class Autoscaling(Section):
    """Between how many replicas, and on what, the predictor scales."""

    by: Literal["hpa", "keda", "knative"] = Field(
        description="`hpa` and `keda` go with the mode Standard, `knative` with the mode Knative."
    )
    max_replicas: int = Field(ge=1, description="Most pods.")
    metric: Literal["cpu", "memory", "concurrency", "rps"] = Field(
        default="cpu",
        description="`cpu` or `memory` (percent of the request) for hpa; `concurrency` or `rps` for "
        "knative; keda takes `query` to a Prometheus `server`.",
    )
    target: int = Field(
        default=70, ge=1, description="The value of the metric that is held for each pod."
    )
    server: str | None = Field(default=None, description="Address of Prometheus, for keda.")
    query: str | None = Field(default=None, description="Query whose value keda scales by.")


class Resources(Section):
    """What one replica asks for, and may take."""

    cpu: str = Field(default="500m", description="Cores that a pod asks for.")
    memory: str = Field(default="512Mi", description="Memory that a pod asks for.")
    max_cpu: str = Field(default="2", description="Most cores of a pod.")
    max_memory: str = Field(default="1Gi", description="Most memory of a pod.")
    gpus: int = Field(default=0, ge=0, description="GPUs of a pod.")
    gpu_type: str = Field(default="nvidia.com/gpu", description="Resource name of the GPUs.")


class DeploymentConfig(Section):
    """The `deployment` section."""

    target: Literal["kserve", "local"] = Field(
        default="kserve",
        description="`kserve` applies an InferenceService; `local` runs the predictor as a "
        "process.",
    )
    mode: Literal["Standard", "Knative"] = Field(
        default="Standard", description="KServe's deployment mode."
    )
    namespace: Namespace | None = Field(
        default=None, description="None: the one that the task's pod runs in."
    )
    replicas: int = Field(
        default=3, ge=1, description="Pods of the predictor, the fewest where it scales."
    )
    port: int = Field(
        default=8080, ge=1, le=65535, description="The loopback port of the target `local`."
    )
    max_latency_ms: float = Field(
        default=100,
        gt=0,
        description="What single rows may take, in the median, before a model is promoted.",
    )
    log_sample: float = Field(
        default=1.0, ge=0, le=1, description="Share of requests that the inference log keeps."
    )
    trust_request_time: bool = Field(
        default=False,
        description="A request may say at what time it is made, for replays of the past.",
    )
    ready_timeout: Duration = Field(
        default=timedelta(minutes=10),
        description="How long a new revision may take to become ready.",
    )
    storage: str | None = Field(
        default=None,
        description="Object-store prefix that bundles are copied to for the cluster to read; "
        "None: the registry's own artifact URI, which then must be one that KServe "
        "reads.",
    )
    image: str | None = Field(
        default=None,
        description="Another predictor image than the project's own: one with onnxruntime-gpu or "
        "Feast in it.",
    )
    grpc: bool = Field(
        default=False,
        description="Also gRPC, on port 9000; only Standard mode, where a pod may have several "
        "ports.",
    )
    online: Literal["none", "predictor", "transformer"] = Field(
        default="none",
        description="Who looks features up for requests with entity keys only. `predictor`: it "
        "itself, which needs Feast in its image. `transformer`: a part of its own "
        "before it.",
    )
    online_unfit: Literal["refuse", "answer"] = Field(
        default="refuse",
        description="What is answered where the online store has lost a view or is older than "
        "`online_max_age`. `refuse`: 503, since a model that is asked with nulls in place of its "
        "features answers what nobody measured. `answer`: with nulls, or the old values.",
    )
    online_max_age: Duration | None = Field(
        default=None,
        description="How long ago the moment may be that the online store stands for; None: any.",
    )
    service_account: ObjectName | None = Field(
        default=None,
        description="Of the predictor's pods; None: `slipway-predictor`, which `slipway stack "
        "render` makes, where the namespace has it.",
    )
    secret: ObjectName | None = Field(
        default=None,
        description="A Secret whose keys the predictor gets as environment (for its log's store).",
    )
    allow_from: list[Namespace] = Field(
        default=["istio-system", "envoy-gateway-system", "kserve", "monitoring"],
        description="Namespaces beside its own that may reach the predictor's pods.",
    )
    node_selector: Labels = Field(
        default={}, description="Labels of the nodes that pods may run on."
    )
    tolerations: list[dict[str, object]] = Field(
        default=[], description="Taints that pods tolerate, as Kubernetes writes them."
    )
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    canary: CanaryConfig = CanaryConfig()

    @property
    def part_before(self) -> str:
        """The part of an InferenceService whose name stands in a host that KServe makes; empty: none."""
        if self.target == "local" or self.mode == "Knative":
            return ""  # Knative takes the namespace as a label of its own
        return "transformer" if self.online == "transformer" else "predictor"

    def online_flags(self) -> dict[str, str]:
        """What tells the process that looks features up about them: its flags, by name."""
        age = self.online_max_age.total_seconds() if self.online_max_age else 0.0
        return {"online_unfit": self.online_unfit, "online_max_age_seconds": f"{age:g}"}

    @model_validator(mode="after")
    def _is_obeyed(self) -> Self:
        """Refuses what KServe, or the predictor, would silently ignore."""
        if self.target == "local":
            return self
        if self.grpc and self.mode == "Knative":
            raise ValueError("grpc has no effect in mode Knative: a pod there has one port")
        if self.resources.gpus and not self.image:
            raise ValueError(
                "resources.gpus would be idle: the predictor's own image computes on the CPU. Name one"
                " with onnxruntime-gpu as deployment.image"
            )
        if self.online == "predictor" and not self.image:
            raise ValueError(
                "the predictor's own image has no Feast: name one as deployment.image, or set online to"
                " transformer"
            )
        if self.online != "none" and not self.secret:
            raise ValueError(
                "online features need `secret`: a Secret whose FEAST_REDIS_URL names the online store"
            )
        scaling = self.autoscaling
        if scaling is None:
            return self
        if (scaling.by == "knative") != (self.mode == "Knative"):
            raise ValueError(
                f"autoscaling by {scaling.by} has no effect in mode {self.mode}: use hpa or keda with"
                " Standard, knative with Knative"
            )
        allowed = ("concurrency", "rps") if scaling.by == "knative" else ("cpu", "memory")
        if scaling.by != "keda" and scaling.metric not in allowed:
            raise ValueError(
                f"autoscaling by {scaling.by} ignores the metric {scaling.metric}: use"
                f" {' or '.join(allowed)}"
            )
        if scaling.by == "keda" and not (scaling.server and scaling.query):
            raise ValueError("autoscaling by keda needs `server` and `query`")
        if scaling.max_replicas < self.replicas:
            raise ValueError(
                f"autoscaling.max_replicas {scaling.max_replicas} is below replicas {self.replicas}"
            )
        return self
