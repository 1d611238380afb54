"""A component in a project of one's own: its code lies beside project.yaml."""

from pathlib import Path

from slipway.commands.new.names import NewFiles, filled, result_class
from slipway.components.support.images import image

_TABLE = """\
| | name | type | |
| --- | --- | --- | --- |
| input | `dataset` | Dataset | The ingested or validated tables. |
| input | `table` | String | The table that is looked at; the others pass as they are. |
| input | `columns` | List | Its columns that must have a value. |
| output | `result` | Dataset | The same tables without those rows. |"""
_IMAGE = """
# By its digest on a cluster, whose cache goes by this text: registry.example.com/$@sha256:…
IMAGE = "$:0.1.0"
"""


def component_files(name: str, folder: Path) -> NewFiles:
    """The files of a component in a project.

    Args:
        name: of the component.
        folder: the project's; it need not be one yet.
    """
    parts = {"name": name, "package": "components", "result_class": result_class(name)}
    face = filled("component.py", **parts, image="IMAGE", image_line=_IMAGE.replace("$", name))
    inside, built = f"components/{name}", f"images/{name}"
    new = {
        f"{inside}/__init__.py": f'"""{name}: a stage of this project."""\n',
        f"{inside}/component.py": face,
        f"{inside}/{name}.py": filled("work.py", **parts),
        f"{inside}/README.md": filled("README.md", **parts, table=_TABLE),
        f"{built}/Dockerfile": filled("Dockerfile", **parts, slipway_image=image("validate")),
        f"{built}/requirements.txt": filled("requirements.txt"),
        f"tests/test_{name}.py": filled("test.py", **parts),
    }
    there = "" if folder == Path() else f"cd {folder} && "
    return NewFiles(new=new, advice=f"{there}python -m pytest tests/test_{name}.py")
