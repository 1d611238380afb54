"""The package of docs/your-own-code.md, as pip leaves it in an environment."""

import re
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your-own-code.md").read_text()
CODE = {
    name: block
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for name in re.findall(r"\A# shop/(\w+)\.py\n", block)
}


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "shop-slipway", **modules: str
) -> None:
    """Makes a package with the page's entry points and code, findable until the test ends.

    Args:
        folder: an empty one.
        name: of the distribution; the package is called by its first word.
        modules: code in the place of the page's.
    """
    module = name.partition("-")[0]
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    points = re.findall(r"\[project\.entry-points\.\"(.*?)\"\]\n(.*)", PAGE)
    text = "".join(f"[{group}]\n{line.replace(chr(34), '')}\n" for group, line in points)
    (info / "entry_points.txt").write_text(text.replace("shop.", f"{module}."))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (folder / module).mkdir()
    for file, code in (CODE | modules).items():
        (folder / module / f"{file}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    for file in (module, *(f"{module}.{file}" for file in CODE)):
        monkeypatch.delitem(sys.modules, file, raising=False)
