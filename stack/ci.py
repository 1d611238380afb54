"""CI for the platform that a project chose: GitHub Actions, GitLab CI, or Tekton.

All three do the same: check the change, compare the compiled pipelines, and promote. Promotion sends the
committed compiled file, whose digest names the version, to one environment after another; nothing is
compiled or built on the way.
"""

from dataclasses import dataclass
from typing import Any

from slipway.components.support.errors import ProjectError
from slipway.stack.documents import dump
from slipway.stack.site import Site

ENVIRONMENTS = ("dev", "staging", "production")
PYTHON = "python:3.11"
# Actions by commit: a tag can be moved to other code.
CHECKOUT = "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683"  # v4.2.2
SETUP_PYTHON = "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065"  # v5.6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """How a job gets the `slipway` command, and how a change is checked.

    Attributes:
        install: a command. folder: what it puts its programs into; empty: where the shell looks anyway.
        check: commands that fail where a change must not be merged.
    """

    install: str
    folder: str
    check: tuple[str, ...]

    @property
    def on_path(self) -> str:
        """A command after which the shell finds `slipway`."""
        return f"{self.install} && . {self.folder}/activate" if self.folder else self.install


CHECKOUT_TOOLS = Tools(
    install="make .venv/run.done",
    folder=".venv/bin",
    check=("make lint", "make test", "make compile", "git diff --exit-code compiled"),
)
"""For a repository that holds Slipway itself."""


def installed_tools(version: str) -> Tools:
    """For a repository that holds a project alone."""
    return Tools(
        install=f"python -m pip install --quiet 'kfp-slipway[cluster]=={version}'",
        folder="",
        check=("slipway compile --project $PROJECT_FOLDER", "git diff --exit-code compiled"),
    )


def files(site: Site, tools: Tools = CHECKOUT_TOOLS) -> dict[str, str]:
    """File name to content, for the project's ci_cd_platform."""
    platform = site.project.ci_cd_platform
    name = site.project.project_name
    match platform:
        case "github-actions":
            content = {"promote.yaml": github(name, tools)}
        case "gitlab-ci":
            content = {".gitlab-ci.yml": gitlab(name, tools)}
        case "tekton":
            return {"tekton.yaml": dump(*tekton(site, tools))}
        case _:
            raise ProjectError(f"ci_cd_platform {platform} cannot be rendered.")
    return {file: dump(value) for file, value in content.items()}


def _send(project: str) -> list[str]:
    """Sends the committed pipelines and makes the recurring runs what the project file says."""
    return [
        f"slipway doctor compiled/{project}-training.yaml",
        f"slipway upload compiled/{project}-*.yaml",
        "slipway schedule --project $PROJECT_FOLDER",
    ]


def github(project: str, tools: Tools = CHECKOUT_TOOLS) -> dict[str, object]:
    """A workflow: dev on each push to main, then staging, then production after an approval."""
    found = f" && echo $PWD/{tools.folder} >> $GITHUB_PATH" if tools.folder else ""
    setup: list[dict[str, object]] = [
        {"uses": CHECKOUT},
        {"uses": SETUP_PYTHON, "with": {"python-version": "3.11"}},
        {"run": f"{tools.install}{found}"},
    ]
    jobs: dict[str, object] = {}
    for before, environment in zip((None, *ENVIRONMENTS), ENVIRONMENTS, strict=False):
        jobs[environment] = {
            "runs-on": "ubuntu-24.04",
            # An environment's protection rules hold the job until a person approves.
            "environment": environment,
            **({"needs": before} if before else {}),
            "env": {
                "KF_PIPELINES_ENDPOINT": "${{ vars.KF_PIPELINES_ENDPOINT }}",
                "SLIPWAY_NAMESPACE": "${{ vars.SLIPWAY_NAMESPACE }}",
                "SLIPWAY_KFP_TOKEN": "${{ secrets.SLIPWAY_KFP_TOKEN }}",
                "PROJECT_FOLDER": "${{ vars.PROJECT_FOLDER }}",
            },
            "steps": [*setup, *({"run": command} for command in _send(project))],
        }
    return {
        "name": "Promote",
        "on": {"push": {"branches": ["main"], "paths": ["compiled/**"]}, "workflow_dispatch": {}},
        "permissions": {"contents": "read"},
        "concurrency": {"group": "promote", "cancel-in-progress": False},
        "jobs": jobs,
    }


def gitlab(project: str, tools: Tools = CHECKOUT_TOOLS) -> dict[str, object]:
    """The same for GitLab: production waits for a person."""
    content: dict[str, object] = {
        "stages": ["check", *ENVIRONMENTS],
        "default": {"image": PYTHON},
        "check": {
            "stage": "check",
            "before_script": ["apt-get update && apt-get install -y make git"],
            "script": [*([] if tools.folder else [tools.install]), *tools.check],
        },
        "compare": {
            "stage": "check",
            "rules": [{"if": "$CI_PIPELINE_SOURCE == 'merge_request_event'"}],
            "script": [
                tools.on_path,
                "git fetch origin $CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
                f"git show FETCH_HEAD:compiled/{project}-training.yaml > old.yaml",
                f"slipway diff old.yaml compiled/{project}-training.yaml --markdown | tee diff.md",
            ],
            "artifacts": {"paths": ["diff.md"], "expire_in": "30 days"},
        },
    }
    for environment in ENVIRONMENTS:
        rule: dict[str, object] = {
            "if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH",
            "changes": ["compiled/**/*"],
        }
        if environment == "production":
            rule |= {"when": "manual"}
        content[environment] = {
            "stage": environment,
            "environment": {"name": environment},
            "resource_group": environment,
            "rules": [rule],
            "script": [tools.on_path, *_send(project)],
        }
    return content


def tekton(site: Site, tools: Tools = CHECKOUT_TOOLS) -> list[dict[str, object]]:
    """A task that sends to one environment, and a pipeline that goes through them in order.

    Tekton has no approval of its own: production is a pipeline of its own that a person starts.
    """
    labels = {"metadata": {"labels": site.labels}}
    version = "tekton.dev/v1"
    settings = [
        {"name": "KF_PIPELINES_ENDPOINT", "value": "$(params.endpoint)"},
        {"name": "SLIPWAY_NAMESPACE", "value": "$(params.namespace)"},
        {"name": "PROJECT_FOLDER", "value": "$(params.project-folder)"},
        {
            "name": "SLIPWAY_KFP_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "slipway-kfp", "key": "$(params.environment)"}},
        },
    ]
    parameters = [
        {"name": name, "type": "string"}
        for name in ("environment", "endpoint", "namespace", "project-folder")
    ]
    script = "\n".join(
        [
            "#!/usr/bin/env bash",
            "set -euo pipefail",
            tools.install,
            *([f"PATH=$PWD/{tools.folder}:$PATH"] if tools.folder else []),
            *_send(site.project.project_name),
            "",
        ]
    )
    send = {
        "apiVersion": version,
        "kind": "Task",
        "metadata": {"name": "slipway-send", **labels["metadata"]},
        "spec": {
            "params": parameters,
            "workspaces": [{"name": "source"}],
            "steps": [
                {
                    "name": "send",
                    "image": PYTHON,
                    "workingDir": "$(workspaces.source.path)",
                    "env": settings,
                    "script": script,
                }
            ],
        },
    }
    return [
        send,
        _tekton_pipeline("slipway-promote", ENVIRONMENTS[:2], labels),
        _tekton_pipeline("slipway-production", ENVIRONMENTS[2:], labels),
    ]


def _tekton_pipeline(
    name: str, environments: tuple[str, ...], labels: dict[str, Any]
) -> dict[str, Any]:
    tasks = []
    for before, environment in zip((None, *environments), environments, strict=False):
        given = {
            "environment": environment,
            "endpoint": f"$(params.{environment}-endpoint)",
            "namespace": f"$(params.{environment}-namespace)",
            "project-folder": "$(params.project-folder)",
        }
        tasks.append(
            {
                "name": environment,
                **({"runAfter": [before]} if before else {}),
                "taskRef": {"name": "slipway-send"},
                "params": [{"name": key, "value": value} for key, value in given.items()],
                "workspaces": [{"name": "source", "workspace": "source"}],
            }
        )
    names = [f"{e}-{part}" for e in environments for part in ("endpoint", "namespace")]
    return {
        "apiVersion": "tekton.dev/v1",
        "kind": "Pipeline",
        "metadata": {"name": name, **labels["metadata"]},
        "spec": {
            "params": [{"name": n, "type": "string"} for n in [*names, "project-folder"]],
            "workspaces": [{"name": "source"}],
            "tasks": tasks,
        },
    }
