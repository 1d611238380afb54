"""What is wrong in settings, in words for a person: none of the model's or the library's own."""

import difflib
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

_EXPECTED: dict[str, Callable[[dict[str, Any]], str]] = {
    "literal_error": lambda c: c["expected"].replace("'", ""),
    "greater_than": lambda c: f"more than {c['gt']:g}",
    "greater_than_equal": lambda c: f"at least {c['ge']:g}",
    "less_than": lambda c: f"less than {c['lt']:g}",
    "less_than_equal": lambda c: f"at most {c['le']:g}",
    "too_short": lambda c: f"{c['min_length']} entries or more",
    "too_long": lambda c: f"{c['max_length']} entries or fewer",
    "string_too_short": lambda c: f"a text of {c['min_length']} characters or more",
    "string_too_long": lambda c: f"a text of {c['max_length']} characters or fewer",
}
_KINDS = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a section of keys and values",
    "model": "a section of keys and values",
    "datetime": "a date or a time in ISO 8601",
    "time": "a duration, as in 2h",
}
_SHOWN = 60


def problems(
    error: ValidationError, given: object, model: type[BaseModel], section: str = ""
) -> Iterator[tuple[Location, str]]:
    """Each setting that is wrong: where it stands, and a sentence that names it.

    Args:
        error: what the model says of the settings.
        given: the settings, as a file or a parameter has them.
        model: the model, for the names that could be meant.
        section: what the model is called, to stand before each key.
    """
    found: dict[Location, list[ErrorDetails]] = {}
    for problem in error.errors():
        found.setdefault(_place(problem, given), []).append(problem)
    for place, several in found.items():
        deeper = any(other[: len(place)] == place and other != place for other in found)
        if deeper and all(_expected(problem) for problem in several):
            continue  # of the forms that a setting can have, another was meant
        key = ".".join(str(part) for part in (section, *place) if part != "")
        yield place, _sentence(key, place, several, model)


def settings_problems(
    error: ValidationError, given: object, model: type[BaseModel], section: str = ""
) -> str:
    """All that is wrong in a section's settings, on one line; arguments as for `problems`."""
    sentences = [sentence for _, sentence in problems(error, given, model, section)]
    return " ".join(dict.fromkeys(sentences))


def _place(problem: ErrorDetails, given: Any) -> Location:
    """Where a problem stands in what was given: without the names of a setting's possible forms."""
    place: list[str | int] = []
    for part in problem["loc"]:
        entry = isinstance(given, list) and isinstance(part, int) and part < len(given)
        if entry or (isinstance(given, dict) and part in given):
            given = given[part]
            place.append(part)
    if problem["type"] == "missing":
        place.append(problem["loc"][-1])
    return tuple(place)


def _sentence(
    key: str, place: Location, several: list[ErrorDetails], model: type[BaseModel]
) -> str:
    kind = several[0]["type"]
    if kind in ("extra_forbidden", "invalid_key"):
        names = _names_at(model, place)
        near = difflib.get_close_matches(str(place[-1]), names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        if names and not near:
            parent = key.rpartition(".")[0]
            hint = f" The keys{f' of {parent}' if parent else ''} are {', '.join(sorted(names))}."
        return f"unknown key {key}.{hint}"
    if kind == "missing":
        return f"{key} is missing."
    own = [p["msg"].removeprefix("Value error, ") for p in several if p["type"] == "value_error"]
    if own:
        words = "; or ".join(dict.fromkeys(own))
    else:
        wanted = " or ".join(dict.fromkeys(filter(None, map(_expected, several))))
        words = f"must be {wanted or 'something else'}, and is {_shown(several[0]['input'])}"
    return f"{key}: {words}." if key else f"{words}."


def _expected(problem: ErrorDetails) -> str | None:
    """What would have been right; None where the model has a sentence of its own."""
    kind = problem["type"]
    if kind in _EXPECTED:
        return _EXPECTED[kind](problem.get("ctx", {}))
    return _KINDS.get(kind.partition("_")[0])


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _names_at(model: type[BaseModel], place: Location) -> list[str]:
    """Names that are valid where `place` stands, found by walking the models."""
    here: object = model
    for part in place[:-1]:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part)) or next(
                (f for f in here.model_fields.values() if f.alias == part), None
            )
            here = field.annotation if field else None
            if get_origin(here) in (dict, list):
                continue  # the next part is one of its keys
        here = _section_in(here)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [field.alias or name for name, field in here.model_fields.items()]
    return []


def _section_in(annotation: object) -> object:
    """The section inside an annotation such as list[FeatureView] or Window | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if annotation is Literal:
        return None
    for argument in get_args(annotation):
        if found := _section_in(argument):
            return found
    return None
