"""The stack: each cloud's manifests build, validate, hold no secret, and deny by default."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.model_keys import make_keys
from support.sigstore_world import Sigstore
from typer.testing import CliRunner

from slipway.commands.cluster.stack import stack_app
from slipway.components.config.project import LoadedProject, load_project
from slipway.components.support.environment import CONFIG_MAP, SECRETS
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.pipelines.package import read_package
from slipway.stack.ci import ENVIRONMENTS, gitlab, tekton
from slipway.stack.objects import MODELS_SECRET, SECRET_KEYS
from slipway.stack.rights import DEPLOY_RIGHTS, TASK_RIGHTS
from slipway.stack.site import CLOUDS, Cloud, Site

KUBECTL = shutil.which("kubectl")


def _render(out: Path, *options: str) -> None:
    result = CliRunner().invoke(stack_app, ["render", "--out", str(out), *options])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("manifests")
    _render(out, "--cloud", "all", "--environment", "staging", "--team", "risk", "--account", "42")
    return out


def _documents(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            found += [d for d in yaml.safe_load_all(path.read_text()) if d]
    return found


def _one(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


@pytest.fixture(scope="module", params=CLOUDS)
def built(request: pytest.FixtureRequest, manifests: Path) -> tuple[str, list[dict[str, Any]]]:
    if KUBECTL is None:
        reason = "kubectl, which has kustomize inside, is not installed"
        # Where nobody looks at what was skipped, not building them is a failure.
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    overlay = manifests / "overlays" / request.param
    text = subprocess.run(
        [KUBECTL, "kustomize", str(overlay)], check=True, capture_output=True, text=True
    ).stdout
    return request.param, list(yaml.safe_load_all(text))


def test_every_object_is_what_kubernetes_takes(built: tuple[str, list[dict[str, Any]]]) -> None:
    import kubernetes_validate

    cloud, documents = built
    external = {"ExternalSecret", "SecretStore"}
    for document in documents:
        if document["kind"] not in external:
            kubernetes_validate.validate(document, "1.32", strict=True)
    assert external <= {d["kind"] for d in documents} or cloud == "onprem"


def test_everything_is_in_the_namespace_and_carries_the_labels(
    built: tuple[str, list[dict[str, Any]]],
) -> None:
    for document in built[1]:
        metadata = document["metadata"]
        if document["kind"] != "Namespace":
            assert metadata["namespace"] == "flights-staging", document
        assert metadata["labels"]["slipway.dev/team"] == "risk"
        assert metadata["labels"]["slipway.dev/environment"] == "staging"
        for subject in document.get("subjects", []):
            assert subject["namespace"] == "flights-staging"


def test_the_cloud_s_settings_and_identities(built: tuple[str, list[dict[str, Any]]]) -> None:
    cloud, documents = built
    settings = _one(documents, "ConfigMap", CONFIG_MAP)["data"]
    assert settings["CLOUD_PROVIDER"] == cloud
    assert settings["PROJECT_NAME"] == "flights"
    assert {"REGION", "CLUSTER_NAME", "FEATURE_STORE_URI", "INFERENCE_LOG_URI"} <= settings.keys()
    annotations = _one(documents, "ServiceAccount", "pipeline-runner")["metadata"].get(
        "annotations", {}
    )
    expected = {
        "aws": (
            "eks.amazonaws.com/role-arn",
            "arn:aws:iam::42:role/flights-staging-pipeline-runner",
        ),
        "gcp": (
            "iam.gke.io/gcp-service-account",
            "flights-staging-pipeline-runner@42.iam.gserviceaccount.com",
        ),
        "azure": ("azure.workload.identity/tenant-id", "42"),
    }
    if cloud in expected:
        key, value = expected[cloud]
        assert annotations[key] == value
    else:
        assert annotations == {}
    schemes = {"aws": "s3://", "gcp": "gs://", "azure": "abfss://", "onprem": "s3://"}
    assert settings["FEATURE_STORE_URI"].startswith(schemes[cloud])


def test_no_value_of_a_secret_is_in_a_manifest(built: tuple[str, list[dict[str, Any]]]) -> None:
    cloud, documents = built
    for document in documents:
        if document["kind"] == "Secret":
            assert not document.get("data")
            assert not document.get("stringData")
    if cloud != "onprem":
        external = _one(documents, "ExternalSecret", SECRETS)["spec"]
        assert [entry["secretKey"] for entry in external["data"]] == list(SECRET_KEYS)
        assert external["target"]["name"] == SECRETS


def test_a_self_hosted_store_of_models_is_a_secret_of_the_predictors_account(
    built: tuple[str, list[dict[str, Any]]],
) -> None:
    """On the clouds the account's identity opens the bucket; on premises KServe needs a secret of it."""
    cloud, documents = built
    secrets = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Secret"}
    account = _one(documents, "ServiceAccount", "slipway-predictor")
    if cloud != "onprem":
        assert "slipway-models" not in secrets and "secrets" not in account
        return
    assert account["secrets"] == [{"name": "slipway-models"}]
    assert account["imagePullSecrets"] == [{"name": "slipway-registry"}]
    assert account["automountServiceAccountToken"] is False
    notes = secrets["slipway-models"]["metadata"]["annotations"]
    endpoint = _one(documents, "ConfigMap", CONFIG_MAP)["data"]["AWS_ENDPOINT_URL"]
    assert endpoint == f"http://{notes['serving.kserve.io/s3-endpoint']}"
    assert notes["serving.kserve.io/s3-usehttps"] == "0"
    for key in ("aws-endpoint-url", "aws-access-key-id", "aws-secret-access-key"):
        assert notes[f"slipway.dev/{key}"]


def test_nodes_pull_with_the_token_in_the_form_that_they_read(
    built: tuple[str, list[dict[str, Any]]],
) -> None:
    cloud, documents = built
    for name in ("pipeline-runner", "slipway-predictor"):
        account = _one(documents, "ServiceAccount", name)
        assert account["imagePullSecrets"] == [{"name": "slipway-registry"}]
    if cloud != "onprem":
        spec = _one(documents, "ExternalSecret", "slipway-registry")["spec"]
        assert spec["target"]["template"]["type"] == "kubernetes.io/dockerconfigjson"
        assert spec["data"][0]["remoteRef"]["key"].endswith("docker-registry-token")
        text = spec["target"]["template"]["data"][".dockerconfigjson"]
        filled = text.replace('{{ printf "slipway:%s" .token | b64enc }}', "c2xpcHdheTp4")
        assert json.loads(filled) == {"auths": {"ghcr.io": {"auth": "c2xpcHdheTp4"}}}


def test_without_a_registry_nodes_pull_as_they_are(tmp_path: Path) -> None:
    _render(tmp_path, "--cloud", "aws", "--registry", "")
    accounts = _documents(tmp_path / "base")
    assert "imagePullSecrets" not in _one(accounts, "ServiceAccount", "pipeline-runner")
    assert "slipway-registry" not in (tmp_path / "overlays" / "aws" / "secrets.yaml").read_text()


def test_nothing_goes_in_or_out_but_what_is_named(
    built: tuple[str, list[dict[str, Any]]],
) -> None:
    policies = {d["metadata"]["name"]: d["spec"] for d in built[1] if d["kind"] == "NetworkPolicy"}
    deny = policies.pop("default-deny")
    assert deny["podSelector"] == {}
    assert sorted(deny["policyTypes"]) == ["Egress", "Ingress"]
    assert not deny.get("ingress")
    assert not deny.get("egress")
    for spec in policies.values():
        assert "Ingress" not in spec["policyTypes"], "the predictor's ingress comes with deploy"
        for rule in spec["egress"]:
            assert rule["ports"], "no rule opens every port"


def test_pod_security_is_restricted(built: tuple[str, list[dict[str, Any]]]) -> None:
    namespace = _one(built[1], "Namespace", "flights-staging")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_names_that_the_compiled_pipelines_read_are_there(
    manifests: Path, compiled: Path
) -> None:
    """What a task takes from the config map or the secret is what the stack renders."""
    from slipway.cluster.doctor.findings import DoctorTarget as Examined

    settings = _one(_documents(manifests / "base"), "ConfigMap", CONFIG_MAP)["data"]
    for path in compiled.glob("*.yaml"):
        examined = Examined(
            api=None, namespace="", kfp_namespace="", account="", package=read_package(path)
        )
        for name, keys in examined.references("configMap").items():
            assert name == CONFIG_MAP
            assert {key for key, optional in keys.items() if not optional} <= settings.keys()
        for name, keys in examined.references("secret").items():
            assert name == SECRETS
            assert {key for key, optional in keys.items() if not optional} <= SECRET_KEYS.keys()


def test_the_quota_counts_gpus(manifests: Path) -> None:
    hard = _one(_documents(manifests / "base"), "ResourceQuota", "slipway")["spec"]["hard"]
    assert hard["requests.nvidia.com/gpu"] == "4"


def test_roles_name_verbs_and_never_all(manifests: Path) -> None:
    roles = [d for d in _documents(manifests / "base") if d["kind"] == "Role"]
    assert {r["metadata"]["name"] for r in roles} == {"slipway-task", "slipway-deploy"}
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]


def test_the_doctor_asks_for_exactly_the_rights_that_the_roles_give(repository: Path) -> None:
    def given(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
        return {
            (group, resource, verb)
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    def asked(rights: Any) -> set[tuple[str, str, str]]:
        return {(r.group, kind, verb) for r in rights for kind in r.resources for verb in r.verbs}

    base = repository / "manifests" / "base"
    deploy = yaml.safe_load_all((base / "deploy-role.yaml").read_text())
    task = yaml.safe_load_all((base / "task-role.yaml").read_text())
    assert asked(DEPLOY_RIGHTS) == given(next(iter(deploy))["rules"])
    assert asked(TASK_RIGHTS) == given(next(iter(task))["rules"])


def test_the_committed_manifests_are_what_the_project_renders(
    repository: Path, tmp_path: Path
) -> None:
    _render(tmp_path, "--cloud", "all")
    stale = [
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if path.is_file()
        and path.read_text() != (repository / "manifests" / path.relative_to(tmp_path)).read_text()
    ]
    assert stale == [], "run: slipway stack render --cloud all"
    # Nothing that is committed comes from elsewhere, but for the dashboards and rules of monitoring.
    committed = {p.relative_to(repository / "manifests") for p in _all(repository / "manifests")}
    rendered = {p.relative_to(tmp_path) for p in _all(tmp_path)}
    assert {p for p in committed if p.parts[0] != "monitoring"} == rendered


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_unknown_cloud_is_refused(flights: LoadedProject) -> None:
    with pytest.raises(ProjectError, match="--cloud ibm: it is one of aws, gcp, azure, onprem"):
        Site(project=flights.project, cloud="ibm")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"environment": "Prod"}, "--environment: 'Prod' is not a name of Kubernetes"),
        ({"environment": "dev-"}, "--environment: 'dev-' is not a name"),
        ({"team": "Risk & Co"}, "--team: 'Risk & Co' is not a name"),
        ({"namespace": "team_a"}, "--namespace: 'team_a' is not a name"),
        ({"namespace": "n" * 46}, "--namespace n+: KServe makes the host .* shorten them to 52"),
        (
            {"environment": "e" * 56},
            "--environment e+: the object store's flights-e+-ACCOUNT has 72",
        ),
    ],
    ids=str,
)
def test_a_name_that_a_cluster_would_refuse_is_refused(
    given: dict[str, str], says: str, repository: Path
) -> None:
    overrides = {"deployment.target": "kserve"}
    project = load_project(repository / "examples" / "flights", overrides).project
    with pytest.raises(ProjectError, match=says):
        Site(project=project, cloud="aws", **given)
    Site(project=project, cloud="aws", environment="e" * 40, namespace="n" * 45, team="t" * 63)


# CI


@pytest.fixture
def with_platform(repository: Path) -> Any:
    def make(platform: str) -> Site:
        loaded = load_project(repository / "examples" / "flights", {"ci_cd_platform": platform})
        return Site(project=loaded.project, cloud="aws", namespace="x")

    return make


def _check_schema(schema: str, text: str, path: Path) -> None:
    path.write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("platform", "schema"),
    [("github-actions", "vendor.github-workflows"), ("gitlab-ci", "vendor.gitlab-ci")],
)
def test_ci_is_what_its_published_schema_takes(
    platform: str, schema: str, with_platform: Any, tmp_path: Path
) -> None:
    from slipway.stack.ci import files

    for name, text in files(with_platform(platform)).items():
        _check_schema(schema, text, tmp_path / Path(name).name)


def test_workflows_are_what_their_published_schema_takes(repository: Path, tmp_path: Path) -> None:
    for path in (repository / ".github" / "workflows").glob("*.yaml"):
        _check_schema("vendor.github-workflows", path.read_text(), tmp_path / path.name)


def test_promotion_sends_the_same_files_everywhere_and_builds_nothing(with_platform: Any) -> None:
    from slipway.stack.ci import github

    jobs = github("flights")["jobs"]
    sent = {name: [s["run"] for s in job["steps"] if "run" in s] for name, job in jobs.items()}
    assert list(jobs) == list(ENVIRONMENTS)
    assert sent["dev"] == sent["staging"] == sent["production"]
    assert jobs["staging"]["needs"] == "dev"
    assert jobs["production"]["needs"] == "staging"
    assert not any("compile" in c.split()[1:2] for commands in sent.values() for c in commands)
    content = gitlab("flights")
    assert content["dev"]["script"] == content["production"]["script"]
    assert content["production"]["rules"][0]["when"] == "manual"


def test_tekton_s_linter_finds_nothing(
    with_platform: Any, repository: Path, tmp_path: Path
) -> None:
    from slipway.stack.ci import files

    linter = repository / "build" / "tools" / "node_modules" / ".bin" / "tekton-lint"
    if not linter.is_file():
        pytest.skip("tekton-lint is not installed: `make test` installs it where npm is")
    (text,) = files(with_platform("tekton")).values()
    for name, content, code in (
        ("good", text, 0),
        ("bad", text.replace("$(params.endpoint)", "$(params.endpiont)"), 1),
    ):
        path = tmp_path / f"{name}.yaml"
        path.write_text(content)
        done = subprocess.run(
            [str(linter), "--max-warnings", "0", str(path)], capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout


def test_tekton_names_only_what_it_defines(with_platform: Any) -> None:
    documents = tekton(with_platform("tekton"))
    tasks = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Task"}
    for pipeline in (d for d in documents if d["kind"] == "Pipeline"):
        declared = {p["name"] for p in pipeline["spec"]["params"]}
        names = [task["name"] for task in pipeline["spec"]["tasks"]]
        for task in pipeline["spec"]["tasks"]:
            wanted = {p["name"] for p in tasks[task["taskRef"]["name"]]["spec"]["params"]}
            assert {p["name"] for p in task["params"]} == wanted
            used = json.dumps(task["params"])
            for name in declared:
                used = used.replace(f"$(params.{name})", "")
            assert "$(params." not in used
            assert set(task.get("runAfter", [])) <= set(names)


def test_where_signatures_are_asked_for_the_namespace_has_the_keys(tmp_path: Path) -> None:
    keys = make_keys()
    (tmp_path / "model.pub").write_text(keys.public)
    _render(tmp_path / "out", "--cloud", "all", "--public-keys", str(tmp_path / "model.pub"))
    for cloud in CLOUDS:
        found = _documents(tmp_path / "out" / "overlays" / cloud)
        settings = _one(found, "ConfigMap", CONFIG_MAP)["data"]
        assert settings["MODEL_PUBLIC_KEYS"] == keys.public
        secret = next(d for d in found if d["metadata"]["name"] == SECRETS)
        assert "MODEL_PRIVATE_KEY" in json.dumps(secret).replace("-", "_").upper()
        assert "PRIVATE KEY" not in json.dumps(secret)
    who = "https://github.com/acme/models/** https://token.example"
    (tmp_path / "signers").write_text(who)
    (tmp_path / "root.json").write_text(json.dumps(Sigstore().trusted_root()))
    signers = ("--signers", str(tmp_path / "signers"))
    _render(tmp_path / "who", *signers, "--trust-root", str(tmp_path / "root.json"))
    (overlay,) = (tmp_path / "who" / "overlays").iterdir()
    found = _documents(overlay)
    settings = _one(found, "ConfigMap", CONFIG_MAP)["data"]
    assert settings["MODEL_SIGNERS"] == who and "MODEL_PUBLIC_KEYS" not in settings
    assert settings["MODEL_TRUST_ROOT"] == (tmp_path / "root.json").read_text()
    secret = next(d for d in found if d["metadata"]["name"] == SECRETS)
    assert "PRIVATE_KEY" not in json.dumps(secret).replace("-", "_").upper()
    with pytest.raises(SlipwayError, match="MODEL_TRUST_ROOT is not set"):
        CliRunner().invoke(
            stack_app, ["render", "--out", str(tmp_path), *signers], catch_exceptions=False
        )
    (tmp_path / "model.pub").write_text(keys.private)
    with pytest.raises(SlipwayError, match="MODEL_PUBLIC_KEYS holds no public key") as told:
        CliRunner().invoke(
            stack_app,
            ["render", "--out", str(tmp_path), "--public-keys", str(tmp_path / "model.pub")],
            catch_exceptions=False,
        )
    assert keys.private.splitlines()[1] not in str(told.value)


def test_only_on_gke_pods_may_ask_a_metadata_address(
    built: tuple[str, list[dict[str, Any]]],
) -> None:
    cloud, documents = built
    blocks = {
        way["ipBlock"]["cidr"]: [port["port"] for port in egress["ports"]]
        for document in documents
        if document["kind"] == "NetworkPolicy"
        for egress in document["spec"].get("egress", [])
        for way in egress.get("to", [])
        if "ipBlock" in way
    }
    everywhere = {"0.0.0.0/0": [443, 6443], "::/0": [443, 6443]}
    google = {"169.254.169.252/32": [988], "169.254.169.254/32": [80]} if cloud == "gcp" else {}
    assert blocks == everywhere | google


def test_a_cloud_is_one_entry_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with neither a secret store of its own nor an S3 at another address, as a new one begins."""
    cloud = Cloud(region="eu-de", bucket=lambda site, name: f"s3://{name}-{site.account}")
    monkeypatch.setitem(CLOUDS, "other", cloud)
    _render(tmp_path, "--cloud", "other", "--environment", "staging", "--account", "42")
    documents = _documents(tmp_path / "overlays" / "other")
    settings = _one(documents, "ConfigMap", CONFIG_MAP)["data"]
    assert settings["REGION"] == "eu-de"
    assert settings["INFERENCE_LOG_URI"] == "s3://flights-staging-42/inference-log"
    assert "AWS_ENDPOINT_URL" not in settings
    annotations = _one(documents, "Secret", MODELS_SECRET)["metadata"]["annotations"]
    assert not [name for name in annotations if name.startswith("serving.kserve.io/")]
