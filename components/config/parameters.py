"""Settings that are pipeline parameters of their own, and so not keys of their section's struct.

What people tune most is a typed parameter that the Kubeflow UI shows by itself; the rest of a section
travels as one struct. A value has one place: the struct that a pipeline is compiled with leaves these
out, and a struct that brings one back with another value is refused, since one of the two would be
ignored.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from slipway.components.support.errors import SlipwayError

PARAMETERS: dict[str, dict[str, str]] = {
    "data": {"data_root": "root", "window_start": "window.start", "window_end": "window.end"},
    "training": {
        "training_seed": "seed",
        "training_epochs": "epochs",
        "training_learning_rate": "learning_rate",
        "training_gpus": "accelerator.count",
        "training_gpu_type": "accelerator.type",
        "training_gpu_node_selector": "accelerator.node_selector",
        "training_gpu_tolerations": "accelerator.tolerations",
        "training_allow_cpu": "allow_cpu",
    },
    "gate": {"gate_accuracy": "accuracy", "gate_f1": "f1", "gate_auc": "auc"},
    "deployment": {"deployment_target": "target"},
}
"""Section, and so name of its struct, to parameter, to the key's path in the section."""

_ABSENT = object()


class _Settings(Protocol):
    def to_struct(self) -> dict[str, object]: ...


def struct_of(section: _Settings, name: str) -> dict[str, object]:
    """A section as its struct parameter: without what is a parameter of its own.

    Args:
        section: the settings.
        name: the section's name in the project file.
    """
    struct = section.to_struct()
    for path in PARAMETERS[name].values():
        _remove(struct, path.split("."))
    return struct


def repeated(struct: Mapping[str, object], name: str) -> Iterator[tuple[str, str, object]]:
    """What a struct holds although it is a parameter: the parameter, the key's full name, its value."""
    for parameter, path in PARAMETERS.get(name, {}).items():
        value = find(struct, path, _ABSENT)
        if value is not _ABSENT:
            yield parameter, f"{name}.{path}", value


def with_parameters(
    struct: Mapping[str, Any], name: str, values: Mapping[str, object]
) -> dict[str, object]:
    """A section's struct with the values that came as parameters.

    Args:
        struct: as the pipeline's struct parameter has it.
        name: the section's name.
        values: by parameter.

    Raises:
        SlipwayError: the struct has another value for one of them, or something else in the place of the
            section that one of them belongs in; the message names both.
    """
    for parameter, key, value in repeated(struct, name):
        if parameter in values and value != values[parameter]:
            raise SlipwayError(
                f"{key} is {value!r} in the struct '{name}', and the parameter {parameter} is"
                f" {values[parameter]!r}. The parameter decides: set {parameter}, and take {key} out of"
                " the struct."
            )
    merged = copy.deepcopy(dict(struct))
    for parameter, value in values.items():
        *sections, key = PARAMETERS[name][parameter].split(".")
        place = merged
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise SlipwayError(
                    f"{'.'.join([name, *sections])} is {place!r} in the struct '{name}', and must be a"
                    f" section with keys. Its key {key} is the parameter {parameter}: set that, and take"
                    f" {section} out of the struct."
                )
        place[key] = value
    return merged


def find(struct: object, path: str, default: object = None) -> object:
    """The value of a key of a section or of sections within it, as in `accelerator.count`."""
    for part in path.split("."):
        if not isinstance(struct, Mapping) or part not in struct:
            return default
        struct = struct[part]
    return struct


def _remove(struct: dict[str, Any], path: list[str]) -> None:
    """Removes a key, and a section that has nothing else."""
    first, *rest = path
    if rest and first in struct:
        _remove(struct[first], rest)
    if not rest or not struct.get(first, True):
        struct.pop(first, None)
