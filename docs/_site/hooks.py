"""What `mkdocs build` adds to the pages that people wrote: the reference, made from the code itself.

Nothing of it is committed, so that none of it can be stale: a page a component, the project file, and the
commands.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import readable  # noqa: E402
import reference  # noqa: E402


def on_config(config: Any) -> Any:
    """Gives a component that was added to the collection its place in the menu."""
    [menu] = [entry["Reference"] for entry in config.nav if "Reference" in entry]
    there = {place for entry in menu for place in entry.values()}
    added = [name for name in reference.packages() if f"components/{name}.md" not in there]
    menu[-1:-1] = [{name: f"components/{name}.md"} for name in added]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the generated pages."""
    pages = {
        "reference/project.md": reference.project_page(),
        "reference/commands.md": reference.commands_page(),
        **{
            f"components/{name}.md": reference.component_page(name) for name in reference.packages()
        },
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: Any, files: Files) -> str:
    """Turns links to files beside the pages into links between pages."""
    del config, files
    depth = page.file.src_uri.count("/")

    def to_component(match: re.Match[str]) -> str:
        return f"]({'../' * depth}components/{match[1]}.md{match[2] or ''})"

    return re.sub(r"\]\((?:\.\./)+components/(\w+)/README\.md(#[\w-]+)?\)", to_component, markdown)


def on_post_page(output: str, *, page: Page, config: Any) -> str:
    """Makes a page readable for all."""
    del page, config
    return readable.mend(output)
