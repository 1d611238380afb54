"""Abusive documents are refused at once, with file and line, wherever a file of a person is read."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes  # noqa: F401 - its import takes seconds, which are not the reader's
import pytest

from slipway.components.config.project import load_project
from slipway.components.contracts.table_schema.schema import read_schema
from slipway.components.support.documents import (
    MAX_DEPTH,
    UnfitDocument,
    check_yaml,
    load_json,
    load_yaml,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.images import image
from slipway.components.support.kubernetes.cluster import Cluster
from slipway.components.validate.infer import write_schema
from slipway.pipelines.graph import read_tasks
from slipway.pipelines.package import read_package

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60)
)
MERGED = "m0: &m0 {a: 1}\n" + "".join(
    f"m{n}: &m{n} {{b: *m{n - 1}, c: *m{n - 1}}}\n" for n in range(1, 60)
)
YAML = {
    "aliases of aliases": (BOMB, "line 6: with its aliases written out"),
    "maps of maps": (MERGED, "with its aliases written out"),
    "inside itself": ("b: 1\na: &a [*a]\n", r"line 2: \*a stands inside"),
    "a long number": (f"a: 1\nb: {'9' * 5000}\n", "line 2: a number of 5,000 characters"),
    "a long hexadecimal number": (f"b: 0x{'f' * 5000}\n", "line 1: a number of 5,002 characters"),
    "a long sexagesimal number": (f"b: 1{':59' * 5000}\n", "line 1: a number of"),
    "a huge exponent": ("a: 1e999999999\n", "line 1: the number 1e999999999 is larger"),
    "deep lists": ("[" * 100_000, "line 1: lists and maps inside each other"),
    "deep maps": ("".join(" " * n + "a:\n" for n in range(500)), "line 101: lists and maps"),
    "a day that there is not": ("at: 2024-13-45\n", "a value that cannot be|month must be in"),
    "a large file": ("a: b\n" * 2_000_000, "it has more than .* bytes, and is not read"),
}
JSON = {
    "a long number": ('{\n"a": ' + "9" * 5000 + "}", "line 2: a number of 5,000 characters"),
    "a huge exponent": ('{"a": 1e999999999}', "line 1: the number 1e999999999 is larger"),
    "deep lists": ('{"a": ' + "[" * 100_000, "line 1: lists and maps inside each other"),
    "a large file": ('{"a": "' + "x" * (9 << 20) + '"}', "it has more than .* bytes"),
}


def project(path: Path) -> Any:
    return load_project(path)


def kubeconfig(path: Path) -> Any:
    return Cluster("x", "task-role.yaml")


def images(path: Path) -> Any:
    return image("train")


READERS: dict[str, Callable[[Path], Any]] = {
    "project file": project,
    "compiled package": read_package,
    "graph": read_tasks,
    "kubeconfig": kubeconfig,
    "images": images,
}


@pytest.mark.parametrize(("text", "told"), YAML.values(), ids=YAML)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_abusive_yaml_is_refused_in_a_second(
    reader: Callable[[Path], Any],
    text: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(text)
    for name in ("KUBECONFIG", "SLIPWAY_IMAGES"):
        monkeypatch.setenv(name, str(path))
    started = time.process_time()
    with pytest.raises(SlipwayError, match=told) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(("text", "told"), JSON.values(), ids=JSON)
def test_an_abusive_schema_is_refused_in_a_second(
    text: str, told: str, tmp_path: Path, flights: Any
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    source = Path(__file__).resolve().parents[3] / "examples" / "flights" / "project.yaml"
    (folder / "project.yaml").write_text(source.read_text())
    (folder / "schemas").mkdir()
    schema = folder / "schemas" / "input.json"
    schema.write_text(text)
    started = time.process_time()
    with pytest.raises(SlipwayError, match=told) as caught:
        load_project(folder)
    assert "input.json" in str(caught.value)
    with pytest.raises(SlipwayError, match=told):
        write_schema({}, schema, force=False)
    if "bytes" not in told:
        with pytest.raises(SlipwayError, match=told):
            read_schema(text)
    assert time.process_time() - started < 2


def test_what_projects_hold_is_read_as_it_was() -> None:
    text = (
        "a: &a [1, 0x1f, 1e-400, 2024-01-01, 3.5]\n"
        f"b: [*a, *a]\nc: '{'9' * 5000}'\nd: {'word ' * 1000}\n---\ne: {{}}\n"
    )
    first, second = load_yaml(text)
    assert first["b"] == [first["a"]] * 2 and len(first["c"]) == 5000 and second == {"e": {}}
    deep: Any = 0
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert load_json(json.dumps(deep)) == deep == load_yaml(json.dumps(deep))[0]
    with pytest.raises(UnfitDocument):
        check_yaml(json.dumps([deep]))
    with pytest.raises(UnfitDocument):
        load_json(json.dumps([deep]))
    quoted = {"a": "[[[[" * 1000, "b": '"' * 500, "c": "9" * 5000}
    assert load_json(json.dumps(quoted)) == quoted


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(name: str) -> None:
    with pytest.raises(UnfitDocument, match=f"{name} is no number of JSON"):
        load_json(f'{{"minimum": {name}}}')
    assert load_json(f'{{"minimum": "{name}"}}') == {"minimum": name}
