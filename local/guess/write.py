"""The files of a project: checked as a whole before the first is written."""

import tempfile
from pathlib import Path

from slipway.components.config.editor import schema_text
from slipway.components.config.model import Project
from slipway.components.config.project import FILE_NAME, load_project
from slipway.components.support import files
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.libraries.packages import own_version
from slipway.components.validate.infer import write_schema
from slipway.local.guess.draft import EDITOR_SCHEMA, SCHEMA, Draft, project_text, schema_entries
from slipway.stack import ci
from slipway.stack.site import Site

_CI_PLACES = {"promote.yaml": ".github/workflows/promote.yaml"}


def project_files(draft: Draft, folder: Path, *, with_ci: bool = False) -> dict[str, str]:
    """A draft's files: path below the project's folder to content.

    Args:
        draft: what was guessed.
        folder: where the project is going to be.
        with_ci: also those of its CI platform.

    Raises:
        ProjectError: what was guessed makes no project; the message is that of the project file.
    """
    with tempfile.TemporaryDirectory() as scratch:
        room = Path(scratch)
        files.write_text(room / FILE_NAME, project_text(draft, folder))
        files.write_text(room / EDITOR_SCHEMA, schema_text())
        write_schema(schema_entries(draft), room / SCHEMA)
        try:
            loaded = load_project(room)
        except SlipwayError as error:
            raise ProjectError(str(error).replace(str(room), str(folder))) from error
        made = {
            path.relative_to(room).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(room.rglob("*"))
            if path.is_file()
        }
    return made | (ci_files(loaded.project) if with_ci else {})


def ci_files(project: Project) -> dict[str, str]:
    """The files that a project's CI platform reads: path below the project's folder to content."""
    site = Site(project=project, cloud=project.cloud_provider)
    made = ci.files(site, ci.installed_tools(own_version()))
    heading = (
        f"# For {project.ci_cd_platform}, by `slipway init`; `slipway init --ci-only` renews it.\n"
    )
    return {_CI_PLACES.get(name, name): heading + text for name, text in made.items()}


def write_all(contents: dict[str, str], folder: Path, *, force: bool = False) -> list[Path]:
    """Writes files into a folder, all or none.

    Args:
        contents: path below the folder to content.
        folder: where they go.
        force: replace files that say something else.

    Returns:
        Those that are new or were replaced.

    Raises:
        ProjectError: a file is there with other content.
    """
    changed = {
        folder / name: text
        for name, text in contents.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != text.encode()
    }
    there = [str(path) for path in changed if path.exists()]
    if there and not force:
        one = len(there) == 1
        already = (
            f"{'is' if one else 'are'} there already and {'says' if one else 'say'} something else"
        )
        raise ProjectError(
            f"{', '.join(there)} {already}. Nothing is written. Give another folder with --out, or"
            " --force to replace what is there."
        )
    for path, text in changed.items():
        files.write_text(path, text)
    return list(changed)
