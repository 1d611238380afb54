"""What the pipeline's pods may do in their namespace: one table for the roles and for the doctor."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on a kind of resource, and whose need they are."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    whose: str
    names: tuple[str, ...] = ()


# The deploy stage's own rights stand in manifests/base/deploy-role.yaml, beside what tests them.
TASK_RIGHTS = (
    Right(
        "argoproj.io", ("workflowtaskresults",), ("create", "patch"), "every task, for its result"
    ),
    Right("argoproj.io", ("workflows",), ("get",), "every task, for when its run was scheduled"),
    Right(
        "trainer.kubeflow.org",
        ("trainjobs",),
        ("get", "create", "delete"),
        "train on several nodes",
    ),
    Right("", ("events",), ("list",), "train on several nodes"),
    Right("", ("pods",), ("get", "list", "patch"), "every task, to report where it runs"),
    Right("", ("pods/log",), ("get",), "every task"),
    Right("", ("configmaps",), ("get",), "every task", ("kfp-launcher", "slipway-config")),
    Right(
        "", ("secrets",), ("get",), "every task", ("mlpipeline-minio-artifact", "slipway-secrets")
    ),
    # Where Kubeflow has users, its server asks whether the pod's account may do this.
    Right(
        "pipelines.kubeflow.org",
        ("runs",),
        ("create", "list", "terminate"),
        "retrain, to start a training once",
    ),
    Right("pipelines.kubeflow.org", ("experiments",), ("create", "list"), "retrain"),
    Right("pipelines.kubeflow.org", ("pipelines",), ("get", "list"), "retrain"),
)

DEPLOY_RIGHTS = (
    Right(
        "serving.kserve.io", ("inferenceservices",), ("get", "create", "patch", "delete"), "deploy"
    ),
    Right("networking.k8s.io", ("networkpolicies",), ("create", "patch"), "deploy"),
    Right("policy", ("poddisruptionbudgets",), ("create", "patch"), "deploy"),
    Right("", ("pods", "events"), ("list",), "deploy"),
    Right("", ("pods/log",), ("get",), "deploy"),
    Right("", ("serviceaccounts",), ("get",), "deploy", ("slipway-predictor",)),
)
