"""Renders a page: a stage's template within the frame that all pages share.

A template extends `page.html.j2` (or another's, as `local/evidence.html.j2`), imports
`macros.html.j2`, and gets the functions of `digits` as filters. What it makes stands alone: its style
and its plots are within it, and it loads and runs nothing.
"""

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.support.files import write_text
from slipway.components.support.pages import digits, palette

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

HERE = Path(__file__).parent
_CODE = re.compile(r"`([^`\n]+)`")
_FILTERS = (
    digits.number,
    digits.span,
    digits.share,
    digits.count,
    digits.seconds,
    digits.power,
    digits.counted,
    digits.moment,
    digits.stretch,
)


def write_page(path: Path, template: Path, **content: object) -> None:
    """Writes a page, atomically.

    Args:
        path: the HTML file.
        template: the stage's own template.
        content: what the template shows.
    """
    write_text(path, render_page(template, **content))


def render_page(template: Path, **content: object) -> str:
    """A page as text; a name that the template uses and `content` lacks is an error."""
    return _environment(template.parent).get_template(template.name).render(content)


def marked(text: str) -> "Markup":
    """A text with what stands between backticks as code; all else in it is text."""
    from markupsafe import Markup, escape

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


@functools.cache
def _environment(folder: Path) -> "Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, HERE, HERE.parents[2]]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {made.__name__: made for made in (*_FILTERS, marked)}
    environment.globals |= {
        "light": palette.properties(dark=False),
        "dark": palette.properties(dark=True),
        "states": palette.STATES,
    }
    return environment
