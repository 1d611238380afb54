"""What the training report says in words: of what the model is made, and why it was taken."""

from typing import Any, cast

import pytest

from slipway.components.train.report import (
    TrainingLog,
    _curves,
    _labels,
    _losses_apart,
    _why,
    describe_model,
)


def log(**changes: Any) -> TrainingLog:
    found = {
        "architecture": "tabm",
        "members": [{"history": [{}] * 7, "best_epoch": 0}],
        "model": "network", "choice": None, "trees": None, "linear": None, **changes,
    }  # fmt: skip
    return cast("TrainingLog", found)


TREES = {"rounds": [61, 76], "leaves": 2328}
LINEAR = {"penalty": 0.1}
SHARES = {"network": 0.5, "linear": 0.3, "trees": 0.2}


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (log(), "a network (tabm, 7 epochs)"),
        (log(members=[{"history": [{}]}] * 3), "3 networks (tabm, 3 epochs)"),
        (log(model="trees", trees=TREES), "boosted trees (2,328 leaves in 61 and 76 rounds)"),
        (log(model="linear", linear=LINEAR, members=[]), "a linear model (penalty 0.1)"),
        (
            log(model="blend", trees=TREES, linear=LINEAR, choice={"shares": SHARES}),
            "a blend of a network (tabm, 7 epochs), a linear model (penalty 0.1) and boosted trees"
            " (2,328 leaves in 61 and 76 rounds)",
        ),
        (
            log(model="blend", linear=LINEAR, choice={"shares": {"network": 0.6, "linear": 0.4}}),
            "a blend of a network (tabm, 7 epochs) and a linear model (penalty 0.1)",
        ),
    ],
)
def test_a_model_is_said_in_words(of: TrainingLog, said: str) -> None:
    assert describe_model(of) == said


def choice(chosen: str, lead: float, **changes: Any) -> dict[str, Any]:
    losses = {"network": 0.93, "linear": 0.92, "trees": 0.95, "blend": 0.92 - lead}
    return {
        "asked": "auto", "chosen": chosen, "why": "beside the linear no model has a share of 10%",
        "shares": SHARES, "losses": losses, "lead": lead, "noise": 0.0075, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("of", "begins", "has"),
    [
        (choice("blend", 0.02), "The blend is taken: its", "0.0200 below that of the linear model alone"),
        (choice("blend", 0.0064), "Validation cannot tell the blend from the linear", "0.0064 below"),
        (choice("blend", -0.003), "Validation cannot tell the blend from the linear", "0.0030 above"),
        (choice("linear", -0.02), "The linear model is taken, not a blend", "error of 0.0075"),
        (choice("linear", 0.0, shares={"linear": 1.0}), "The linear model alone is", "share of 10%"),
        (choice("trees", 0.02, asked="trees"), "training.model asks for trees. Of the", "below"),
    ],
)  # fmt: skip
def test_a_lead_within_the_noise_is_not_told_as_one(
    of: dict[str, Any], begins: str, has: str
) -> None:
    said = _why(of)
    assert said.startswith(begins) and has in said, said


def test_many_classes_are_told_by_both_ends() -> None:
    assert _labels([(f"c{place}", 10.0 + place) for place in range(20)]).count(";") == 19
    assert _labels([(f"c{place}", 10.0 + place) for place in range(1000)]) == (
        "c999: 1,009; c998: 1,008; c997: 1,007; … 994 more …; c2: 12; c1: 11; c0: 10"
    )


@pytest.mark.parametrize(
    ("positives", "kind", "told"),
    [((243, 167), "binary", True), ((243, 240), "binary", False), ((243, 167), "number", False)],
)
def test_losses_of_parts_whose_chance_differs_are_not_left_to_be_compared(
    positives: tuple[int, int], kind: str, told: bool
) -> None:
    of = log(
        rows={"train": 1000, "validation": 1000}, label_kind=kind,
        positives=dict(zip(("train", "validation"), positives, strict=True)),
    )  # fmt: skip
    said = _losses_apart(of)
    assert bool(said) is told
    if told:
        assert said.startswith("Label 1 has 24.3\u00a0% of the training rows and 16.7\u00a0% of")
        assert not _losses_apart(log(**{**of, "members": []})), "no two losses are drawn"


def test_loss_and_quality_are_a_picture_each_so_that_both_fit_a_narrow_page() -> None:
    history = [{"train_loss": 0.5, "log_loss": 0.4, "auc": 0.7}] * 2
    member = {"history": history, "best_epoch": 1}
    drawn = _curves(log(members=[member], loss_name="log_loss", quality_name="auc"))
    assert [caption for caption, _ in drawn] == ["Log loss by epoch", "Validation AUC by epoch"]
    for caption, svg in drawn:
        assert svg.count("<svg") == 1 and f'aria-label="{caption}"' in svg
