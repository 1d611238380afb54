"""The project file as text: each value with its reason above it, the same bytes for the same guesses."""

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

WIDTH = 100


class Flow(dict[str, Any]):
    """A section that stands on one line where it fits."""


class Document:
    """A project file in the making: values at their places, and what stands above them."""

    def __init__(self, heading: list[str]) -> None:
        self._heading = heading
        self._content: dict[str, Any] = {}
        self._comments: dict[tuple[str, ...], list[str]] = {}

    def set(self, place: str, value: object, *comments: str) -> None:
        """Puts a value at a place such as `features.label.column`.

        Args:
            place: the path of keys, with dots.
            value: what stands there.
            comments: paragraphs that stand above it.
        """
        *sections, key = place.split(".")
        here = self._content
        for section in sections:
            here = here.setdefault(section, {})
        here[key] = value
        self.comment(place, *comments)

    def comment(self, place: str, *comments: str) -> None:
        """Adds paragraphs above a place."""
        self._comments.setdefault(tuple(place.split(".")), []).extend(filter(None, comments))

    def text(self) -> str:
        """The whole file."""
        lines = list(self._heading)
        for key, value in self._content.items():
            lines.append("")
            lines += self._entry((key,), value, 0)
        return "\n".join(lines) + "\n"

    def _entry(self, place: tuple[str, ...], value: object, depth: int) -> list[str]:
        indent = "  " * depth
        lines = []
        for comment in self._comments.get(place, ()):
            lines += textwrap.wrap(
                comment, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        key = _scalar(place[-1])
        if isinstance(value, Flow):
            line = f"{indent}{key}: {_flow(value)}"
            if len(line) <= WIDTH:
                return [*lines, line]
        if isinstance(value, Mapping) and value:
            inner = [
                line
                for name, part in value.items()
                for line in self._entry((*place, name), part, depth + 1)
            ]
            return [*lines, f"{indent}{key}:", *inner]
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(f"{indent}{key}:")
            for number, part in enumerate(value):
                lines += self._item((*place, str(number)), part, depth + 1)
            return lines
        return [*lines, f"{indent}{key}: {_flow(value)}"]

    def _item(self, place: tuple[str, ...], section: Mapping[str, object], depth: int) -> list[str]:
        """A section of a list: its first key behind a dash."""
        indent = "  " * depth
        comments = [
            line
            for comment in self._comments.get(place, ())
            for line in textwrap.wrap(
                comment, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ",
                break_long_words=False, break_on_hyphens=False,
            )
        ]  # fmt: skip
        inner = [
            line
            for name, part in section.items()
            for line in self._entry((*place, name), part, depth + 1)
        ]
        return [*comments, f"{indent}- {inner[0].lstrip()}", *inner[1:]]


def _scalar(value: object) -> str:
    text = yaml.safe_dump(value, allow_unicode=True, width=10**6, default_flow_style=True)
    return text.removesuffix("...\n").strip()


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(part) for part in value) + "]"
    text = _scalar(value)
    # A plain text may hold what ends it inside braces.
    if isinstance(value, str) and text == value and any(c in value for c in ",[]{}"):
        return yaml.safe_dump(value, allow_unicode=True, width=10**6, default_style="'").strip()
    return text
