"""Records between stages: what is written is read back; what does not fit is refused by its field."""

import importlib
import json
import pkgutil
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from slipway.components import contracts
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.dataset import Manifest
from slipway.components.contracts.monitoring.monitoring_record import (
    MonitoringRecord,
    RetrainRequest,
)
from slipway.components.contracts.record import Record
from slipway.components.contracts.release import Deployment, Release
from slipway.components.contracts.splits import Splits
from slipway.components.contracts.verdict import Verdict
from slipway.components.support.errors import SlipwayError


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Record):
    ABSENT: ClassVar[str] = "is no whole"
    REMEDY: ClassVar[str] = "Make it anew."

    kind: Literal["a", "b"]
    count: int
    good: bool
    window: tuple[str, str]
    parts: tuple[Part, ...]
    by_name: dict[str, float]
    names: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


WHOLE = Whole(
    kind="a",
    count=3,
    good=True,
    window=("x", "y"),
    parts=(Part(name="p", share=0.5), Part(name="q")),
    by_name={"one": 1.0},
    names=["n"],
    notes={"any": [1, {"thing": None}]},
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    WHOLE.write(tmp_path / "whole.json")
    assert Whole.read(tmp_path / "whole.json") == WHOLE
    assert Whole.parse(WHOLE.to_json(), "a cell") == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["whole.json"]


def test_what_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(WHOLE, by_name={"x": float("nan")}).write(tmp_path / "whole.json")
    assert not list(tmp_path.iterdir())


CASES: list[tuple[str, Any, str]] = [
    ("count", "3", 'count is "3", and must be a whole number.'),
    ("count", 3.5, "count is 3.5, and must be a whole number."),
    ("count", True, "count is true, and must be a whole number."),
    ("good", 1, "good is 1, and must be true or false."),
    ("kind", "c", 'kind is "c", and must be a or b.'),
    ("kind", ["a"], 'kind is ["a"], and must be a or b.'),
    ("window", ["x"], 'window is ["x"], and must be a list of 2.'),
    ("window", "xy", 'window is "xy", and must be a list.'),
    ("parts", [{"name": 1}], "parts[0].name is 1, and must be a text."),
    ("parts", [{}], "the field parts[0].name is missing."),
    ("parts", [{"name": "p", "share": "0.9"}], 'parts[0].share is "0.9", and must be a finite'),
    ("parts", [{"name": "p", "more": 1}], "this release knows no field parts[0].more."),
    ("by_name", {"one": None}, "by_name.one is null, and must be a finite number."),
    ("by_name", {"one": float("inf")}, "by_name.one is Infinity, and must be a finite number."),
    ("by_name", [], "by_name is [], and must be an object."),
    ("names", [None], "names[0] is null, and must be a text."),
    ("more", 1, "this release knows no field more."),
    ("count", "x" * 500, "…"),
]


@pytest.mark.parametrize(("name", "value", "said"), CASES)
def test_a_field_of_another_type_is_named_with_its_value(
    name: str, value: Any, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(json.loads(WHOLE.to_json()) | {name: value}))
    with pytest.raises(SlipwayError) as raised:
        Whole.read(path)
    message = str(raised.value)
    assert message.startswith(f"{path} is damaged: ") and said in message
    assert message.endswith(" Make it anew.") and len(message) < 400


def test_a_whole_number_is_a_number_and_a_default_may_be_absent() -> None:
    content = json.loads(WHOLE.to_json()) | {"by_name": {"one": 1}}
    del content["notes"]
    assert Whole.parse(json.dumps(content), "x").by_name == {"one": 1}


def records() -> list[type[Record]]:
    for module in pkgutil.walk_packages(contracts.__path__, f"{contracts.__name__}."):
        importlib.import_module(module.name)
    # A test that ran before may have imported a record of a stage's own.
    ours = (k for k in Record.__subclasses__() if k.__module__.startswith(contracts.__name__))
    return [kind for kind in ours if kind is not Whole]


def test_all_records_of_the_contracts_are_of_this_kind() -> None:
    known = {
        Bundle,
        Deployment,
        Manifest,
        MonitoringRecord,
        Release,
        RetrainRequest,
        Splits,
        Verdict,
    }
    assert known <= set(records())


@pytest.mark.parametrize("kind", records(), ids=lambda kind: kind.__name__)
def test_every_record_says_which_field_is_missing(kind: type[Record], tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    required = [
        f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING
    ]
    path.write_text('{"version": 1}')
    with pytest.raises(SlipwayError, match=f"the field {required[0]} is missing"):
        kind.read(path)
    path.unlink()
    with pytest.raises(SlipwayError, match=r"it has no record\.json"):
        kind.read(path)
