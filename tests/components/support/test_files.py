"""Atomic writes: all of a result is visible, or none of it."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.components.support import files
from slipway.components.support.errors import SlipwayError


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    files.write_json(target, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(target, {"a": float("nan")})
    assert json.loads(target.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_a_full_disk_is_told_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "value.json"
    files.write_json(target, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*value\.json"):
        files.write_json(target, {"a": 2})
    assert json.loads(target.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_a_directory_appears_only_when_its_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "dataset"
    with pytest.raises(RuntimeError), files.new_directory(target) as scratch:
        (scratch / "half").write_text("x")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with files.new_directory(target) as scratch:
        (scratch / "whole").write_text("x")
        assert not target.exists()
    assert os.listdir(target) == ["whole"]


def test_a_retry_replaces_the_earlier_directory(tmp_path: Path) -> None:
    target = tmp_path / "dataset"
    for name in ("first", "second"):
        with files.new_directory(target) as scratch:
            (scratch / name).write_text("x")
    assert os.listdir(target) == ["second"]
    assert os.listdir(tmp_path) == ["dataset"]


def test_a_failed_retry_keeps_the_earlier_directory(tmp_path: Path) -> None:
    target = tmp_path / "dataset"
    with files.new_directory(target) as scratch:
        (scratch / "first").write_text("x")
    with pytest.raises(RuntimeError), files.new_directory(target):
        raise RuntimeError
    assert os.listdir(target) == ["first"]


def test_a_retry_removes_what_a_killed_try_left_and_not_what_is_being_written(
    tmp_path: Path,
) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from slipway.components.support.files import new_directory\n"
        "with new_directory(pathlib.Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'half').write_text('x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    target = tmp_path / "data[set]"
    killed = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert killed.returncode == -9
    assert [name.endswith(".partial") for name in os.listdir(tmp_path)] == [True]
    with files.new_directory(target) as mine:
        (mine / "whole").write_text("x")
        with files.new_directory(target) as other:
            (other / "whole").write_text("y")
            assert sorted(tmp_path.iterdir()) == sorted([mine, other])
    assert os.listdir(tmp_path) == ["data[set]"]
    assert (target / "whole").read_text() == "x"


def test_the_hash_of_a_directory_sees_names_and_bytes(tmp_path: Path) -> None:
    def folder(name: str, content: dict[str, str]) -> Path:
        for file, text in content.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / name

    one = files.hash_directory(folder("one", {"a": "1", "b/c": "2"}))
    assert files.hash_directory(folder("two", {"b/c": "2", "a": "1"})) == one
    assert files.hash_directory(folder("three", {"a": "1", "b/d": "2"})) != one
    assert files.hash_directory(folder("four", {"a": "1", "b/c": "3"})) != one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"splits holds no splits: it has no splits\.json\."),
        (b"{", r"splits\.json is damaged: .* Run the stage again\."),
        (b"\xff", r"splits\.json is damaged: .* Run the stage again\."),
        (b"[1]", r"splits\.json is damaged: it is no JSON object"),
        (b'{"version": 2}', r"splits\.json has layout version 2; this release reads 1\. Run"),
        (b"{}", "layout version None"),
    ],
)
def test_a_header_that_is_not_whole_is_refused(
    text: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "splits" / "splits.json"
    path.parent.mkdir()
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(SlipwayError, match=said):
        files.read_header(path, 1, "holds no splits")


def test_a_header_of_the_version_asked_for_is_read(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"version": 3, "rows": 1})
    assert files.read_header(tmp_path / "x.json", 3, "is nothing") == {"version": 3, "rows": 1}


def test_a_killed_write_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    """The half of a writer that was killed goes; that of one at work stays, and both writes succeed."""
    killed = tmp_path / ".report.0a1b.partial"
    killed.write_text("half")
    other = tmp_path / ".reports.0a1b.partial"
    other.write_text("of another file")
    at_work = tmp_path / ".report.2c3d.partial"
    with at_work.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files.write_text(tmp_path / "report", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [at_work.name, other.name, "report"]
    files.write_text(tmp_path / "report", "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "report"]
    assert (tmp_path / "report").read_text() == "again"
