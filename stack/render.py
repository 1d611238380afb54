"""`slipway stack render`: a project's choices become kustomize manifests and a CI pipeline."""

import shutil
from pathlib import Path

from slipway.components.support import files
from slipway.components.support.documents import KubeObject
from slipway.components.support.environment import SECRETS
from slipway.stack import ci, objects
from slipway.stack.documents import dump
from slipway.stack.site import Site

DEPLOY_ROLE = "deploy-role.yaml"
OUR_MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"
HEADING = (
    "# Rendered by `slipway stack render`: change the project file or its options, not this file.\n"
)

PLATFORM = {
    "mlflow": (
        "MLflow: server, Postgres for runs and registry, object store for artifacts.",
        "helm upgrade --install mlflow mlflow --repo https://community-charts.github.io/helm-charts"
        " --namespace mlflow --create-namespace --values mlflow.values.yaml",
    ),
    "redis": (
        "Redis: the online store of features.",
        "helm upgrade --install redis oci://registry-1.docker.io/bitnamicharts/redis"
        " --namespace redis --create-namespace --values redis.values.yaml",
    ),
}


def render(sites: list[Site], out: Path) -> list[Path]:
    """Writes a base, an overlay for each site, pointers to the platform's charts, and CI.

    Args:
        sites: one project's sites, one a cloud; the first gives the base its settings.
        out: folder to write; other files in it are left alone.

    Returns:
        The files, in the order written.
    """
    written = _write_all(out / "base", objects.base(sites[0]))
    role, source = out / "base" / DEPLOY_ROLE, OUR_MANIFESTS / "base" / DEPLOY_ROLE
    if not (role.is_file() and role.samefile(source)):
        shutil.copyfile(source, role)
    names = sorted([*objects.base(sites[0]), DEPLOY_ROLE])
    kustomization: KubeObject = {"namespace": sites[0].namespace, "resources": names}
    written.append(_write(out / "base" / "kustomization.yaml", [_kustomize(kustomization)]))
    for site in sites:
        written += _overlay(site, out / "overlays" / site.cloud)
    written += _platform(sites[0], out / "platform")
    for name, content in ci.files(sites[0]).items():
        files.write_text(out / "ci" / name, HEADING + content)
        written.append(out / "ci" / name)
    return written


def _overlay(site: Site, folder: Path) -> list[Path]:
    parts = objects.overlay(site)
    written = _write_all(folder, parts)
    kustomization = {
        "namespace": site.namespace,
        "resources": ["../../base", *sorted(parts.keys() - {"patches.yaml"})],
        "patches": [{"path": "patches.yaml"}],
        "labels": [{"pairs": site.labels, "includeSelectors": False}],
    }
    return [*written, _write(folder / "kustomization.yaml", [_kustomize(kustomization)])]


def _kustomize(content: KubeObject) -> KubeObject:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **content}


def _platform(site: Site, folder: Path) -> list[Path]:
    """Values for charts that others keep, and the commands that install them."""
    values: dict[str, KubeObject] = {
        "mlflow": {
            "backendStore": {
                "databaseMigration": True,
                "postgres": {"enabled": True, "host": "POSTGRES-HOST", "database": "mlflow"},
                "existingDatabaseSecret": {
                    "name": "mlflow-database",
                    "usernameKey": "username",
                    "passwordKey": "password",
                },
            },
            "extraArgs": {"artifacts-destination": f"{site.bucket}/mlflow", "serve-artifacts": ""},
        },
        "redis": {
            "architecture": "replication",
            "auth": {"enabled": True, "existingSecret": "redis-password"},
        },
    }
    written = [
        _write(folder / f"{name}.values.yaml", [content]) for name, content in values.items()
    ]
    written.append(_write(folder / "storage-initializer.yaml", [objects.storage_initializer()]))
    lines = ["# The platform beside the cluster", ""]
    lines += ["Pointers to charts that others keep; read them before you install them.", ""]
    for meaning, command in PLATFORM.values():
        lines += [f"- {meaning}", "", f"      {command}", ""]
    lines += [
        "- KServe: a namespace of the restricted level refuses the container that fetches models, unless"
        " KServe was installed with its Helm values; `slipway doctor` tells.",
        "",
        "      kubectl apply --server-side --field-manager slipway -f storage-initializer.yaml",
        "",
        f"The address of each goes into the secret `{SECRETS}` of the project's namespace.",
        "",
    ]
    files.write_text(folder / "README.md", "\n".join(lines))
    return [*written, folder / "README.md"]


def _write_all(folder: Path, parts: dict[str, list[KubeObject]]) -> list[Path]:
    return [_write(folder / name, documents) for name, documents in parts.items()]


def _write(path: Path, documents: list[KubeObject]) -> Path:
    files.write_text(path, HEADING + dump(*documents))
    return path
