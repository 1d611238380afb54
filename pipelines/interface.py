"""A pipeline's parameters, declared apart from its steps, so that each step is a function with a name."""

import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace

ParameterTypes = Mapping[str, type]
"""A pipeline's parameters in the order that they are shown in, with their types."""


class Channels(SimpleNamespace):
    """What KFP gives a pipeline for each parameter while it traces it, as an attribute of that name."""

    def __getattr__(self, name: str) -> object:
        raise AttributeError(f"The pipeline has no parameter {name}.")


def pipeline_function(
    types: ParameterTypes,
    texts: str,
    defaults: Mapping[str, object],
    wire: Callable[[Channels], None],
) -> Callable[..., None]:
    """A function with the signature that `dsl.pipeline` reads, which calls `wire` with the parameters.

    Args:
        types: the parameters.
        texts: a docstring in Google's style with a text for each parameter.
        defaults: by parameter.
        wire: adds the tasks.
    """

    def traced(*channels: object) -> None:
        wire(Channels(**dict(zip(types, channels, strict=True))))

    traced.__doc__ = texts
    traced.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=defaults[name],
                annotation=kind,
            )
            for name, kind in types.items()
        ],
        return_annotation=None,
    )
    return traced
