"""Where a project runs: what differs from cloud to cloud, and what a person fills in."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from slipway.components.config.checks.kubernetes_names import LONGEST, check_namespace, host_problem
from slipway.components.config.model import Project
from slipway.components.support.documents import KubeObject
from slipway.components.support.errors import ProjectError

TASKS, PREDICTOR = "pipeline-runner", "slipway-predictor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One environment of a project on one cloud.

    Attributes:
        project: the project.
        cloud: aws, gcp, azure or onprem.
        namespace: that everything is in.
        environment: dev, staging, production …: a label, and part of what the stores are named.
        team: a label, for costs.
        region: of the cloud. cluster: its name there.
        account: AWS account, GCP project or Azure tenant that the identities are in.
        gpus: how many the namespace may hold at once.
        public_keys: PEM text of the keys whose models alone are loaded.
        signers: lines of who may sign them without a key; with neither any model is loaded.
        trust_root: JSON text of the root that signatures without a key are checked by.
        registry: host that the images are pulled from with DOCKER_REGISTRY_TOKEN; empty: the nodes may
            pull as they are.
    """

    project: Project
    cloud: str
    namespace: str = ""
    environment: str = "dev"
    team: str = "ml"
    region: str = ""
    cluster: str = "ml"
    account: str = "ACCOUNT"
    gpus: int = 4
    registry: str = "ghcr.io"
    public_keys: str = ""
    signers: str = ""
    trust_root: str = ""

    def __post_init__(self) -> None:
        if self.cloud not in CLOUDS:
            raise ProjectError(f"--cloud {self.cloud}: it is one of {', '.join(CLOUDS)}.")
        names = {"environment": self.environment, "team": self.team, "namespace": self.namespace}
        for option, value in names.items():
            if option == "namespace" and not value:
                continue  # Named by whoever applies what is rendered.
            try:
                check_namespace(value)
            except ValueError as error:
                raise ProjectError(f"--{option}: {error}.") from error
        part = self.project.deployment.part_before
        if part and (problem := host_problem(self.project.project_name, self.namespace, part=part)):
            raise ProjectError(f"--namespace {self.namespace}: {problem}.")
        bucket = urlsplit(self.bucket).netloc.partition("@")[0]
        if len(bucket) > LONGEST:
            raise ProjectError(
                f"--environment {self.environment}: the object store's {bucket} has {len(bucket)}"
                f" characters, and clouds take {LONGEST}. Give a shorter environment, or project_name."
            )

    @property
    def labels(self) -> dict[str, str]:
        """On every object: whose it is, and who pays."""
        return {
            "app.kubernetes.io/part-of": "slipway",
            "slipway.dev/project": self.project.project_name,
            "slipway.dev/environment": self.environment,
            "slipway.dev/team": self.team,
        }

    @property
    def bucket(self) -> str:
        """The prefix that features and logs are kept below."""
        name = f"{self.project.project_name}-{self.environment}"
        return CLOUDS[self.cloud].bucket(self, name)

    def settings(self) -> dict[str, str]:
        """The config map: the names that the components, and a person, read."""
        project = self.project
        values = {
            "PROJECT_NAME": project.project_name,
            "ENVIRONMENT": self.environment,
            "TEAM": self.team,
            "CLOUD_PROVIDER": self.cloud,
            "REGION": self.region or CLOUDS[self.cloud].region,
            "CLUSTER_NAME": self.cluster,
            "EXPERIMENT_TRACKER": project.experiment_tracker,
            "MODEL_REGISTRY": project.model_registry,
            "FEATURE_STORE": project.feature_store,
            "ORCHESTRATOR": project.orchestrator,
            "MONITORING_TOOL": project.monitoring_tool,
            "CI_CD_PLATFORM": project.ci_cd_platform,
            "FEATURE_STORE_URI": f"{self.bucket}/features",
            "INFERENCE_LOG_URI": f"{self.bucket}/inference-log",
            "MONITORING_URI": f"{self.bucket}/monitoring",
            # In a pod only this folder is writable; what must last is kept in the stores.
            "SLIPWAY_HOME": "/tmp/slipway",  # noqa: S108
        }
        trusted = {
            "MODEL_PUBLIC_KEYS": self.public_keys,
            "MODEL_SIGNERS": self.signers,
            "MODEL_TRUST_ROOT": self.trust_root,
        }
        values |= {name: text for name, text in trusted.items() if text}
        if endpoint := CLOUDS[self.cloud].endpoint:
            values["AWS_ENDPOINT_URL"] = endpoint
        return values

    def identity(self, account: str) -> dict[str, str]:
        """The annotations that give a service account its identity in the cloud."""
        name = f"{self.project.project_name}-{self.environment}-{account}"
        return CLOUDS[self.cloud].identity(self, name)

    def secret_store(self) -> KubeObject | None:
        """External Secrets' provider; None where a person fills the secrets in."""
        return CLOUDS[self.cloud].secrets(self)


def _aws_secrets(site: Site) -> KubeObject:
    aws = {"service": "SecretsManager", "region": site.settings()["REGION"]}
    return {"aws": aws | {"auth": {"jwt": {"serviceAccountRef": {"name": TASKS}}}}}


def _azure_secrets(site: Site) -> KubeObject:
    vault = f"https://{site.project.project_name}-{site.environment}.vault.azure.net"
    reference = {"serviceAccountRef": {"name": TASKS}}
    return {"azurekv": {"authType": "WorkloadIdentity", "vaultUrl": vault, **reference}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """What one cloud does in its own way.

    Attributes:
        region: where none is named.
        bucket: the prefix of its object store, of a site and the bucket's name.
        identity: annotations that give a service account its identity, of a site and the account's name.
        secrets: External Secrets' provider; None where a person fills the secrets in.
        endpoint: of its S3, where that is not Amazon's.
    """

    region: str
    bucket: Callable[[Site, str], str]
    identity: Callable[[Site, str], dict[str, str]] = lambda site, name: {}
    secrets: Callable[[Site], KubeObject | None] = lambda site: None
    endpoint: str = ""


CLOUDS = {
    "aws": Cloud(
        region="eu-central-1",
        bucket=lambda site, name: f"s3://{name}-{site.account}",
        identity=lambda site, name: {
            "eks.amazonaws.com/role-arn": f"arn:aws:iam::{site.account}:role/{name}"
        },
        secrets=_aws_secrets,
    ),
    "gcp": Cloud(
        region="europe-west3",
        bucket=lambda site, name: f"gs://{name}-{site.account}",
        identity=lambda site, name: {
            "iam.gke.io/gcp-service-account": f"{name}@{site.account}.iam.gserviceaccount.com"
        },
        secrets=lambda site: {"gcpsm": {"projectID": site.account}},
    ),
    "azure": Cloud(
        region="germanywestcentral",
        bucket=lambda site, name: f"abfss://{name}@{site.account.lower()}.dfs.core.windows.net",
        identity=lambda site, name: {
            "azure.workload.identity/client-id": f"CLIENT-ID-OF-{name}",
            "azure.workload.identity/tenant-id": site.account,
        },
        secrets=_azure_secrets,
    ),
    "onprem": Cloud(
        region="local",
        bucket=lambda site, name: f"s3://{name}",
        endpoint="http://minio.minio.svc.cluster.local:9000",
    ),
}
