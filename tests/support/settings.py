"""Every setting of a project file, found by walking its sections."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from slipway.components.config.model import Project


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections(argument)


def settings(model: type[BaseModel], seen: set[type]) -> Iterator[tuple[type[BaseModel], str]]:
    """Every setting of a section and of those within it."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield model, field.alias or name
        for inner in sections(field.annotation):
            yield from settings(inner, seen)


EVERY = list(settings(Project, set()))
