"""What is compiled: the same bytes everywhere, and on every task what the design asks for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from slipway.cluster.checks import containers, find_faults
from slipway.components.config.orchestration import TaskName
from slipway.components.config.project import LoadedProject, load_project
from slipway.components.support.errors import ProjectError
from slipway.components.support.images import STAGES
from slipway.pipelines.compiler import MORE_FACES, compile_project
from slipway.pipelines.package import read_package
from slipway.pipelines.training import training_arguments

PIPELINES = ("training", "retraining", "monitoring", "scoring", "backfill")
NEVER_CACHED = {
    "training": {"evaluate", "report-verdict", "register", "deploy", "report-end"},
    "retraining": {"evaluate", "report-verdict", "register", "deploy", "report-end"},
    "monitoring": {"ingest", "monitor", "retrain", "report-end"},
    "scoring": {"ingest", "score", "monitor-predictions", "report-end"},
    "backfill": {"ingest", "backfill", "report-end"},
}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.yaml"))}


def test_the_committed_yaml_is_what_the_project_compiles_to(
    compiled: Path, repository: Path
) -> None:
    fresh, committed = _files(compiled), _files(repository / "compiled")
    stale = sorted(name for name in fresh if committed.get(name) != fresh[name])
    assert stale == [], "run: make compile"


def test_bytes_do_not_depend_on_hash_seed_directory_or_home(
    compiled: Path, repository: Path, tmp_path: Path
) -> None:
    """Compiled in another directory, with another hash seed, home, zone and locale."""
    project = tmp_path / "elsewhere" / "flights"
    shutil.copytree(repository / "examples" / "flights", project)
    for seed in ("0", "4711"):
        out = tmp_path / seed
        subprocess.run(
            [
                *(str(Path(sys.executable).parent / "slipway"), "compile"),
                *("--project", str(project), "--out", str(out)),
            ],
            check=True,
            cwd=tmp_path,
            capture_output=True,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "HOME": str(tmp_path),
                "TZ": "Asia/Tokyo",
                "LC_ALL": "C",
            },
        )
        assert _files(out) == _files(compiled)


def _tasks(spec: dict[str, Any], component: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, task in component["dag"]["tasks"].items():
        inner = spec["components"][task["componentRef"]["name"]]
        found |= _tasks(spec, inner) if "dag" in inner else {name: task}
    return found


@pytest.fixture(params=PIPELINES)
def pipeline(request: pytest.FixtureRequest, compiled: Path) -> tuple[str, Any]:
    return request.param, read_package(compiled / f"flights-{request.param}.yaml")


def test_every_task_has_retries_a_timeout_resources_and_a_numeric_user(
    pipeline: tuple[str, Any],
) -> None:
    _, package = pipeline
    platform = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, task in _tasks(package.spec, package.spec["root"]).items():
        assert task["retryPolicy"]["maxRetryCount"] == 3, name
        assert task["retryPolicy"]["backoffFactor"] == 2
        executor = platform[f"exec-{name}"]
        assert executor["activeDeadlineSeconds"] == "3600"
        assert executor["securityContext"]["runAsNonRoot"] is True
        assert int(executor["securityContext"]["runAsUser"]) > 0
        labels = executor["podMetadata"]["labels"]
        token = {"access-ml-pipeline": "true"} if name == "retrain" else {}
        assert labels == {"slipway.dev/project": "flights", "slipway.dev/stage": name, **token}
        resources = containers(package)[f"exec-{name}"]["resources"]
        for key in ("resourceCpuLimit", "resourceCpuRequest"):
            assert float(resources[key]) >= 1
        for key in ("resourceMemoryLimit", "resourceMemoryRequest"):
            assert resources[key].endswith("Gi")


def test_training_asks_for_accelerators_through_parameters(compiled: Path) -> None:
    package = read_package(compiled / "flights-training.yaml")
    resources = containers(package)["exec-train"]["resources"]["accelerator"]
    assert "training_gpu_type" in resources["resourceType"]
    assert "training_gpus" in resources["resourceCount"]
    platform = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    train = platform["exec-train"]
    assert "training_gpu_node_selector" in json.dumps(train["nodeSelector"])
    assert "training_gpu_tolerations" in json.dumps(train["tolerations"])
    (memory,) = train["emptyDirMounts"]
    assert (memory["mountPath"], memory["medium"]) == ("/dev/shm", "Memory")
    for name, executor in platform.items():
        if name != "exec-train":
            assert "nodeSelector" not in executor
    for name in (
        "training_gpu_type",
        "training_gpus",
        "training_gpu_node_selector",
        "training_gpu_tolerations",
    ):
        assert name in package.parameters


def test_what_depends_on_the_world_outside_is_never_cached(pipeline: tuple[str, Any]) -> None:
    name, package = pipeline
    tasks = _tasks(package.spec, package.spec["root"])
    uncached = {n for n, t in tasks.items() if not t["cachingOptions"].get("enableCache")}
    assert uncached == NEVER_CACHED[name]


def test_only_scheduled_pipelines_ask_when_they_were_scheduled(pipeline: tuple[str, Any]) -> None:
    """The schedule's time in a task's inputs makes another cache key of every run."""
    name, package = pipeline
    asks = "pipeline_job_schedule_time_utc" in json.dumps(package.spec)
    assert asks == (name != "training")


def test_registration_and_deployment_are_behind_the_gate(compiled: Path) -> None:
    for name in ("training", "retraining"):
        spec = read_package(compiled / f"flights-{name}.yaml").spec
        tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
        outside = {t for t in tasks if not t.startswith("condition")}
        stages = {"ingest", "validate", "features", "train", "evaluate"}
        assert outside == {*stages, "report-verdict"}
        (condition,) = tasks.keys() - outside
        task = tasks[condition]
        assert task["triggerPolicy"]["condition"].endswith("== 'pass'")
        assert "evaluate" in task["dependentTasks"]


def test_everything_a_person_sees_is_explained(pipeline: tuple[str, Any]) -> None:
    _, package = pipeline
    info = package.spec["pipelineInfo"]
    assert info["displayName"].startswith("flights: ")
    assert len(info["description"]) > 40
    for name, declared in package.parameters.items():
        assert declared.get("description"), name
        assert "defaultValue" in declared, name


def test_runs_end_and_are_cleaned_up(pipeline: tuple[str, Any]) -> None:
    _, package = pipeline
    config = package.platform["platforms"]["kubernetes"]["pipelineConfig"]
    assert int(config["activeDeadlineSeconds"]) == 86400
    assert int(config["resourceTtlOnCompletion"]) == 7 * 86400


def test_no_task_installs_anything_when_it_runs(pipeline: tuple[str, Any]) -> None:
    _, package = pipeline
    for name, container in containers(package).items():
        assert "pip install" not in json.dumps(container), name


def test_no_secret_is_in_the_yaml_and_settings_come_by_reference(
    pipeline: tuple[str, Any],
) -> None:
    _, package = pipeline
    assert find_faults(package) == []
    assert "env" not in json.dumps(
        [c.get("env") for c in containers(package).values() if "env" in c]
    )


def test_what_the_section_leaves_to_the_table_is_a_0_in_the_form(repository: Path) -> None:
    project = load_project(repository / "examples/flights").project
    arguments = training_arguments(project, {})
    assert (arguments["training_epochs"], arguments["training_learning_rate"]) == (4, 0.002)
    open_ones = project.training.with_values({"epochs": "auto", "learning_rate": "auto"})
    arguments = training_arguments(project.model_copy(update={"training": open_ones}), {})
    assert (arguments["training_epochs"], arguments["training_learning_rate"]) == (0, 0.0)
    assert isinstance(arguments["training_learning_rate"], float)


def test_scoring_and_backfill_read_as_far_as_the_features_look(compiled: Path) -> None:
    """The flights' longest window and TTL are 30 days each, the lead two hours."""
    scoring = read_package(compiled / "flights-scoring.yaml")
    assert scoring.parameters["history"]["defaultValue"] == "63d"
    assert scoring.parameters["model"]["defaultValue"] == "champion"
    filling = read_package(compiled / "flights-backfill.yaml")
    assert filling.parameters["before"]["defaultValue"] == "32d"
    assert filling.parameters["after"]["defaultValue"] == "60d"
    for package, margins in ((scoring, {"before": "history"}), (filling, {})):
        tasks = package.spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
        inputs = tasks["ingest"]["inputs"]["parameters"]
        for name in ("before", "after"):
            source = inputs.get(name, {}).get("componentInputParameter")
            wanted = margins.get(name, name if not margins else None)
            assert source == (f"pipelinechannel--{wanted}" if wanted else None)


def test_every_pipeline_ends_in_an_exit_handler(pipeline: tuple[str, Any]) -> None:
    _, package = pipeline
    tasks = dict(package.spec["root"]["dag"]["tasks"])
    told = tasks.pop("report-end")
    assert told["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    (group,) = tasks
    assert told["dependentTasks"] == [group]
    assert "dag" in package.spec["components"][tasks[group]["componentRef"]["name"]]


def test_a_setting_that_may_be_a_file_is_read_as_one_by_every_task(
    pipeline: tuple[str, Any],
) -> None:
    """Such a task takes the data root too, and hands both to what reads a parameter or a file."""
    name, package = pipeline
    packable = {"data", "schema", "features", "monitoring"} & set(package.parameters)
    components = [package.spec["root"], *package.spec["components"].values()]
    read = set()
    for component in components:
        for task, found in component.get("dag", {}).get("tasks", {}).items():
            label = package.spec["components"][found["componentRef"]["name"]].get("executorLabel")
            inputs = found.get("inputs", {}).get("parameters", {})
            named = {
                key: source.get("componentInputParameter", "").removeprefix("pipelinechannel--")
                for key, source in inputs.items()
            }
            for key in (key for key, parameter in named.items() if label and parameter in packable):
                read.add(named[key])
                assert named.get("data_root") == "data_root", f"{name}: {task} {key}"
                code = "".join(containers(package)[label]["command"])
                assert f'given("{named[key]}", {key}, data_root)' in code, f"{name}: {task} {key}"
    assert read == packable


def test_each_component_loads_on_its_own(compiled: Path) -> None:
    from kfp import components

    for name in (*STAGES, *MORE_FACES):
        loaded = components.load_component_from_file(str(compiled / "components" / f"{name}.yaml"))
        assert loaded.name == name


def test_an_affinity_that_the_project_declares_is_on_the_training_task(
    repository: Path, tmp_path: Path
) -> None:
    affinity = (
        "{requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions:"
        " [{key: gpu, operator: In, values: [a100]}]}]}}"
    )
    loaded = load_project(
        repository / "examples" / "flights", {"training.accelerator.affinity": affinity}
    )
    compile_project(loaded, tmp_path)
    package = read_package(tmp_path / "flights-training.yaml")
    executors = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert "a100" in json.dumps(executors["exec-train"]["nodeAffinity"])
    assert "nodeAffinity" not in executors["exec-features"]


def _compiled_with(repository: Path, folder: Path, overrides: dict[str, str], name: str) -> Any:
    compile_project(load_project(repository / "examples" / "flights", overrides), folder)
    return read_package(folder / f"flights-{name}.yaml")


def test_what_a_task_asks_of_the_cluster_is_the_project_s_to_say(
    repository: Path, tmp_path: Path
) -> None:
    asked = (
        "{cpu: '16', memory: 64Gi, timeout: 4h, retries: 0, node_selector: {pool: big},"
        " tolerations: [{key: big, operator: Exists}], labels: {cost-centre: '4711'},"
        " affinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms:"
        " [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]}}}"
    )
    overrides = {"orchestration.tasks": f"{{features: {asked}, scoring-features: {asked}}}"}
    for pipeline, name in (("training", "features"), ("scoring", "scoring-features")):
        package = _compiled_with(repository, tmp_path, overrides, pipeline)
        task = _tasks(package.spec, package.spec["root"])[name]
        assert task["retryPolicy"].get("maxRetryCount", 0) == 0
        resources = containers(package)[f"exec-{name}"]["resources"]
        assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"] == "16"
        assert resources["resourceMemoryLimit"] == "64Gi"
        platform = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        executor = platform[f"exec-{name}"]
        assert executor["activeDeadlineSeconds"] == str(4 * 3600)
        assert executor["podMetadata"]["labels"] == {
            "cost-centre": "4711",
            "slipway.dev/project": "flights",
            "slipway.dev/stage": name,
        }
        for key, word in (
            ("nodeSelector", "big"),
            ("tolerations", "big"),
            ("nodeAffinity", "zone"),
        ):
            assert word in json.dumps(executor[key]), key
        assert "nodeSelector" not in platform["exec-validate"]
        assert find_faults(package) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("orchestration.tasks", "{trian: {cpu: '2'}}", "orchestration.tasks.trian"),
        ("orchestration.tasks", "{train: {memory: lots}}", "orchestration.tasks.train.memory"),
        ("orchestration.tasks", "{train: {node_selector: {a: b}}}", "training.accelerator"),
        ("orchestration.workspace", "{size: big}", "orchestration.workspace.size"),
    ],
)
def test_what_the_cluster_would_refuse_is_refused_in_the_project_file(
    repository: Path, key: str, value: str, said: str
) -> None:
    with pytest.raises(ProjectError, match=said):
        load_project(repository / "examples" / "flights", {key: value})


SCRATCH = {
    "training": {"validate", "features", "train"},
    "retraining": {"validate", "features", "train"},
    "monitoring": {"monitor"},
    "scoring": {"validate", "scoring-features"},
    "backfill": {"validate", "backfill"},
}


@pytest.mark.parametrize("chosen", [None, ["monitoring", "scoring", "backfill"]])
def test_a_workspace_that_the_project_declares_is_its_pipelines_scratch_folder(
    repository: Path, tmp_path: Path, chosen: list[str] | None
) -> None:
    volume: dict[str, Any] = {"size": "100Gi", "storage_class": "fast"}
    if chosen:
        volume["pipelines"] = chosen
    overrides = {"orchestration.workspace": json.dumps(volume)}
    compile_project(load_project(repository / "examples" / "flights", overrides), tmp_path)
    for name in PIPELINES:
        package = read_package(tmp_path / f"flights-{name}.yaml")
        config = package.platform["platforms"]["kubernetes"]["pipelineConfig"]
        given = {
            task: spec["inputs"]["parameters"]["scratch"]
            for task, spec in _tasks(package.spec, package.spec["root"]).items()
            if "scratch" in spec.get("inputs", {}).get("parameters", {})
        }
        assert find_faults(package) == []
        if name not in (chosen or ["training", "retraining"]):
            # A run that does not use it gets no volume.
            assert "workspace" not in config and not given
            continue
        patch = {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}
        assert config["workspace"] == {"size": "100Gi", "kubernetes": {"pvcSpecPatch": patch}}
        place = {"runtimeValue": {"constant": "{{$.workspace_path}}"}}
        assert given == dict.fromkeys(SCRATCH[name], place)


def test_temporary_files_lie_on_the_volume_that_a_task_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    from slipway.components.support.environment import use_scratch

    monkeypatch.setenv("TMPDIR", str(tmp_path / "usual"))
    (tmp_path / "usual").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert Path(tempfile.mkdtemp()).parent == tmp_path / "usual"
    use_scratch("")
    assert Path(tempfile.mkdtemp()).parent == tmp_path / "usual"
    use_scratch(str(tmp_path))
    assert Path(tempfile.mkdtemp()).parent == tmp_path


def test_every_task_that_a_pipeline_has_can_be_given_settings() -> None:
    from slipway.pipelines.tasks import HELPERS, RESOURCES

    assert set(get_args(TaskName)) == {*RESOURCES, *HELPERS}


def _crd(repository: Path, name: str) -> dict[str, Any]:
    path = repository.parent / "shared" / "crds" / f"pipelines.kubeflow.org_{name}.yaml"
    if not path.is_file():
        pytest.skip("the published types of Kubeflow Pipelines are not at hand")
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def test_gitops_manifests_are_what_the_published_types_take(
    compiled: Path, repository: Path, flights: LoadedProject
) -> None:
    import jsonschema

    schemas = {
        "Pipeline": _crd(repository, "pipelines"),
        "PipelineVersion": _crd(repository, "pipelineversions"),
    }
    for name in PIPELINES:
        path = compiled / "gitops" / f"flights-{name}.yaml"
        documents = list(yaml.safe_load_all(path.read_text()))
        assert [d["kind"] for d in documents] == ["Pipeline", "PipelineVersion"]
        for document in documents:
            jsonschema.validate(document, schemas[document["kind"]])
        package = read_package(compiled / f"flights-{name}.yaml")
        spec = documents[1]["spec"]
        assert spec["pipelineSpec"] == package.spec
        assert spec["platformSpec"] == package.platform
        assert spec["pipelineName"] == documents[0]["metadata"]["name"] == package.name
        assert spec["displayName"] == package.version_name


def test_on_several_nodes_the_task_itself_takes_no_devices(
    repository: Path, tmp_path: Path
) -> None:
    loaded = load_project(repository / "examples" / "flights", {"training.nodes.count": "2"})
    compile_project(loaded, tmp_path)
    package = read_package(tmp_path / "flights-training.yaml")
    assert "accelerator" not in containers(package)["exec-train"]["resources"]
    platform = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert not {"nodeSelector", "tolerations"} & set(platform["exec-train"])


# What the driver of KFP 2.17.0 gives a container where the MLflow plug-in may (injectUserEnvVars):
# backend/src/v2/common/plugins/mlflow/handler.go and backend/src/common/plugins/mlflow/config.go.
PLUGIN = {
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_WORKSPACE",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
}


def test_no_variable_is_set_twice_not_even_by_kubeflow_s_plug_in(
    pipeline: tuple[str, Any],
) -> None:
    """Argo merges two of one name: a value and a reference in one, which no pod may have."""
    _, package = pipeline
    platform = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for label, executor in platform.items():
        names = [
            pair["envVar"]
            for kind in ("secretAsEnv", "configMapAsEnv")
            for entry in executor.get(kind, ())
            for pair in entry["keyToEnv"]
        ]
        names += [entry["name"] for entry in executor.get("fieldPathAsEnv", ())]
        assert len(names) == len(set(names)), label
        assert not set(names) & PLUGIN, label


def test_retention_of_kubeflow_and_of_online_rows_is_wired_where_it_is_asked_for(
    repository: Path, tmp_path: Path
) -> None:
    keys = {"pipeline_runs": "30d", "pipeline_root": "s3://b/v2/artifacts", "online": "1d"}
    asked = {f"monitoring.retention.{key}": value for key, value in keys.items()}
    for folder, overrides in (("plain", {}), ("pruning", asked)):
        loaded = load_project(repository / "examples" / "flights", overrides)
        compile_project(loaded, tmp_path / folder)
        package = read_package(tmp_path / folder / "flights-monitoring.yaml")
        assert find_faults(package) == []
        executors = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        labels = {
            task.removeprefix("exec-"): spec.get("podMetadata", {}).get("labels", {})
            for task, spec in executors.items()
        }
        let_in = {task for task, found in labels.items() if "access-ml-pipeline" in found}
        assert let_in == ({"retrain", "monitor"} if overrides else {"retrain"})
        assert ("prune-online" in labels) == bool(overrides)
