"""A component in a checkout of Slipway: a stage of the collection, entered where the others are."""

import re
from pathlib import Path

from slipway import components
from slipway.commands.new.locks import lock_text
from slipway.commands.new.names import NewFiles, filled, result_class
from slipway.components.support.errors import SlipwayError
from slipway.components.support.images import LOCK, image

_PYPROJECT, _IMAGES = "pyproject.toml", "images/images.lock.yaml"
_REQUIREMENTS = "kfp\npydantic\n"


def is_checkout(folder: Path) -> bool:
    """Whether a folder is a checkout of Slipway."""
    pyproject = folder / _PYPROJECT
    return (
        (folder / _IMAGES).is_file()
        and pyproject.is_file()
        and 'name = "kfp-slipway"' in pyproject.read_text(encoding="utf-8")
    )


def component_files(name: str, folder: Path) -> NewFiles:
    """The files of a new stage, and the lists that it is entered in.

    Args:
        name: of the component.
        folder: the checkout.

    Raises:
        SlipwayError: a list is not where it is expected.
    """
    from slipway.commands.stage_pages import END, START

    parts = {
        "name": name,
        "package": components.__name__,
        "result_class": result_class(name),
        "version": image("validate", LOCK).rpartition(":")[2].partition("@")[0],
    }
    line = "\nfrom slipway.components.support.images import image\n"
    face = filled("component.py", **parts, image=f'image("{name}")', image_line=line)
    inside, built = f"components/{name}", f"images/{name}"
    return NewFiles(
        new={
            f"{inside}/__init__.py": f'"""The {name} stage."""\n',
            f"{inside}/component.py": face,
            f"{inside}/{name}.py": filled("work.py", **parts),
            f"{inside}/README.md": filled("README.md", **parts, table=f"{START}\n{END}"),
            f"{built}/Dockerfile": filled("checkout.Dockerfile", **parts),
            f"{built}/requirements.in": _REQUIREMENTS,
            f"{built}/requirements.lock": lock_text(folder, _REQUIREMENTS.split()),
            f"tests/components/{name}/test_{name}.py": filled("test.py", **parts),
        },
        changed={
            _PYPROJECT: _enter_package(name, (folder / _PYPROJECT).read_text(encoding="utf-8")),
            _IMAGES: _enter_image(name, (folder / _IMAGES).read_text(encoding="utf-8")),
        },
        advice=(
            f"make compile format && make test TEST_ARGS=tests/components/{name}; where it stands in a"
            " pipeline is yours to say: docs/extending.md"
        ),
    )


def _enter_package(name: str, text: str) -> str:
    """pyproject.toml with the package, the layer of its face, and its independence of other stages.

    Raises:
        SlipwayError: a list is not where it is expected.
    """
    package = f"{components.__name__}.{name}"
    listed = re.search(r"^packages = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    layer = f'| {components.__name__}.monitor.component",'
    stages = f'"{components.__name__}.monitor",'
    if not listed or layer not in text or text.count(f" {stages}") < 3:
        raise SlipwayError(
            f"{_PYPROJECT} does not list the stages as it did: enter the package {package} by hand, as"
            " docs/extending.md says."
        )
    lines = sorted({*listed[1].splitlines(), f'  "{package}",'})
    start, end = listed.span(1)
    rest = text[end:].replace(layer, f'{layer[:-2]} | {package}.component",')
    rest = rest.replace(f", {stages}", f', {stages} "{package}",')
    return text[:start] + "".join(f"{line}\n" for line in lines) + rest


def _enter_image(name: str, text: str) -> str:
    """images.lock.yaml with the image's line, as a build without a registry names it."""
    stage = re.search(r"^  monitor: .*\n", text, re.MULTILINE)
    if not stage:
        raise SlipwayError(f"{_IMAGES} has no line of monitor: enter the image of {name} by hand.")
    tag = image("validate", LOCK).rpartition(":")[2].partition("@")[0]
    return f"{text[: stage.end()]}  {name}: slipway/{name}:{tag}\n{text[stage.end() :]}"
