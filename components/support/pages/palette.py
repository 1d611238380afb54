"""The colours of every page and plot, in light and in dark.

A plot is painted in the light ones. `themed` turns them into the page's custom properties, so that one
picture follows the reader's colour scheme.
"""

import re

COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14181f"),
    "panel": ("#f4f6f9", "#1d232d"),
    "line": ("#d9dfe7", "#394352"),
    "ink": ("#1b2430", "#e7ebf1"),
    "soft": ("#545f70", "#a9b4c2"),
    "good": ("#1a6e44", "#63d197"),
    "good-panel": ("#e8f5ed", "#152a1f"),
    "bad": ("#ad241c", "#ff8f86"),
    "bad-panel": ("#fcebea", "#361d1b"),
    "warn": ("#865000", "#f3b94f"),
    "warn-panel": ("#fbf2df", "#302610"),
    "unknown": ("#6247a0", "#bda6f2"),
    "unknown-panel": ("#f1edfa", "#271f3a"),
    "model": ("#1e5ea7", "#7fb4f4"),
    "other": ("#68727f", "#9aa5b3"),
    "champion": ("#b04c1c", "#f29c70"),
    "third": ("#0d7168", "#54c7bb"),
    "fourth": ("#8d3a7d", "#e29bd4"),
    "fifth": ("#6a6410", "#cfc667"),
}
"""By name the colour on a light page and on a dark one. A state has a panel of its own to stand on."""
SERIES = ("model", "champion", "third", "fourth", "fifth", "other")
"""What lines of one plot are painted in, one after the other."""
STATES = ("good", "bad", "warn", "unknown")

_NAMES = {light: name for name, (light, _) in COLOURS.items()}
_HEX = re.compile("|".join(_NAMES))


def colour(name: str) -> str:
    """A colour for a plot."""
    return COLOURS[name][0]


def series(place: int) -> str:
    """The colour of the n-th line of a plot; after the last the first comes again."""
    return colour(SERIES[place % len(SERIES)])


def properties(dark: bool) -> str:
    """The palette as custom properties of a stylesheet."""
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in COLOURS.items())


def themed(svg: str) -> str:
    """A plot that was painted in this palette, with the page's own colours in their place."""
    return _HEX.sub(lambda found: f"var(--{_NAMES[found[0]]})", svg)
