"""The challenger against the champion: the same rows, each with its own preprocessing."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from support import gate_world as world
from support.http_answers import answering, closed_port, silent
from support.registry import crown, mlflow_client

from slipway.components.contracts.bundle import ONNX
from slipway.components.evaluate.champion import fetch_champion
from slipway.components.evaluate.evaluate import Evaluation, EvaluationTask, evaluate_model
from slipway.components.support.tracking import NoAnswer, Refused

GATE: dict[str, Any] = {
    "accuracy": 0.5,
    "f1": 0.1,
    "auc": 0.5,
    "calibration_error": 0.5,
    "resamples": 300,
    "rehearsal": {"enabled": False},
    "baseline": {"linear": False},
    "slices": {"automatic": False},
    "champion": {"margins": {"auc": 0.01}},
}
WORSE = (1.5, 0.0, 0.5, -1.0)


def run(bundle: Path, splits: Path, out: Path, **gate: Any) -> Evaluation:
    return evaluate_model(
        EvaluationTask(
            bundle_path=bundle,
            splits_path=splits,
            project="toy",
            config={**GATE, **gate},
            verdict_path=out / "verdict.json",
            card_path=out / "card.html",
        )
    )


def test_no_champion_is_said_and_no_rule(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    assert fetch_champion("toy", tmp_path) is None
    mlflow_client().create_registered_model("toy")
    assert fetch_champion("toy", tmp_path) is None
    verdict = run(bundle, splits, tmp_path).verdict
    assert verdict.notes["champion"].startswith("There is no champion yet")
    assert not [rule for rule in verdict.rules if rule.name.startswith("champion")]
    assert run(bundle, splits, tmp_path, auc=0.9999).verdict.outcome == "fail"
    assert "Nothing is registered or deployed.</p>" in (tmp_path / "card.html").read_text()


def test_against_a_champion(bundle: Path, splits: Path, tmp_path: Path, registry: str) -> None:
    worse = tmp_path / "worse"
    world.make_bundle(worse, weights=WORSE)
    crown(worse)
    better = run(bundle, splits, tmp_path).verdict
    assert better.outcome == "pass"
    assert better.notes["champion"] == "version 1"
    (rule,) = [rule for rule in better.rules if rule.name == "champion auc"]
    assert rule.low is not None and rule.low > 0.02
    card = (tmp_path / "card.html").read_text()
    assert "Against the champion" in card and ">champion (AUC 0.7" in card
    assert '<span class="tag good">better</span>' in card
    mlflow_client().delete_registered_model("toy")

    crown(bundle)
    equal = run(bundle, splits, tmp_path).verdict
    (rule,) = [rule for rule in equal.rules if rule.name == "champion auc"]
    assert (equal.outcome, rule.value, rule.low, rule.high) == ("pass", 0.0, 0.0, 0.0)
    sliced = run(
        worse,
        splits,
        tmp_path,
        slices={"columns": ["colour"], "margins": {"auc": 0.01}, "automatic": False},
    ).verdict
    assert sliced.outcome == "fail"
    assert sorted(rule.name for rule in sliced.rules if rule.outcome == "fail") == [
        "champion auc",
        *(f"slice colour={colour} auc against champion" for colour in ("blue", "green", "red")),
    ]
    (rule,) = [rule for rule in sliced.rules if rule.name == "champion auc"]
    assert rule.high is not None and rule.high < -0.02
    assert "lower bound of the difference to the champion in AUC is below -0.01" in rule.reason
    said = "Nothing is registered or deployed; version 1 stays the champion.</p>"
    assert said in (tmp_path / "card.html").read_text()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no bundle tag", "lacks the tags slipway.bundle_uri"),
        ("no hash tag", "lacks the tags slipway.model_hash"),
        ("other hash", "but its files have the hash"),
        ("files gone", "version 1 has the alias champion but cannot be loaded"),
        ("one byte changed", "but its files have the hash"),
        ("other features", "lacks the features"),
        ("answers NaN", "is not a probability"),
    ],
)
def test_a_champion_that_cannot_be_compared_refuses_the_challenger(
    name: str,
    reason: str,
    bundle: Path,
    splits: Path,
    tmp_path: Path,
    registry: str,
) -> None:
    champion = tmp_path / "champion"
    world.make_bundle(champion, weights=WORSE, broken="nan" if name == "answers NaN" else "")
    if name == "other features":
        text = (champion / "bundle.json").read_text()
        (champion / "bundle.json").write_text(text.replace('"loud"', '"noisy"'))
    tags = {
        "no bundle tag": {"slipway.bundle_uri": ""},
        "no hash tag": {"slipway.model_hash": ""},
        "other hash": {"slipway.model_hash": "0" * 64},
    }
    files = crown(champion, **tags.get(name, {}))
    if name == "files gone":
        shutil.rmtree(files)
    elif name == "one byte changed":
        content = bytearray((files / ONNX).read_bytes())
        content[-3] ^= 1
        (files / ONNX).write_bytes(content)
    verdict = run(bundle, splits, tmp_path).verdict
    assert verdict.outcome == "fail"
    (rule,) = [rule for rule in verdict.rules if rule.outcome == "fail"]
    assert rule.name == "champion" and rule.overridable
    assert reason in rule.reason


@pytest.mark.parametrize("name", ["nobody listens", "nobody answers", "no rights"])
def test_a_registry_that_cannot_be_asked_is_an_error_and_no_verdict(
    name: str, bundle: Path, splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate has not refused, it could not be asked; in seconds, and no secret is shown."""
    answers = {
        "nobody listens": closed_port,
        "nobody answers": silent,
        "no rights": lambda: answering(403, b"Permission denied"),
    }
    started = time.monotonic()
    with answers[name]() as url:
        shown = url.removeprefix("http://")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:Gr4phite!@{shown}")
        expected = Refused if name == "no rights" else NoAnswer
        with pytest.raises(expected) as error:
            run(bundle, splits, tmp_path)
    assert time.monotonic() - started < 30
    assert f"MLflow at {url} " in str(error.value)
    assert "Gr4phite" not in str(error.value) and "ada" not in str(error.value)
    assert not list(tmp_path.iterdir())
