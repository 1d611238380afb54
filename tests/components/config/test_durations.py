"""Every duration of a project file: what is none, or longer than any time, is refused by its name."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, ValidationError
from support.settings import EVERY

from slipway.components.config.base import LONGEST, format_duration, parse_duration
from slipway.components.config.checks.messages import problems
from slipway.components.config.data import Window, resolve_window, widen
from slipway.components.config.features.label import Label
from slipway.components.config.project import load_project
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.pipelines.compiler import compile_project


def is_duration(annotation: Any, metadata: list[Any]) -> bool:
    """Whether a field, or one of the forms that it can have, is read as a duration."""
    if any(isinstance(m, BeforeValidator) and m.func is parse_duration for m in metadata):
        return True
    if get_origin(annotation) is list:  # of several, as an aggregate's windows: test_aggregates
        return False
    return any(
        is_duration(inner, list(getattr(inner, "__metadata__", ())))
        for inner in get_args(annotation)
    )


def durations() -> Iterator[tuple[type[BaseModel], str]]:
    for model, name in EVERY:
        for key, field in model.model_fields.items():
            if (field.alias or key) == name and is_duration(field.annotation, field.metadata):
                yield model, name


DURATIONS = [*durations(), (Label, "above")]
NAMES = [f"{model.__name__}.{name}" for model, name in DURATIONS]
TOO_LONG = st.one_of(
    st.builds(
        lambda seconds, unit: (
            f"{seconds // {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}[unit] + 1}{unit}"
        ),
        st.integers(int(LONGEST.total_seconds()), 10**40),
        st.sampled_from("smhd"),
    ),
    st.sampled_from(["100000000d", "999999999d", "9" * 5000 + "w", "24856d"]),
)
NONE = st.one_of(
    st.sampled_from(["-1d", "1.5h", "1y", "d", "2 hours", "", "1d2h", "inf", "1e3s"]),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
    st.timedeltas(max_value=timedelta(microseconds=-1)),
    st.timedeltas(min_value=LONGEST + timedelta(microseconds=1)),
)


def said(model: type[BaseModel], name: str, value: Any) -> list[str]:
    """What is said of one setting; others that are missing do not matter."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        found = problems(error, {name: value}, model)
        return [sentence for place, sentence in found if place[:1] == (name,)]
    return []


def test_the_walk_finds_them() -> None:
    """The properties would hold if it found nothing."""
    assert len(NAMES) >= 22
    assert {
        "Examples.lead", "Aggregate.window", "FeatureView.ttl", "Split.gap", "Schedule.every",
        "RetrainSettings.cooldown", "Orchestration.keep", "CanaryConfig.window", "RuleSettings.for",
    } <= set(NAMES)  # fmt: skip


@pytest.mark.parametrize(("model", "name"), DURATIONS, ids=NAMES)
@settings(max_examples=40, deadline=None)
@given(value=TOO_LONG)
def test_what_is_longer_than_any_time_is_refused(
    model: type[BaseModel], name: str, value: str
) -> None:
    (sentence,) = said(model, name, value)
    assert sentence.startswith(f"{name}: '{value[:20]}")
    assert "is longer than the longest duration, 24855d" in sentence


@pytest.mark.parametrize(("model", "name"), DURATIONS, ids=NAMES)
@settings(max_examples=40, deadline=None)
@given(value=NONE)
def test_what_is_no_duration_is_refused(model: type[BaseModel], name: str, value: Any) -> None:
    if (model, name, value) == (Label, "above", timedelta(0)):
        return
    sentences = said(model, name, value)
    assert len(sentences) == 1, value
    assert sentences[0].startswith(f"{name}: ")


@pytest.mark.parametrize(("model", "name"), DURATIONS[:-1], ids=NAMES[:-1])
@settings(max_examples=20, deadline=None)
@given(seconds=st.one_of(st.integers(-(10**12), 10**12), st.floats(allow_nan=False)))
def test_a_number_without_a_unit_is_refused(
    model: type[BaseModel], name: str, seconds: float
) -> None:
    assert "has no unit" in " ".join(said(model, name, seconds))


@pytest.mark.parametrize(("model", "name"), DURATIONS, ids=NAMES)
@settings(max_examples=20, deadline=None)
@given(seconds=st.integers(1, int(LONGEST.total_seconds())))
def test_all_others_are_taken_and_travel(model: type[BaseModel], name: str, seconds: int) -> None:
    text = format_duration(timedelta(seconds=seconds))
    assert said(model, name, text) == []
    assert parse_duration(text) == timedelta(seconds=seconds)


def test_the_file_and_the_key_are_named(repository: Path) -> None:
    project = repository / "examples/flights"
    with pytest.raises(ProjectError) as caught:
        load_project(project, {"features.examples.lead": "100000000d", "features.split.gap": "9w9"})
    assert "features.examples.lead: '100000000d' is longer" in str(caught.value)
    assert "features.split.gap: '9w9' is not a duration" in str(caught.value)


def test_the_longest_fit_where_kubernetes_counts_them(repository: Path, tmp_path: Path) -> None:
    longest = format_duration(LONGEST)
    keys = ("orchestration.deadline", "orchestration.keep", "orchestration.tasks.train.timeout")
    loaded = load_project(repository / "examples/flights", dict.fromkeys(keys, longest))
    compile_project(loaded, tmp_path)
    assert (tmp_path / "flights-training.yaml").exists()


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("0001-01-01", "2013-12-01", "data.window.start: 0001-01-01T00:00:00Z is not between 1700"),
        ("2013-01-01", "9999-12-31", "data.window.end: 9999-12-31T00:00:00Z is not between 1700"),
    ],
)
def test_a_window_of_times_that_are_none_is_refused(
    repository: Path, start: str, end: str, says: str
) -> None:
    given = {"data.window.start": start, "data.window.end": end}
    with pytest.raises(ProjectError, match=says):
        load_project(repository / "examples/flights", given)


def test_windows_from_parameters_do_not_overflow() -> None:
    with pytest.raises(SlipwayError, match="window_start '100000000d' is neither"):
        resolve_window("100000000d", "2013-01-01")
    with pytest.raises(SlipwayError, match="window_start 24855d is before the first year"):
        resolve_window("24855d", "0050-01-01")
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in (10, 9990))
    wide = widen(Window(start=first, end=last), "24855d", "24855d")
    assert (wide.start.year, wide.end.year) == (1, 9999)
    with pytest.raises(SlipwayError, match="before: '100000000d' is longer"):
        widen(Window(start=first, end=last), "100000000d", "")
