"""`slipway compile`: a project becomes pipeline YAML, the same bytes on every machine."""

import importlib
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml
from kfp import compiler

from slipway.components.config.project import LoadedProject
from slipway.components.support import files
from slipway.components.support.images import STAGES
from slipway.pipelines.backfill import backfill_pipeline
from slipway.pipelines.monitoring import monitoring_pipeline
from slipway.pipelines.package import read_package
from slipway.pipelines.packed import packed_files
from slipway.pipelines.scoring import scoring_pipeline
from slipway.pipelines.training import training_pipeline

# Faces beside the stages' own that another pipeline may use: file to package and function.
MORE_FACES: dict[str, tuple[str, str]] = {
    "plan-ingest": ("ingest", "plan_ingest"),
    "ingest-shard": ("ingest", "ingest_shard"),
    "merge-dataset": ("ingest", "merge_dataset"),
    "validate-shard": ("validate", "validate_shard"),
    "merge-validated": ("validate", "merge_validated"),
    "scoring-features": ("features", "scoring_features"),
    "backfill": ("features", "backfill"),
    "score": ("deploy", "score"),
    "plan-scoring": ("deploy", "plan_scoring"),
    "score-shard": ("deploy", "score_shard"),
    "merge-predictions": ("deploy", "merge_predictions"),
    "monitor-predictions": ("monitor", "monitor_predictions"),
    "plan-monitoring": ("monitor", "plan_monitoring"),
    "monitor-shard": ("monitor", "monitor_shard"),
    "merge-monitoring": ("monitor", "merge_monitoring"),
}
COMPONENTS = Path(__file__).resolve().parents[1] / "components"
_DUMPER: object = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


# What each pipeline's definition is made of.
PIPELINES: dict[str, Callable[[LoadedProject], object]] = {
    "training": lambda of: training_pipeline(of.project, of.schema_content),
    "retraining": lambda of: training_pipeline(of.project, of.schema_content, scheduled=True),
    "monitoring": lambda of: monitoring_pipeline(of.project),
    "scoring": lambda of: scoring_pipeline(of.project, of.schema_content),
    "backfill": lambda of: backfill_pipeline(of.project, of.schema_content),
}


def compile_project(loaded: LoadedProject, folder: Path) -> list[Path]:
    """Writes the pipelines, the components, and the pipelines as Kubernetes manifests.

    Those are <project>-training.yaml, -retraining.yaml, -monitoring.yaml, -scoring.yaml and
    -backfill.yaml, components/<stage>.yaml, and gitops/ with each pipeline as `Pipeline` and
    `PipelineVersion` objects. A setting that is too large for a parameter is a file in _slipway/.

    Args:
        loaded: the project.
        folder: where to write; files with other names there are left alone.

    Returns:
        The files, in the order written.
    """
    pipelines = compile_pipelines(loaded, folder, PIPELINES)
    written = list(pipelines)
    for file, (package, function) in {**{s: (s, s) for s in packages()}, **MORE_FACES}.items():
        face = importlib.import_module(f"slipway.components.{package}.component")
        written.append(_write(getattr(face, function), folder / f"components/{file}.yaml"))
    written += [_write_manifests(path) for path in pipelines]
    return written + write_packed(loaded, folder)


def compile_pipelines(loaded: LoadedProject, folder: Path, names: Iterable[str]) -> list[Path]:
    """Writes the named ones of `PIPELINES`; what is too large for a parameter, `write_packed` does."""
    definitions = {name: PIPELINES[name](loaded) for name in names}
    return [
        _write(definition, folder / f"{loaded.project.project_name}-{name}.yaml")
        for name, definition in definitions.items()
    ]


def write_packed(loaded: LoadedProject, folder: Path) -> list[Path]:
    """Writes the settings that are too large for a parameter, each as a file."""
    written = []
    for path, content in packed_files(loaded.project, loaded.schema_content).items():
        files.write_text(folder / path, content.decode())
        written.append(folder / path)
    return written


def packages() -> list[str]:
    """Every package with a face: the stages in their order, then those that were added to them."""
    found = {path.parent.name for path in COMPONENTS.glob("*/component.py")}
    return [*STAGES, *sorted(found - {*STAGES})]


def _write_manifests(path: Path) -> Path:
    """Writes a compiled pipeline as the objects that a GitOps controller applies."""
    package = read_package(path)
    version = package.version_name
    kinds: dict[str, dict[str, object]] = {
        "Pipeline": {"displayName": package.name, "description": package.description},
        "PipelineVersion": {
            "displayName": version,
            "description": package.description,
            "pipelineName": package.name,
            "pipelineSpec": package.spec,
            "platformSpec": package.platform,
        },
    }
    names = {"Pipeline": package.name, "PipelineVersion": f"{package.name}-{version}"}
    documents = [
        {
            "apiVersion": "pipelines.kubeflow.org/v2beta1",
            "kind": kind,
            "metadata": {"name": names[kind]},
            "spec": {key: value for key, value in spec.items() if value},
        }
        for kind, spec in kinds.items()
    ]
    target = path.parent / "gitops" / path.name
    files.write_text(target, yaml.dump_all(documents, Dumper=_DUMPER, sort_keys=True))
    return target


def _write(definition: object, path: Path) -> Path:
    """Compiles into a scratch file first, so that a failure leaves the old YAML whole."""
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(definition, str(compiled))
        text = compiled.read_text(encoding="utf-8")
    # The compiler's heading shows structs in the order of a hash table, another one every time.
    # A setting that travels as text is JSON, too.
    text = re.sub(
        r"^(#    \w+: (?:dict|list|str)) \[Default: '?[\[{].*\]$", r"\1", text, flags=re.MULTILINE
    )
    files.write_text(path, text)
    return path
