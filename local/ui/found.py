"""What lies in a workspace: its runs, and the reports that their stages made. It is only read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from slipway.components.config.base import format_instant
from slipway.components.contracts.verdict import Verdict, read_verdict
from slipway.components.support.errors import SlipwayError
from slipway.components.support.pages.digits import counted, moment
from slipway.local.run_page import FILES
from slipway.local.workspace import Workspace

# Stage and artifact to what a person calls the page.
REPORTS = {
    ("evaluate", "card"): "model card",
    ("train", "report"): "training",
    ("validate", "report"): "data",
    ("merge-validated", "report"): "data",
    ("monitor", "report"): "monitoring",
    ("merge-monitoring", "report"): "monitoring",
    ("monitor-predictions", "report"): "monitoring",
}
SHOWN_RUNS = 50
# kfp.local names a run's folder after its pipeline and the moment, with microseconds.
_RUN = re.compile(
    r"(?P<project>[a-z0-9-]+)-(?P<pipeline>training|retraining|monitoring|scoring|backfill)"
    r"-(?P<moment>\d{4}(?:-\d{2}){5})-\d+"
)
# A run's pages are named after the moment of its end, in UTC.
_PAGES = re.compile(r"(?P<project>[a-z0-9-]+)-(?P<moment>\d{4}(?:-\d{2}){5}-\d{6})")
_TRAININGS = ("training", "retraining")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRun:
    """A run of a pipeline on this machine.

    Attributes:
        name: of its folder. moment: when it began, by this machine's clock and zone, as kfp.local has it.
        verdict: the gate's; None: the pipeline has none, it was not reached, or it cannot be read.
        reports: (stage, artifact, what it is called).
        page: the folder of the page of the whole run; empty: it broke before there was one, or the page
            was cleared away.
    """

    name: str
    project: str
    pipeline: str
    moment: datetime
    verdict: Verdict | None
    reports: tuple[tuple[str, str, str], ...]
    page: str = ""


def find_runs(workspace: Workspace) -> list[LocalRun]:
    """The runs whose outputs are there, the newest first."""
    found = sorted(_runs(workspace), key=lambda run: (run.moment, run.name), reverse=True)
    pages = sorted(_pages(workspace), reverse=True)
    shown = []
    for run in found[:SHOWN_RUNS]:
        # A run's page is written at its end: it is the first of its project since the training began.
        later = [page for page in pages if page[1] == run.project and page[0] >= run.moment]
        if run.pipeline in _TRAININGS and later:
            run = replace(run, page=later[-1][2])
            pages = [page for page in pages if page not in later]
        shown.append(run)
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The newest training of a project, which the gate refused.

    Attributes:
        moment: when it began, UTC. reasons: of the rules that failed.
    """

    project: str
    run: str
    moment: str
    reasons: list[str]

    def headline(self, serving: str) -> str:
        """What `slipway status` says of it.

        Args:
            serving: the version that serves meanwhile; empty: none does.
        """
        more = len(self.reasons) - 1
        rest = f" {counted(more, 'more rule')} failed." if more > 0 else ""
        meanwhile = f"Version {serving} serves on" if serving else "Nothing serves"
        return (
            f"{self.project}: the gate refused the training of {moment(self.moment)} UTC."
            f" {self.reasons[0]}{rest} {meanwhile}; `slipway open card` says what to do."
        )


def find_refusals(workspace: Workspace) -> list[Refusal]:
    """Of each project whose newest judged training was refused, that training."""
    newest: dict[str, tuple[LocalRun, Verdict]] = {}
    for run in sorted(_runs(workspace), key=lambda run: (run.moment, run.name), reverse=True):
        if run.verdict is not None:
            newest.setdefault(run.project, (run, run.verdict))
    return [
        Refusal(
            project=run.project,
            run=run.name,
            moment=format_instant(run.moment.astimezone(UTC)),
            reasons=verdict.reasons,
        )
        for run, verdict in newest.values()
        if verdict.outcome != "pass"
    ]


def _pages(workspace: Workspace) -> Iterator[tuple[datetime, str, str]]:
    """Moment, project and folder of each page of a whole run."""
    for folder in workspace.reports.iterdir() if workspace.reports.is_dir() else ():
        match = _PAGES.fullmatch(folder.name)
        if match and find_page(workspace, folder.name, "report.html"):
            moment = datetime.strptime(match["moment"], "%Y-%m-%d-%H-%M-%S-%f")
            yield moment.replace(tzinfo=UTC), match["project"], folder.name


def find_page(workspace: Workspace, run: str, file: str) -> Path | None:
    """The page of a whole run, or a part beside it; None where there is none, or the names lead away."""
    if file not in ("report.html", *FILES.values()) or not _PAGES.fullmatch(run):
        return None
    root = workspace.reports.resolve()
    path = (root / run / file).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def _runs(workspace: Workspace) -> Iterator[LocalRun]:
    folders = workspace.outputs.iterdir() if workspace.outputs.is_dir() else ()
    for folder in folders:
        match = _RUN.fullmatch(folder.name)
        if match and folder.is_dir():
            yield LocalRun(
                name=folder.name,
                project=match["project"],
                pipeline=match["pipeline"],
                moment=datetime.strptime(match["moment"], "%Y-%m-%d-%H-%M-%S").astimezone(),
                verdict=_verdict(folder / "evaluate" / "verdict"),
                reports=tuple(
                    (stage, artifact, name)
                    for (stage, artifact), name in REPORTS.items()
                    if find_report(workspace, folder.name, stage, artifact)
                ),
            )


def find_report(workspace: Workspace, run: str, stage: str, artifact: str) -> Path | None:
    """The file of a report; None where there is none, or where the names lead anywhere else."""
    if (stage, artifact) not in REPORTS or not _RUN.fullmatch(run):
        return None
    root = workspace.outputs.resolve()
    path = (root / run / stage / artifact).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def _verdict(path: Path) -> Verdict | None:
    try:
        return read_verdict(path) if path.is_file() else None
    except (SlipwayError, OSError):
        return None
