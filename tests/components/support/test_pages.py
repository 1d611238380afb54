"""What all pages share: colours that can be read, numbers that say something, a frame without faults."""

import itertools
import re
from pathlib import Path

import pytest

from slipway.components.support.pages import digits, pages, palette, plots

COMPONENTS = Path(__file__).resolve().parents[3] / "components"
TEMPLATES = sorted(COMPONENTS.rglob("*.html.j2"))


def luminance(colour: str) -> float:
    """Of WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


PAPERS = ["paper", "panel", *(f"{state}-panel" for state in palette.STATES)]
WRITTEN = [
    *itertools.product(["ink", "soft"], PAPERS),
    *(
        (state, ground)
        for state in palette.STATES
        for ground in ("paper", "panel", f"{state}-panel")
    ),
    *itertools.product(palette.SERIES, ["paper"]),
]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), WRITTEN)
def test_what_is_written_can_be_read(text: str, ground: str, scheme: int) -> None:
    """WCAG 2.2 AA asks for 4.5 of text; lines of plots are held to it too, since legends are text."""
    assert contrast(palette.COLOURS[text][scheme], palette.COLOURS[ground][scheme]) >= 4.5


def test_each_colour_of_a_plot_is_one_of_the_page() -> None:
    lights = [light for light, _ in palette.COLOURS.values()]
    assert len(set(lights)) == len(lights)
    svg = plots.draw(lambda axes: axes.plot([0, 1], color=palette.colour("model")), 'a "plot"')
    assert "var(--model)" in svg and "var(--soft)" in svg and "var(--ink)" not in svg
    left = set(re.findall(r"#[0-9a-f]{6}", svg))
    assert left == set(), "a colour that does not follow the page's scheme"
    assert 'role="img" aria-label="a &quot;plot&quot;"' in svg and "<metadata" not in svg


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (15.0, "15"),
        (1234567, "1,234,567"),
        (135.766, "136"),
        (0.74713, "0.747"),
        (0.9997, "0.9997"),
        (0.99999, "0.99999"),
        (-0.99996, "-0.99996"),
        (1.0, "1"),
        (-0.043353, "-0.0434"),
        (0.00012345, "0.000123"),
        (1.19e-7, "1.2 × 10⁻⁷"),
        (12345.6, "12,346"),
    ],
)
def test_a_number_has_three_digits_that_say_something(value: float | None, shown: str) -> None:
    assert digits.number(value) == shown


@pytest.mark.parametrize(
    ("low", "high", "value", "shown"),
    [
        (0.7228, 0.7712, 0.7471, "0.747, 0.723 to 0.771"),
        (0.7459, 0.7483, 0.74713, "0.7471, 0.7459 to 0.7483"),
        (128.3, 143.9, 135.766, "135.8, 128.3 to 143.9"),
        (120_001.0, 140_300.0, 131_415.9, "131,416, 120,001 to 140,300"),
        (-0.0004, 0.0004, 0.0, "0.00000, -0.00040 to 0.00040"),
    ],
)
def test_an_interval_says_how_many_digits_its_value_has(
    low: float, high: float, value: float, shown: str
) -> None:
    places = digits.decimals_of(low, high, value)
    assert f"{digits.number(value, places)}, {digits.span(low, high, places)}" == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0\u00a0%"),
        (1.0, "100\u00a0%"),
        (0.2834, "28.3\u00a0%"),
        (1e-6, "under 0.05\u00a0%"),
        (0.99996, "over 99.95\u00a0%"),
        (0.9994, "99.9\u00a0%"),
    ],
)
def test_a_share_in_per_cent(value: float | None, shown: str) -> None:
    assert digits.share(value) == shown


def test_counts_times_and_moments() -> None:
    assert [digits.counted(n, "member") for n in (1, 3)] == ["1 member", "3 members"]
    assert [digits.seconds(s) for s in (0.52, 61, 125, 7261)] == [
        "0.5 s",
        "61.0 s",
        "2 min 5 s",
        "2 h 1 min",
    ]
    assert [digits.remaining(s) for s in (0.1, 89.4, 125)] == ["0 s", "89 s", "2 min 5 s"]
    assert digits.moment("2013-11-01T00:00:00Z") == "2013-11-01"
    midnight, six, next_day = "2013-11-01T00:00:00Z", "2013-11-01T06:00:07Z", "2013-11-02T06:00:00Z"
    assert digits.stretch(midnight, six) == "2013-11-01 to 2013-11-01 06:00:07"
    assert digits.stretch(six, "2013-11-01T07:30:00Z") == "2013-11-01 06:00:07 to 07:30"
    assert digits.stretch(six, next_day) == "2013-11-01 06:00:07 to 2013-11-02 06:00"
    assert digits.stretch(midnight, "2013-11-08T00:00:00Z") == "2013-11-01 to 2013-11-08"
    assert digits.moment("2013-11-01T05:30:00+00:00") == "2013-11-01 05:30"
    assert digits.moment("2013-11-01T05:30:07.25Z") == "2013-11-01 05:30:07"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_template_keeps_to_the_frame(path: Path) -> None:
    """What axe-core would say of a page, as far as the text of a template tells it."""
    text = path.read_text()
    if path.name == "page.html.j2":
        assert '<html lang="en">' in text and "<main>" in text and text.count("<h1>") == 1
        return
    assert "<style" not in text and "<h1" not in text and "#{" not in text
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b(?!x)", text), "a colour that is none of the palette"
    assert not re.search(r"<th(?! scope)", text.replace("<thead", "")), "a head without a scope"
    for tag in re.findall(r"<svg[^>]*>", text):
        assert "aria-" in tag, "a picture without words"
    levels = [int(level) for level in re.findall(r"<h([2-6])", text)]
    assert all(b - a <= 1 for a, b in itertools.pairwise([1, *levels])), "a level is left out"


def test_a_name_that_is_missing_is_an_error(tmp_path: Path) -> None:
    import jinja2

    template = tmp_path / "t.html.j2"
    template.write_text(
        '{% extends "page.html.j2" %}{% block title %}{{ name }}{% endblock %}'
        "{% block body %}{{ 0.5 | share }}{% endblock %}"
    )
    page = pages.render_page(template, name="a <b>")
    assert "<title>a &lt;b&gt;</title>" in page and "50.0\u00a0%" in page
    assert page.count("--paper: #ffffff") == 2 and page.count("--paper: #14181f") == 1
    with pytest.raises(jinja2.UndefinedError):
        pages.render_page(template)


def test_a_command_between_backticks_is_code_and_all_else_is_text() -> None:
    assert pages.marked("`slipway run` <b> & `a<b`") == (
        "<code>slipway run</code> &lt;b&gt; &amp; <code>a&lt;b</code>"
    )
    assert pages.marked("one ` alone") == "one ` alone"
