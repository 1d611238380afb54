"""What a page of the site lacks for who reads it by keyboard or hears it: found by axe-core.

The theme's search has no name, a section with a page of its own names its menu by an icon, a table or a
picture that is wider than the page cannot be moved by keyboard, and a table's empty corner is announced as
a heading. What the theme does once the page is open is mended in `assets/site.js`.
"""

import re

_SEARCH = re.compile(r'(<div class="md-search" data-md-component="search" role="dialog")>')
_MENU = re.compile(
    r'(<nav class="md-nav" data-md-level="\d+") aria-labelledby="[^"]*"([^>]*>\s*'
    r'<label class="md-nav__title"[^>]*>\s*<span class="md-nav__icon md-icon"></span>\s*)([^<]+?)(\s*<)'
)
_PICTURE = re.compile(r'<p>(<img [^>]*src="[^"]*\.svg"[^>]*>)</p>')
_CORNER = re.compile(r"<th([^>]*)></th>")
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)


def mend(html: str) -> str:
    """The page with names, and with a stop for the keyboard at what can be moved sideways."""
    html = _SEARCH.sub(r'\1 aria-label="Search">', html)
    html = _MENU.sub(r'\1 aria-label="\3"\2\3\4', html)
    html = _PICTURE.sub(r'<p role="group" aria-label="Picture" tabindex="0">\1</p>', html)
    html = _CORNER.sub(r"<td\1></td>", html)
    return _TABLE.sub(
        lambda found: (
            f'<div class="table" role="group" aria-label="Table" tabindex="0">{found[0]}</div>'
        ),
        html,
    )
