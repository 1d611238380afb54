"""A setting comes out of its parameter as it went in, whole numbers of any size among it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as given_
from hypothesis import strategies as st

from slipway.components.support.errors import SlipwayError
from slipway.components.support.settings import (
    FILE,
    INLINE,
    given,
    locate,
    pack_struct,
    pack_text,
    read_setting,
    reference_in,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


# No setting of ours has a field of the name by which a file is named: `read_setting` refuses it.
CONTENTS = st.dictionaries(st.text().filter(lambda key: key != FILE), VALUES)


@given_(CONTENTS)
def test_what_is_packed_as_text_is_read_exactly(content: dict[str, Any]) -> None:
    packed = pack_text("schema", content)
    assert packed.value.isascii(), "MySQL, as Kubeflow opens it, has no place for others"
    assert read_setting("schema", packed.value, "") == content


@given_(CONTENTS)
def test_a_struct_is_itself(content: dict[str, Any]) -> None:
    assert read_setting("features", pack_struct("features", content).value, "") == content


WIDE = {"tables": {"t": {"columns": {f"c{n}": {"maximum": 2**53 + n} for n in range(2000)}}}}


@pytest.mark.parametrize("pack", [pack_text, pack_struct])
@pytest.mark.parametrize("where", ["root", "folder", "memory"])
def test_what_is_large_lies_in_a_file_that_is_named_after_its_content(
    pack: Any, where: str, tmp_path: Path
) -> None:
    packed = pack("schema", WIDE)
    assert len(json.dumps(packed.value)) < 200
    ((path, content),) = packed.files.items()
    assert reference_in(packed.value) == path
    assert packed == pack("schema", dict(WIDE)), "the same content has the same name"
    root, value = str(tmp_path), packed.value
    if where == "memory":
        import fsspec

        root = f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/{path}", content)
    else:
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(content)
    if where == "folder":
        root, value = "/elsewhere", locate(packed.value, tmp_path)
    assert read_setting("schema", value, root) == WIDE


def test_the_bound_is_that_of_the_parameter() -> None:
    text = "x" * (INLINE - len(json.dumps(json.dumps({"a": ""}, separators=(",", ":")))))
    assert pack_text("schema", {"a": text}).files == {}
    assert len(pack_text("schema", {"a": text + "x"}).files) == 1


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    for value in ("s3://lake", "_slipway/x.json", "{}", 3, {"a": 1}, {FILE: "x", "a": 1}, ""):
        assert reference_in(value) is None
        assert locate(value, tmp_path) is value


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "there is no such file. `slipway upload` puts it there"),
        (lambda path: path.write_text("{}"), "it was changed"),
        (lambda path: path.chmod(0) or path.unlink() or path.mkdir(), "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_it_was_is_refused(
    damage: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = pack_text("schema", WIDE)
    ((path, content),) = packed.files.items()
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_bytes(content)
    damage(tmp_path / path)
    with pytest.raises(SlipwayError, match=said):
        read_setting("schema", packed.value, str(tmp_path))
    # A stage says it as a stage does, without a traceback.
    with pytest.raises(SystemExit):
        given("schema", packed.value, str(tmp_path))
    assert (
        said.split("`")[0].strip()
        in json.loads(capsys.readouterr().out.partition(" ")[2])["message"]
    )


@pytest.mark.parametrize("text", ["", "no JSON", "{", "[1]", '"x"'])
def test_text_that_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(SlipwayError, match="schema is no JSON"):
        read_setting("schema", text, "")


def test_keys_beside_a_file_are_refused_since_they_would_be_ignored(tmp_path: Path) -> None:
    packed = pack_struct("features", WIDE)
    for path, content in packed.files.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(content)
    assert read_setting("features", packed.value, str(tmp_path)) == WIDE
    with pytest.raises(SlipwayError, match=r"features is the file _slipway/.*, and has gap beside"):
        read_setting("features", {**packed.value, "gap": "1d"}, str(tmp_path))
