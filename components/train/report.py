"""The training report: one HTML file that stands alone."""

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from slipway.components.config.kinds import LabelKind, metric_name
from slipway.components.support.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class MemberLog(TypedDict):
    """A member's training: what each epoch measured, and the number of the best one."""

    history: list[dict[str, float]]
    best_epoch: int


class FeatureImportance(TypedDict):
    """What a feature is worth: the quality (AUC, R2) that is lost when its values are shuffled."""

    feature: str
    drop: float


class TrainingLog(TypedDict):
    """The training log: what training.json holds and the report shows.

    `settings` is the `training` section without `auto`; `search` has the fields of a `Trial`; `seconds`
    are those of the whole stage; `mlflow_run_id` is None where no run could be opened.
    """

    project: str
    data_hash: str
    rows: dict[str, int]
    positives: dict[str, int]
    label_kind: LabelKind
    labels: dict[str, dict[str, float]]
    loss_name: str
    quality_name: str
    settings: dict[str, Any]
    architecture: str
    members: list[MemberLog]
    search: list[dict[str, Any]]
    metrics: dict[str, float]
    threshold: float
    calibration: dict[str, list[dict[str, float]]]
    importance: list[FeatureImportance]
    export_difference: float
    seconds: float
    environment: dict[str, str]
    packages: dict[str, str]
    mlflow_run_id: str | None


_STYLE = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;background:#fff;
max-width:960px;margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;
margin:2rem 0 .5rem}p.sub{color:#5a6675;margin:.2rem 0 1.5rem}table{border-collapse:collapse;
font-variant-numeric:tabular-nums}td,th{padding:.25rem .9rem .25rem 0;text-align:left;
border-bottom:1px solid #e3e7ec}td.n,th.n{text-align:right}.tiles{display:flex;flex-wrap:wrap;gap:.75rem}
.tile{border:1px solid #e3e7ec;border-radius:8px;padding:.6rem 1rem;min-width:7rem}.tile b{display:block;
font-size:1.3rem}.tile span{color:#5a6675}figure{margin:0}
.wide{overflow-x:auto}svg{max-width:100%;height:auto}
"""


def write_report(path: Path, title: str, training: TrainingLog) -> None:
    """Writes the report.

    Args:
        path: of the HTML file.
        title: its heading.
        training: the training log, as in training.json.
    """
    metrics = training["metrics"]
    tiles = "".join(
        f'<div class="tile"><b>{value:.4f}</b><span>{html.escape(name)}</span></div>'
        for name, value in metrics.items()
    )
    settings = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in _summary(training).items()
    )
    write_text(
        path,
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}"
        f"</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        "<p class='sub'>Measured on the validation part, which also chose the epoch, the"
        " calibration and the threshold; the test part decides in evaluate.</p>"
        f"<div class='tiles'>{tiles}</div>"
        f"<h2>Training</h2><figure>{_curves(training)}</figure>"
        f"{_calibration(training)}"
        f"{_importance(training)}"
        f"{_search(training['search'])}"
        f"<h2>Settings</h2><table>{settings}</table></body></html>",
    )


def _summary(training: TrainingLog) -> dict[str, object]:
    settings = training["settings"]
    rows, positives = training["rows"], training["positives"]
    if training["label_kind"] == "binary":
        shares = ", ".join(f"{p} {rows[p]:,} ({positives[p] / max(rows[p], 1):.1%})" for p in rows)
        label = {
            "rows (positive)": shares,
            "threshold": f"{training['threshold']:.4f}, by the rule {settings['threshold']}",
        }
    else:
        facts = training["labels"]["train"].items()
        label = {
            "rows": ", ".join(f"{part} {count:,}" for part, count in rows.items()),
            "training labels": ", ".join(f"{name} {value:,.6g}" for name, value in facts),
        }
    return {
        "architecture": f"{training['architecture']}, {len(training['members'])} members",
        **label,
        "learning rate": settings["learning_rate"],
        "batch size": settings["batch_size"],
        "seed": settings["seed"],
        "seconds": training["seconds"],
        "largest difference of the exports": f"{training['export_difference']:.1e}",
        "MLflow run": training["mlflow_run_id"] or "none: the server did not answer",
        "data": training["data_hash"],
        "commit": training["environment"]["git_commit"],
    }


def _figure(width: float, height: float, columns: int) -> "tuple[Figure, list[Axes]]":
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "slipway", "font.size": 10})
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _curves(training: TrainingLog) -> str:
    from matplotlib.ticker import MaxNLocator

    members = training["members"]
    loss, quality = training["loss_name"], training["quality_name"]
    # Of a number the loss that is trained has another unit than the error that is measured.
    lines = [("train_loss", "--", "training")] if loss == "log_loss" else []
    lines.append((loss, "-", "validation"))
    figure, (left, right) = _figure(9.6, 3.2, 2)
    for number, member in enumerate(members, 1):
        epochs = range(1, len(member["history"]) + 1)
        colour = f"C{(number - 1) % 10}"
        for name, style, label in lines:
            values = [point[name] for point in member["history"]]
            left.plot(epochs, values, style, color=colour, marker=".", label=f"{label}, {number}")
        right.plot(
            epochs, [p[quality] for p in member["history"]], color=colour, marker=".", label=number
        )
        best = member["best_epoch"]
        right.plot(best + 1, member["history"][best][quality], "o", color=colour, mfc="none", ms=10)
    for axis, name in ((left, metric_name(loss)), (right, f"validation {metric_name(quality)}")):
        axis.set_xlabel("epoch")
        axis.set_title(name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, title="member")
    return _svg(figure)


def _calibration(training: TrainingLog) -> str:
    curves = training["calibration"]
    if not curves:
        return ""
    binary = training["label_kind"] == "binary"
    figure, (axis,) = _figure(4.8, 4.2, 1)
    top = max(max(p["probability"], p["positives"]) for c in curves.values() for p in c) * 1.05
    axis.plot([0, top], [0, top], color="#9aa5b1", lw=1, label="perfect")
    for name, curve in curves.items():
        axis.plot(
            [p["probability"] for p in curve],
            [p["positives"] for p in curve],
            marker="o",
            label=name,
        )
    axis.set_xlabel("mean probability" if binary else "mean probability of the class called")
    axis.set_ylabel("share of positives" if binary else "share that is of this class")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return f"<h2>Calibration</h2><figure>{_svg(figure)}</figure>"


def _importance(training: TrainingLog) -> str:
    importance = training["importance"]
    if not importance:
        return ""
    figure, (axis,) = _figure(7.2, 0.6 + 0.24 * len(importance), 1)
    ordered = importance[::-1]
    axis.barh([p["feature"] for p in ordered], [p["drop"] for p in ordered], color="C0")
    lost = metric_name(training["quality_name"])
    axis.set_xlabel(f"{lost} lost when the feature's values are shuffled")
    axis.spines[["top", "right"]].set_visible(False)
    return f"<h2>Permutation importance</h2><figure>{_svg(figure)}</figure>"


def _search(trials: list[dict[str, Any]]) -> str:
    """The trials, the best first."""
    if not trials:
        return ""
    names = sorted({name for trial in trials for name in trial["values"]})
    ordered = sorted(trials, key=lambda t: (t["state"] != "complete", -(t["value"] or 0)))
    head = "".join(f"<th class='n'>{html.escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{trial['number'] + 1}</td><td>{html.escape(trial['state'])}</td><td class='n'>"
        + ("–" if trial["value"] is None else f"{abs(trial['value']):.4f}")
        + "</td>"
        + "".join(
            f"<td class='n'>{trial['values'][name]:.4g}</td>"
            if name in trial["values"]
            else "<td class='n'>as given</td>"
            for name in names
        )
        + "</tr>"
        for trial in ordered
    )
    return (
        "<h2>Search</h2><div class='wide'><table><tr><th>trial</th><th>state</th>"
        f"<th class='n'>best value</th>{head}</tr>{rows}</table></div>"
    )
