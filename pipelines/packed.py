"""The settings of a project as the pipelines' parameters hold them, or as files beside the data.

A section that grows with the tables travels as a file where it is too large for a parameter, since the
tasks that read it reach the data anyway. The others (training, gate, deployment) do not grow: one that is
too large all the same is refused before an upload, by its name.
"""

from collections.abc import Callable, Mapping
from typing import Any

from slipway.components.config.checks.places import is_local
from slipway.components.config.model import Project
from slipway.components.config.parameters import struct_of
from slipway.components.support.settings import Packed, pack_struct, pack_text


def _labels_alone(project: Project) -> dict[str, Any]:
    """Of the tables monitoring needs the labels' alone; another may well have no row in a window."""
    table = project.features.examples.table
    kept = {name: found for name, found in project.data.tables.items() if name == table}
    return struct_of(project.data.model_copy(update={"tables": kept}), "data")


_STRUCTS: dict[str, Callable[[Project], dict[str, Any]]] = {
    "data": lambda project: struct_of(project.data, "data"),
    "labels": _labels_alone,
    "features": lambda project: project.features.to_struct(),
    "monitoring": lambda project: project.monitoring.to_struct(),
}


def shared_root(project: Project) -> str:
    """Where tables lie, for a pipeline's default: empty for a folder of this machine.

    A form on a cluster would offer it, and no pod has it; a run on this machine names it itself.
    """
    return "" if is_local(project.data.root) else project.data.root


def pack_section(project: Project, name: str) -> Packed:
    """A section as its parameter holds it.

    Args:
        project: the project.
        name: data, features, monitoring; or labels: the data section with the labels' table alone.
    """
    return pack_struct(name, _STRUCTS[name](project))


def pack_schema(schema: Mapping[str, object]) -> Packed:
    """The content of a schema file as its parameter holds it: as text, so that numbers stay exact."""
    return pack_text("schema", schema)


def packed_files(project: Project, schema: Mapping[str, object]) -> dict[str, bytes]:
    """The files of all that is too large for a parameter: path to content."""
    packed = [pack_schema(schema), *(pack_section(project, name) for name in _STRUCTS)]
    return {path: content for setting in packed for path, content in setting.files.items()}
