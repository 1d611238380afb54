"""The reference pages: components from their faces, the project file from its model, commands from typer."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import messages
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slipway.commands import stage_pages
from slipway.commands.cli import app
from slipway.components.config.model import CHOICES, Project
from slipway.components.support import environment
from slipway.components.support.images import image
from slipway.pipelines.compiler import packages as packages
from slipway.pipelines.tasks import (
    RESOURCES,
    RETRIES,
    SECRET_SETTINGS,
    SETTINGS,
    TIMEOUT,
    USER,
    TaskResources,
)
from slipway.stack.rights import DEPLOY_RIGHTS, TASK_RIGHTS, Right

ROOT = Path(__file__).resolve().parents[2]
# A compiled component in a pipeline of one's own: what each is given by the ones before it.
_UPSTREAM = {"dataset": "ingest", "splits": "features", "bundle": "train", "verdict": "evaluate",
             "release": "register", "card": "evaluate"}  # fmt: skip


def component_page(stage: str) -> str:
    """A page a component: its README, then what follows from the code."""
    text = (ROOT / "components" / stage / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\(\.\./\.\./docs/([\w/-]+\.md)", r"](../\1", text)
    text = re.sub(r"\]\(\.\./(\w+)/README\.md", r"](\1.md", text)
    text = re.sub(r"\[[^\]]+\]\((\w+\.py)\)", rf"`components/{stage}/\1`", text)
    errors = messages.read_messages(ROOT / "components" / stage, ROOT)
    parts = [
        text.rstrip(),
        f"## In a pipeline of your own\n\n{_example(stage)}",
        f"## What it runs with\n\n{_runs_with(stage)}",
        f"## What it may do\n\n{_rights(stage)}",
        f"## Errors\n\n{_errors(errors)}",
    ]
    return "\n\n".join(parts) + "\n"


def _face(stage: str) -> Any:
    return getattr(importlib.import_module(f"slipway.components.{stage}.component"), stage)


def _example(stage: str) -> str:
    """The component loaded from its compiled file, with each required input given."""
    given, sources = [], set()
    for name, value in (_face(stage).component_spec.inputs or {}).items():
        if getattr(value, "optional", False):
            continue
        if name in _UPSTREAM and _UPSTREAM[name] != stage:
            sources.add(_UPSTREAM[name])
            given.append(f'{name}={_UPSTREAM[name]}_task.outputs["{name}"]')
        else:
            given.append(f"{name}={name}")
    lines = ",\n    ".join(given)
    before = f"  # after {', '.join(sorted(sources))}" if sources else ""
    return (
        "`slipway compile` writes it as YAML, which any KFP pipeline loads; the inputs are in the table above.\n\n"
        "```python\nfrom kfp import components\n\n"
        f'{stage} = components.load_component_from_file("compiled/components/{stage}.yaml")\n'
        f"{stage}_task = {stage}({before}\n    {lines},\n)\n```"
    )


def _runs_with(stage: str) -> str:
    usual = RESOURCES.get(stage, TaskResources())
    rows = [
        ("image", f"`{image(stage)}` (`images/{stage}/Dockerfile`)"),
        (
            "cores, memory",
            f"{usual.cpu}, {usual.memory}; `orchestration.tasks.{stage}` changes them",
        ),
        (
            "tries",
            f"{RETRIES} more after the first, each of at most {TIMEOUT.seconds // 60} minutes",
        ),
        ("user", f"{USER}, not root; no file is written but below `/tmp` and the outputs"),
    ]
    for name in SETTINGS.get(stage, ()):
        where = environment.SECRETS if name in SECRET_SETTINGS else environment.CONFIG_MAP
        rows.append((f"`{name}`", f"from `{where}`: {environment.VARIABLES[name]}"))
    return "| | |\n| --- | --- |\n" + "".join(f"| {key} | {text} |\n" for key, text in rows)


def _rights(stage: str) -> str:
    """Its service account's rights: what every task may, and what is there for this one."""
    rights = [r for r in TASK_RIGHTS if r.whose.split()[0].rstrip(",") in ("every", stage)]
    rights += DEPLOY_RIGHTS if stage == "deploy" else ()
    account = "`slipway-deploy`" if stage == "deploy" else "the pipeline's own"
    head = f"Its pods run as {account} account, in the project's namespace alone.\n\n"
    rows = "".join(
        f"| {_resources(right)} | {', '.join(right.verbs)} | {right.whose} |\n" for right in rights
    )
    return f"{head}| resource | verbs | for |\n| --- | --- | --- |\n{rows}"


def _resources(right: Right) -> str:
    named = f" ({', '.join(right.names)})" if right.names else ""
    return f"{', '.join(right.resources)}{f'.{right.group}' if right.group else ''}{named}"


def _errors(found: list[messages.Message]) -> str:
    rows = "".join(f"| {messages.escaped(error.text)} |\n" for error in found)
    return f"… stands for what is put in.\n\n| message |\n| --- |\n{rows}"


def project_page() -> str:
    """The project file: every setting with its type, default and text."""
    parts = [
        "# The project file\n\n`project.yaml`, section by section, from the model that reads it. What has a default may be left"
        " out; a key that is not here is refused with its line and the nearest name. `slipway schema project` prints the same as a"
        " JSON Schema for editors.\n\n```yaml\n"
        + (ROOT / "examples/flights/project.yaml")
        .read_text(encoding="utf-8")
        .split("\nfeatures:")[0]
        .rstrip()
        + "\n```\n\n## The stack\n\n| setting | default | may be |\n| --- | --- | --- |\n"
    ]
    for name, field in Project.model_fields.items():
        if name in CHOICES or name == "project_name":
            known = ", ".join(c for c, works in CHOICES.get(name, {}).items() if works)
            default = "–" if field.is_required() else f"`{field.default}`"
            parts.append(
                f"| `{name}` | {default} | {known or 'lower-case letters, digits and -, at most 40'} |\n"
            )
    for name, field in Project.model_fields.items():
        inner = _section(field.annotation)
        if name in CHOICES or name == "project_name":
            continue
        key = field.alias or name
        if inner is None:
            parts.append(
                f"\n## {key}\n\nA path from the project's folder to the tables' schema file.\n"
            )
            continue
        about = inspect.getdoc(inner) or ""
        parts.append(
            f"\n## {key}\n\n{_first(about)}\n\n| setting | type | default | meaning |\n| --- | --- | --- | --- |\n"
        )
        prefix = "<name>." if get_origin(_bare(field.annotation)) is dict else ""
        parts += [_row(f"{prefix}{path}", setting) for path, setting in stage_pages.leaves(inner)]
    parts.append(
        f"\n## Errors\n\nA problem is printed with its line. {_errors(messages.read_messages(ROOT / 'components/config', ROOT))}"
    )
    return "".join(parts)


def _first(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _bare(annotation: Any) -> Any:
    """An annotation without Annotated and without None."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    inner = [a for a in get_args(annotation) if a is not type(None)]
    if type(None) in get_args(annotation) and len(inner) == 1:
        return _bare(inner[0])
    return annotation


def _section(annotation: Any) -> type[BaseModel] | None:
    bare = _bare(annotation)
    for found in (bare, *get_args(bare)):
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return None


def _row(path: str, field: FieldInfo) -> str:
    text = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `{path}` | {_type(field.annotation)} | {stage_pages.default(field)} | {text} |\n"


_WORDS = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "timedelta": "duration",
          "datetime": "time", "NoneType": "", "Any": "anything", "Path": "path"}  # fmt: skip


def _type(annotation: Any) -> str:
    """A setting's type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return f"{_type(arguments[0])} to {_type(arguments[1])}"
    if origin in (list, tuple, set, frozenset):
        return f"list of {_type(arguments[0])}" if arguments else "list"
    if arguments:
        words = dict.fromkeys(filter(None, map(_type, arguments)))
        return " or ".join(words)
    name = getattr(annotation, "__name__", str(annotation))
    return _WORDS.get(name, "a section" if inspect.isclass(annotation) else name)


def commands_page() -> str:
    """Every command with its arguments and options, from the parser itself."""
    group = typer.main.get_command(app)
    context = group.make_context("slipway", [], resilient_parsing=True)
    parts = [
        "# Commands\n\nWhat `slipway COMMAND --help` says. `slipway --version` prints the version; `--debug` shows tracebacks.\n"
    ]
    for name, command in sorted(_commands(group, context, "")):
        text = inspect.cleandoc(command.help or "").replace("Example:", "\n**Example:**")
        parts.append(f"\n## slipway {name}\n\n{text}\n")
        rows = [
            _parameter(parameter)
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
        ]
        if rows:
            parts.append("\n| option | default | meaning |\n| --- | --- | --- |\n" + "".join(rows))
    return "".join(parts)


def _commands(group: Any, context: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from _commands(command, context, f"{prefix}{name} ")
        elif not command.hidden:
            yield f"{prefix}{name}", command


def _parameter(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    names = (
        ", ".join(f"`{name}`" for name in parameter.opts)
        if is_option
        else f"`{parameter.name.upper()}`"
    )
    default = parameter.default
    plain = (
        isinstance(default, str | int | float | Path)
        and not isinstance(default, bool)
        and str(default) not in ("", ".")
    )
    shown = f"`{getattr(default, 'value', default)}`" if plain else ""
    text = " ".join((parameter.help or "").split()).replace("|", "\\|").replace("<", "&lt;")
    return f"| {names} | {shown} | {text} |\n"
