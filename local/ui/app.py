"""`slipway ui`: runs, versions with their evidence and the monitoring history, on a page of this machine.

It only reads, answers this machine alone, and shows nothing from outside of the workspace but the
registry that the runs used. Reports are sandboxed: Evidently's has scripts, which can reach nothing here.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.kinds import in_order, metric_name
from slipway.components.contracts.monitoring.monitoring_record import DriftCounts
from slipway.components.monitor import history
from slipway.components.support.errors import SlipwayError
from slipway.components.support.pages.pages import render_page
from slipway.components.support.secrets import redact
from slipway.local.ui.found import find_page, find_refusals, find_report, find_runs
from slipway.local.workspace import Workspace

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
HERE = Path(__file__).parent
SHOWN_WINDOWS = 200
# A reader does not wait for a registry as a stage does.
PATIENCE_SECONDS = 5.0
# The port does not count. A page elsewhere whose name was made to lead here has another host.
HOSTS = [HOST, "localhost"]
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_OWN = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
_REPORT = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; font-src data:;"
    " script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:; base-uri 'none'; form-action 'none'"
)


def make_app(workspace: Workspace) -> "Starlette":
    """The pages of a workspace.

    Args:
        workspace: where the runs are. The registry and the monitoring history are where the environment
            says, and else in it.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    pages = _Pages(workspace)
    routes: dict[str, Callable[..., object]] = {
        "/": pages.overview,
        "/versions/{model}": pages.versions,
        "/versions/{model}/{version}": pages.evidence,
        "/monitoring/{model}": pages.monitoring,
        "/reports/{run}/{stage}/{artifact}": pages.report,
        "/runs/{run}/{file}": pages.run,
    }
    return Starlette(
        routes=[Route(path, page, methods=["GET"]) for path, page in routes.items()],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
        ],
        exception_handlers={404: _not_found, SlipwayError: _broken},
    )


class _Pages:
    """The pages; each is a plain function that Starlette calls in a thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._settings = workspace.settings()

    def overview(self, request: "Request") -> "Response":
        """Endpoints, runs, and the latest window of each model."""
        from slipway.components.deploy.local.target import status

        runs = find_runs(self._workspace)
        endpoints = status(Path(self._settings["SLIPWAY_HOME"]))
        return _page(
            "overview.html.j2",
            folder=str(self._workspace.root),
            endpoints=endpoints,
            serving={e.project: e.model_version for e in endpoints if e.state != "stopped"},
            ordered=in_order,
            runs=runs,
            projects=sorted({run.project for run in runs}),
            refused=find_refusals(self._workspace),
            models=[
                {**shown, "counts": shown["features"] and DriftCounts(**shown["features"])}
                for shown in history.latest(self._settings["MONITORING_URI"])
            ],
            tracking=_tracking(self._settings["MLFLOW_TRACKING_URI"]),
        )

    def versions(self, request: "Request") -> "Response":
        """The registered versions of a model, the newest first."""
        from slipway.components.support.tracking import connect

        model = request.path_params["model"]
        uri = self._settings["MLFLOW_TRACKING_URI"]
        # Asking a registry that is not there yet would make one.
        absent = uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file()
        found = () if absent else connect(uri, patience=PATIENCE_SECONDS).list_versions(model)
        if not found:
            return _not_found(request, Exception())
        return _page("versions.html.j2", model=model, versions=list(reversed(found)))

    def evidence(self, request: "Request") -> "Response":
        """What a version rests on, with every hash of it checked."""
        from slipway.components.register.evidence_report import show_evidence
        from slipway.local.evidence_page import page_content

        os.environ.update(self._settings)
        names = request.path_params
        report = show_evidence(names["model"], names["version"])
        return _page("evidence.html.j2", model=names["model"], **page_content(report))

    def monitoring(self, request: "Request") -> "Response":
        """Every monitored window of a model, the newest first."""
        model = request.path_params["model"]
        known = {
            shown["model"]: shown for shown in history.latest(self._settings["MONITORING_URI"])
        }
        if model not in known:
            return _not_found(request, Exception())
        root = self._settings["MONITORING_URI"]
        return _page(
            "history.html.j2",
            model=model,
            metric=known[model]["metric"],
            records=history.records(root, model, newest=SHOWN_WINDOWS)[::-1],
            windows=history.count(root, model),
        )

    def report(self, request: "Request") -> "Response":
        """A stage's report, as it made it."""
        names = request.path_params
        path = find_report(self._workspace, names["run"], names["stage"], names["artifact"])
        return _file(path, request)

    def run(self, request: "Request") -> "Response":
        """The page of a whole run, or a part that it links to."""
        names = request.path_params
        return _file(find_page(self._workspace, names["run"], names["file"]), request)


def _file(path: Path | None, request: "Request") -> "Response":
    from starlette.responses import FileResponse

    if path is None:
        return _not_found(request, Exception())
    headers = {**_HEADERS, "Content-Security-Policy": _REPORT}
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)


def _page(template: str, status: int = 200, **content: object) -> "Response":
    from starlette.responses import HTMLResponse

    text = render_page(HERE / template, metric_name=metric_name, **content)
    return HTMLResponse(text, status, headers={**_HEADERS, "Content-Security-Policy": _OWN})


def _not_found(request: "Request", error: Exception) -> "Response":
    text = f"There is no {request.url.path} here."
    return _page("message.html.j2", 404, heading="Not here", text=text)


def _broken(request: "Request", error: Exception) -> "Response":
    return _page("message.html.j2", 500, heading="That cannot be shown", text=redact(str(error)))


def _tracking(uri: str) -> dict[str, str]:
    """Where MLflow's own pages are: an address to follow, or the command that serves a file's."""
    if uri.startswith(("http://", "https://")):
        return {"link": redact(uri), "command": ""}
    return {"link": "", "command": f"mlflow ui --backend-store-uri {redact(uri)}"}


def serve(workspace: Workspace, port: int) -> None:
    """Serves the pages on this machine's loopback until it is interrupted.

    Raises:
        SlipwayError: the port is taken.
    """
    import socket

    import uvicorn

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise SlipwayError(
                f"Port {port} on {HOST} cannot be used: {error.strerror}. Give another with --port."
            ) from error
        config = uvicorn.Config(
            make_app(workspace), log_level="error", access_log=False, server_header=False
        )
        uvicorn.Server(config).run(sockets=[listener])
