"""The training report: one HTML file that stands alone."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from slipway.components.config.kinds import METRICS, LabelKind, explain_metrics, metric_name
from slipway.components.contracts.splits import PARTS
from slipway.components.support.pages import digits
from slipway.components.support.pages.pages import write_page
from slipway.components.support.pages.palette import colour, series
from slipway.components.support.pages.plots import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = Path(__file__).with_name("report.html.j2")
_FIRST = {"binary": ("auc", "f1", "accuracy"), "multiclass": ("accuracy", "f1", "auc"),
          "number": ("rmse", "mae", "r2")}  # fmt: skip
"""What of the metrics is seen first."""
_BARS = 15
_CLASSES, _ENDS = 20, 3
"""More classes than these are told by those at either end."""
_LEAST = 20
"""Rows from which on a group of the calibration curve says something."""
_APART = 1.05
"""Times by which one part's loss by chance is another's before the two are said not to compare."""


class MemberLog(TypedDict):
    """A member's training: what each epoch measured, and the number of the best one."""

    history: list[dict[str, float]]
    best_epoch: int


class FeatureImportance(TypedDict):
    """What a feature is worth: the quality (AUC, R2) that is lost when its values are shuffled."""

    feature: str
    drop: float


class TreesLog(TypedDict):
    """The trees' training: rounds that were taken, leaves of all, and the loss after each round.

    Of a number there are two trainings, of its value and of the ends of its interval. `leaf_weights` says
    what a leaf of each must weigh.
    """

    rounds: list[int]
    leaf_weights: list[float]
    leaves: int
    rows: int
    seconds: float
    history: dict[str, list[float]]


class LinearLog(TypedDict):
    """The linear model: the penalty that was taken, and each one's loss on the validation part."""

    penalty: float
    losses: list[list[float]]
    rows: int
    seconds: float


class TrainingLog(TypedDict):
    """The training log: what training.json holds and the report shows.

    `settings` is the `training` section without `auto`; `model` is network, linear, trees or blend, and
    `choice` has the fields of a `Choice` where several were trained; `search` has the fields of a
    `SearchTrial`; `cut` names the models that `training.minutes` ended early; `seconds` are those of the
    whole stage; `mlflow_run_id` is None where no run could be opened.
    """

    project: str
    data_hash: str
    rows: dict[str, int]
    positives: dict[str, int]
    label_kind: LabelKind
    labels: dict[str, dict[str, float]]
    loss_name: str
    quality_name: str
    settings: dict[str, object]
    architecture: str
    members: list[MemberLog]
    model: str
    cut: list[str]
    choice: dict[str, Any] | None
    trees: TreesLog | None
    linear: LinearLog | None
    search: list[dict[str, object]]
    metrics: dict[str, float]
    threshold: float
    calibration: dict[str, list[dict[str, float]]]
    importance: list[FeatureImportance]
    warnings: list[str]
    export_difference: float
    seconds: float
    environment: dict[str, str]
    packages: dict[str, str]
    mlflow_run_id: str | None


def write_report(path: Path, title: str, training: TrainingLog) -> None:
    """Writes the report.

    Args:
        path: of the HTML file.
        title: its heading.
        training: the training log, as in training.json.
    """
    metrics, kind = training["metrics"], training["label_kind"]
    first = [name for name in _FIRST[kind] if name in metrics]
    ordered = [name for name in METRICS[kind] if name in metrics]
    write_page(
        path,
        TEMPLATE,
        title=title,
        says=_sentence(training),
        chosen=_chosen(training),
        first=[(metric_name(name), digits.number(metrics[name])) for name in first],
        others=[
            (metric_name(name), digits.number(metrics[name]))
            for name in [*ordered, *sorted(metrics.keys() - set(ordered))]
            if name not in first
        ],
        note=_threshold_note(training),
        warnings=[f"{said[:1].upper()}{said[1:]}." for said in training["warnings"]],
        choice=_choice(training),
        curves=_learning(training),
        apart=_losses_apart(training),
        calibration=_calibration(training),
        calibrated="What share was positive where the model said p"
        if kind == "binary"
        else "How often the class called was right where the model said p",
        importance=training["importance"],
        most=max((abs(p["drop"]) for p in training["importance"]), default=0.0) or 1.0,
        places=digits.decimals(*(p["drop"] for p in training["importance"])),
        meanings=explain_metrics(ordered),
        bars=_BARS,
        lost=metric_name(training["quality_name"]),
        search=_search(training["search"]),
        facts=_facts(training),
        hashes=[
            ("Data", training["data_hash"]),
            ("Commit", training["environment"]["git_commit"] or "none: not in a repository"),
        ],
    )


def describe_model(training: TrainingLog) -> str:
    """What was trained, in words that stand in a sentence: a network, trees, or a blend of some."""
    epochs = sum(len(member["history"]) for member in training["members"])
    many = len(training["members"])
    network = f"{'a network' if many == 1 else f'{many} networks'} ({training['architecture']}"
    learnt = {"network": f"{network}, {digits.counted(epochs, 'epoch')})"}
    if training["linear"]:
        learnt["linear"] = f"a linear model (penalty {training['linear']['penalty']:g})"
    if log := training["trees"]:
        rounds = " and ".join(f"{count:,}" for count in log["rounds"])
        learnt["trees"] = f"boosted trees ({log['leaves']:,} leaves in {rounds} rounds)"
    if training["model"] != "blend" or not training["choice"]:
        return learnt[training["model"]]
    *first, last = (learnt[part] for part in learnt if part in training["choice"]["shares"])
    return f"a blend of {', '.join(first)} and {last}"


def _sentence(training: TrainingLog) -> str:
    rows = training["rows"].get("train", 0)
    said = (
        f"The model is {describe_model(training)}, learnt from {rows:,} rows; the whole stage took"
        f" {digits.seconds(training['seconds'])}."
    )
    if cut := training["cut"]:
        said += (
            f" Its time (training.minutes: {training['settings']['minutes']:g}) was over before the end"
            f" of {' and '.join(cut)}: the model has the best that there was by then."
        )
    return said


def _chosen(training: TrainingLog) -> str:
    """What the validation part chose beside what is measured on it."""
    stop = {"network": "the epoch", "trees": "the number of rounds", "linear": "the penalty"}
    parts = [training["model"]]
    if training["model"] == "blend" and training["choice"]:
        parts = [*training["choice"]["shares"], "blend"]
    found = [stop.get(part, "the models' shares") for part in parts]
    found += {
        "binary": ["the calibration", "the threshold"],
        "multiclass": ["the calibration"],
        "number": ["the width of the intervals"],
    }[training["label_kind"]]
    return f"{', '.join(found[:-1])} and {found[-1]}"


def _choice(training: TrainingLog) -> dict[str, object] | None:
    """Which model was taken and why, where several were trained."""
    choice = training["choice"]
    if choice is None:
        return None
    shares = choice["shares"]
    return {
        "why": _why(choice),
        "models": [
            (
                name,
                digits.share(shares[name]) if name in shares else "",
                digits.number(loss, 4),
                name == choice["chosen"],
            )
            for name, loss in choice["losses"].items()
        ],
    }


def _why(choice: dict[str, Any]) -> str:
    """Why a model was taken, so that a lead that is none is not read as one."""
    chosen, lead, noise = choice["chosen"], choice["lead"], choice["noise"]
    said = {"linear": "linear model"}
    if len(choice["shares"]) < 2:
        return f"The {said.get(chosen, chosen)} alone is taken: {choice['why']}."
    alone = min((n for n in choice["losses"] if n != "blend"), key=choice["losses"].__getitem__)
    chosen, alone = said.get(chosen, chosen), said.get(alone, alone)
    places = digits.decimals(noise, significant=2)
    apart = (
        f"its validation loss is {digits.number(abs(lead), places)} {'below' if lead > 0 else 'above'}"
        f" that of the {alone} alone, with a standard error of {digits.number(noise, places)}"
    )
    if choice["asked"] != "auto":
        return f"training.model asks for {chosen}. Of the blend: {apart}."
    if chosen != "blend":
        return f"The {chosen} is taken, not a blend: of that {apart}."
    if lead > noise:
        return f"The blend is taken: {apart}."
    return (
        f"Validation cannot tell the blend from the {alone} alone: {apart}. The blend is taken, since of"
        " two that look alike it does better on new rows more often than not."
    )


def _threshold_note(training: TrainingLog) -> str:
    """What a rule for the threshold does to the metrics, where that would surprise."""
    if training["label_kind"] != "binary" or training["settings"]["threshold"] != "prevalence":
        return ""
    return (
        "The threshold calls as many rows positive as are positive (training.threshold: prevalence), so"
        " that on these rows precision, recall and F1 are one number."
    )


def _facts(training: TrainingLog) -> list[tuple[str, str]]:
    settings, rows, positives = training["settings"], training["rows"], training["positives"]
    if training["label_kind"] == "binary":
        label = [
            (
                "Rows (positive)",
                ", ".join(
                    f"{p} {rows[p]:,} ({digits.share(positives[p] / max(rows[p], 1))})"
                    for p in PARTS
                    if p in rows
                ),
            ),
            (
                "Threshold",
                f"{digits.number(training['threshold'])}, by the rule {settings['threshold']}",
            ),
        ]
    else:
        found = training["labels"]["train"]
        names = _OF_NUMBERS if training["label_kind"] == "number" else dict.fromkeys(found)
        facts = [(said or name, found.get(name)) for name, said in names.items()]
        label = [
            ("Rows", ", ".join(f"{part} {rows[part]:,}" for part in PARTS if part in rows)),
            ("Training labels", _labels(facts)),
        ]
    return [
        *label,
        ("Learning rate", f"{settings['learning_rate']:g}"),
        ("Batch size", f"{settings['batch_size']:,}"),
        ("Seed", str(settings["seed"])),
        ("Largest difference of the exports", digits.power(training["export_difference"])),
        ("MLflow run", training["mlflow_run_id"] or "none: the server did not answer"),
    ]


def _labels(facts: list[tuple[str, float | None]]) -> str:
    """Rows of each class, of many the most and the fewest; or facts about numbers."""
    told = [f"{name}: {digits.number(value)}" for name, value in facts]
    if len(told) <= _CLASSES:
        return "; ".join(told)
    facts = sorted(facts, key=lambda fact: -(fact[1] or 0.0))
    return (
        f"{_labels(facts[:_ENDS])}; … {len(told) - 2 * _ENDS:,} more …; {_labels(facts[-_ENDS:])}"
    )


def _curves(training: TrainingLog) -> list[tuple[str, str]]:
    members = training["members"]
    loss, quality = training["loss_name"], training["quality_name"]
    # Of a number the loss that is trained has another unit than the error that is measured.
    lines = [("train_loss", "--", "training")] if loss == "log_loss" else []
    lines.append((loss, "-", "validation"))

    def paint_losses(axes: "Axes") -> None:
        for place, member in enumerate(members):
            epochs = range(1, len(member["history"]) + 1)
            for name, style, said in lines:
                values = [point[name] for point in member["history"]]
                label = said if len(members) == 1 else f"{said}, member {place + 1}"
                axes.plot(epochs, values, style, color=series(place), marker=".", label=label)
        _finish(axes, "epoch", legend=len(lines) * len(members) <= _LEGEND)

    def paint_quality(axes: "Axes") -> None:
        for place, member in enumerate(members):
            values, best = [p[quality] for p in member["history"]], member["best_epoch"]
            label = "validation" if len(members) == 1 else f"member {place + 1}"
            axes.plot(
                range(1, len(values) + 1), values, color=series(place), marker=".", label=label
            )
            axes.plot(
                best + 1, values[best], "o", color=series(place), mfc="none", ms=10, ls="none",
                label="kept" if place == len(members) - 1 else None,
            )  # fmt: skip
        _finish(axes, "epoch", legend=len(members) < _LEGEND)

    of = " of the network" if training["model"] == "blend" else ""
    whose = "" if len(lines) > 1 else "validation "
    said = f"{whose}{metric_name(loss)}{of} by epoch"
    return [
        _picture(said, paint_losses),
        _picture(f"validation {metric_name(quality)}{of} by epoch", paint_quality),
    ]


def _picture(said: str, paint: "Callable[[Axes], None]") -> tuple[str, str]:
    """A caption and its plot."""
    said = f"{said[:1].upper()}{said[1:]}"
    return said, draw(paint, said, 4.8, 3.9)


def _losses_apart(training: TrainingLog) -> str:
    """Why two parts' losses do not compare, where they do not: chance alone has another in each."""
    rows, positives = training["rows"], training["positives"]
    if not training["members"] or training["label_kind"] != "binary":
        return ""
    shares = [positives[part] / max(rows[part], 1) for part in ("train", "validation")]
    by_chance = [-sum(p * math.log(p) for p in (share, 1 - share) if p > 0) for share in shares]
    if max(by_chance) <= _APART * min(by_chance):
        return ""
    first, second = (digits.share(share) for share in shares)
    return (
        f"Label 1 has {first} of the training rows and {second} of the validation rows: compare how"
        " the two losses fall, not how high they are."
    )


def _learning(training: TrainingLog) -> list[tuple[str, str]]:
    """How the model learnt: the network's epochs, else the trees' rounds, else the penalties.

    Returns:
        Caption and plot of each curve.
    """
    if training["members"]:
        return _curves(training)
    return _tree_curves(training) if training["trees"] else _penalty_curve(training)


def _penalty_curve(training: TrainingLog) -> list[tuple[str, str]]:
    """The linear model's validation loss by penalty."""
    linear = training["linear"]
    tried = linear["losses"] if linear else []

    def paint(axes: "Axes") -> None:
        penalties, losses = zip(*tried, strict=True)
        axes.plot(penalties, losses, color=series(0), marker=".", label="validation")
        least = min(range(len(losses)), key=losses.__getitem__)
        axes.plot(
            penalties[least], losses[least], "o", color=series(0), mfc="none", ms=10, ls="none",
            label="kept",
        )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlabel("penalty")
        axes.legend(**_BELOW)

    return [_picture("validation loss by penalty", paint)]


def _tree_curves(training: TrainingLog) -> list[tuple[str, str]]:
    """The trees' validation loss, round by round."""
    histories = training["trees"]["history"] if training["trees"] else {}

    def painter(values: list[float]) -> "Callable[[Axes], None]":
        def paint(axes: "Axes") -> None:
            best = min(range(len(values)), key=values.__getitem__)
            axes.plot(range(1, len(values) + 1), values, color=series(0), label="validation")
            axes.plot(
                best + 1,
                values[best],
                "o",
                color=series(0),
                mfc="none",
                ms=10,
                ls="none",
                label="kept",
            )
            _finish(axes, "round", legend=True)

        return paint

    return [
        _picture(f"validation {name.replace('_', ' ')} by round", painter(values))
        for name, values in histories.items()
    ]


_OF_NUMBERS: dict[str, str | None] = {
    "min": "least", "mean": "mean", "max": "greatest", "std": "standard deviation",
}  # fmt: skip
_LEGEND = 8
"""With more lines than these a legend is longer than the plot."""
_BELOW: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.05, -0.17), "ncols": 2}
"""Where a legend hides no line."""


def _finish(axes: "Axes", step: str, *, legend: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(step)
    low, high = axes.get_xlim()
    if high - low < 1:  # one point
        axes.set_xlim(0, 2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if legend:
        axes.legend(**_BELOW)


def _calibration(training: TrainingLog) -> str:
    curves = training["calibration"]
    if not curves:
        return ""
    binary = training["label_kind"] == "binary"
    top = max(max(p["probability"], p["positives"]) for c in curves.values() for p in c)

    def paint(axes: "Axes") -> None:
        axes.plot([0, top], [0, top], color=colour("other"), lw=1, ls=":", label="perfect")
        for place, (name, curve) in enumerate(curves.items()):
            # The few rows of a group only jump; where all are so small, they are all there is.
            seen = [p for p in curve if p["rows"] >= _LEAST] or curve
            said, was = ([p[key] for p in seen] for key in ("probability", "positives"))
            axes.plot(said, was, marker="o", ms=4, color=series(place), label=name)
        axes.set_xlabel("mean probability" if binary else "mean probability of the class called")
        axes.set_ylabel("share of positives" if binary else "share that is of this class")
        axes.legend(**_BELOW)

    return draw(paint, "Calibration on the validation part", 5.2, 4.4)


def _search(trials: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The trials, the best first: names of what was tried, and a line of cells each."""
    names = sorted({name for trial in trials for name in trial["values"]})
    ordered = sorted(trials, key=lambda t: (t["state"] != "complete", -(t["value"] or 0)))
    return names, [
        [
            str(trial["number"] + 1),
            trial["state"],
            "–" if trial["value"] is None else digits.number(abs(trial["value"]), 4),
            *(f"{trial['values'][n]:.4g}" if n in trial["values"] else "as given" for n in names),
        ]
        for trial in ordered
    ]
