"""Target `kserve`: an InferenceService, rolled out by the means that its mode really has.

Standard (KServe 0.20): the new version is an entry of `spec.canary`, first with no traffic, then with
its share; promotion makes its predictor the stable one, without a restart. Knative: a new revision
behind `canaryTrafficPercent`, first 0, then its share, then without the field. In both the old
revision stays ready and answers until the new one has proved itself. Every step is a server-side
apply of the whole wanted state, so a deploy that was interrupted is continued by the next.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.release import Release
from slipway.components.deploy.golden import Golden, ask
from slipway.components.deploy.kserve.canary import Observed, observe
from slipway.components.deploy.kserve.cluster import Cluster
from slipway.components.deploy.kserve.diagnosis import diagnose
from slipway.components.deploy.kserve.manifest import (
    KIND,
    LABEL,
    PORT,
    SERVICE_LABEL,
    STABLE,
    companions,
    inference_service,
    predictor,
    revision_name,
)
from slipway.components.deploy.kserve.storage import storage_uri
from slipway.components.deploy.rollout import judge_answers, observe_rollout
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

_POLL_SECONDS = 1.0
_UNSCALED = ("maxReplicas", "scaleMetric", "scaleMetricType", "scaleTarget", "autoScaling")


def roll_out(
    *, folder: Path, release: Release, golden: Golden, project: str, config: DeploymentConfig
) -> str:
    """Applies, asks, observes, promotes; or puts everything back and says why.

    Args:
        folder: the downloaded bundle.
        release: the registered version.
        golden: rows to ask.
        project: the served model's name: the InferenceService's.
        config: the `deployment` section.

    Returns:
        The endpoint's base URL: the cluster-local one where KServe gives one.

    Raises:
        SlipwayError: with what stood in the way; the earlier version then serves as before.
    """
    cluster = Cluster(config.namespace)
    wanted = predictor(release, project, storage_uri(release, folder, config), config)
    rollout = _Rollout(cluster, release, golden, project, config, wanted)
    for manifest in companions(project, cluster.namespace, release, config):
        cluster.apply(manifest)
    return rollout.run()


@dataclass(slots=True)
class _Rollout:
    cluster: Cluster
    release: Release
    golden: Golden
    project: str
    config: DeploymentConfig
    wanted: dict[str, Any]

    def run(self) -> str:
        current = self.cluster.get(KIND, self.project)
        if current is None or _serves_nothing(current):
            return self._first(current is None)
        _check_mode(current, self.config)
        stable = _stable_predictor(current)
        if _hash_label(stable) == _hash_label(self.wanted):
            return self._in_place(stable)
        try:
            if self.config.mode == "Standard":
                return self._standard(stable)
            return self._knative(current, stable)
        except KeyboardInterrupt:
            self._put_back(stable)
            raise
        except SlipwayError as error:
            version = stable.get("labels", {}).get(f"{LABEL}/model-version", "before")
            try:
                self._put_back(stable)
            except SlipwayError as second:
                raise SlipwayError(
                    f"{error} Putting version {version} back did not end well either: {second}"
                    " Look at the InferenceService; running deploy again continues from there."
                ) from error
            raise SlipwayError(
                f"{error} Rolled back: version {version} serves all requests."
            ) from error

    def _first(self, created: bool) -> str:
        """There is nothing that could serve meanwhile."""
        self._apply({"predictor": self.wanted})
        try:
            url = _address(self._wait(_is_ready))
            self._ask(url)
        except SlipwayError:
            if created:
                self.cluster.delete(KIND, self.project)
            raise
        return url

    def _in_place(self, stable: dict[str, Any]) -> str:
        """The same model with other settings, or the same deploy once more: a rolling update."""
        self._apply({"predictor": self.wanted})
        try:
            url = _address(self._wait(_is_ready))
            self._ask(url)
        except SlipwayError:
            self._apply({"predictor": stable})
            raise
        return url

    def _standard(self, stable: dict[str, Any]) -> str:
        name = revision_name(self.release)
        new = {key: value for key, value in self.wanted.items() if key not in _UNSCALED}

        def split(share: int) -> dict[str, Any]:
            replicas = max(1, math.ceil(self.config.replicas * share / 100))
            canary = {"trafficPercent": share, "predictor": {**new, "minReplicas": replicas}}
            return {"predictor": stable, "canary": [canary]}

        def canary_ready(service: dict[str, Any]) -> bool:
            statuses = service.get("status", {}).get("canaryStatuses", [])
            return any(s.get("name") == name and s.get("ready") for s in statuses)

        self._apply(split(0))
        self._wait(canary_ready)
        url = f"http://{self.project}-{name}-predictor.{self.cluster.namespace}.svc.cluster.local"
        self._ask(url)
        if self.config.canary.share:
            self._apply(split(self.config.canary.share))
            self._wait(canary_ready)
            self._observe(url, stable)
        self._apply({"predictor": self.wanted})
        public = _address(self._wait(_is_ready))
        self._ask(public)
        return public

    def _knative(self, current: dict[str, Any], stable: dict[str, Any]) -> str:
        before = _predictor_status(current).get("latestReadyRevision", "")
        if _hash_label(current["spec"]["predictor"]) == _hash_label(self.wanted):
            before = ""  # an interrupted deploy of the same model: its revision is there already
        self._apply({"predictor": {**self.wanted, "canaryTrafficPercent": 0}}, stable)

        def new_ready(service: dict[str, Any]) -> bool:
            status = _predictor_status(service)
            created, ready = status.get("latestCreatedRevision"), status.get("latestReadyRevision")
            return bool(ready) and ready == created and ready != before and bool(_tagged(service))

        url = _tagged(self._wait(new_ready))
        self._ask(url)
        if self.config.canary.share:
            share = self.config.canary.share
            self._apply({"predictor": {**self.wanted, "canaryTrafficPercent": share}}, stable)
            self._wait(lambda service: _is_ready(service) and bool(_tagged(service)))
            self._observe(url, stable)
        self._apply({"predictor": self.wanted})

        def promoted(service: dict[str, Any]) -> bool:
            status = _predictor_status(service)
            latest = status.get("latestReadyRevision")
            return _is_ready(service) and status.get("latestRolledoutRevision") == latest

        public = _address(self._wait(promoted))
        self._ask(public)
        return public

    def _put_back(self, stable: dict[str, Any]) -> None:
        """The state from before. No traffic goes to the refused revision at any time."""
        if self.config.mode == "Knative":
            # Without this step Knative would send all traffic to the latest ready revision, which
            # is the refused one, until the stable one's new revision is ready.
            self._apply({"predictor": {**stable, "canaryTrafficPercent": 0}}, stable)

            def same_again(service: dict[str, Any]) -> bool:
                status = _predictor_status(service)
                return _is_ready(service) and status.get("latestReadyRevision") == status.get(
                    "latestCreatedRevision"
                )

            self._wait(same_again)
        self._apply({"predictor": stable})
        self._wait(_is_ready)

    def _apply(self, spec: dict[str, Any], stable: dict[str, Any] | None = None) -> None:
        """Applies a wanted state; `stable` is written down where the state itself does not hold it."""
        manifest = inference_service(self.project, self.cluster.namespace, self.config, spec)
        if stable is not None:
            manifest["metadata"]["annotations"][STABLE] = json.dumps(stable, sort_keys=True)
        self.cluster.apply(manifest)

    def _wait(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Polls until KServe has seen what was applied and it holds."""
        deadline = time.monotonic() + self.config.ready_timeout.total_seconds()
        while True:
            service = self.cluster.get(KIND, self.project)
            if service is None:
                raise SlipwayError(f"InferenceService {self.project} was deleted meanwhile.")
            seen = service.get("status", {}).get("observedGeneration", 0)
            if seen >= service["metadata"].get("generation", 0) and done(service):
                return service
            if time.monotonic() > deadline:
                selector = f"{LABEL}/model-version={self.release.model_version}"
                raise SlipwayError(
                    f"Version {self.release.model_version} is not ready after"
                    f" {self.config.ready_timeout.total_seconds():.0f} s:"
                    f" {diagnose(self.cluster, service, selector)}."
                )
            time.sleep(_POLL_SECONDS)

    def _ask(self, url: str) -> None:
        answered = ask(self.golden, url, self.project, self.release.model_version)
        judge_answers(answered, self.config)
        progress(
            f"{url} answered {answered.rows} golden rows, largest difference"
            f" {answered.difference:.1g}, {answered.median_ms:.1f} ms"
        )

    def _observe(self, url: str, stable: dict[str, Any]) -> None:
        """The window: both revisions answer real requests, the new one golden rows as well."""
        new_version = self.release.model_version
        old_version = stable.get("labels", {}).get(f"{LABEL}/model-version", "")
        seconds = self.config.canary.window.total_seconds()
        progress(
            f"version {new_version} answers {self.config.canary.share} % of requests for"
            f" {seconds:.0f} s"
        )
        observe_rollout(
            version=new_version,
            seconds=seconds,
            new=lambda: self._measure(new_version),
            stable=lambda: self._measure(old_version),
            ask=lambda: ask(self.golden, url, self.project, new_version),
            config=self.config.canary,
        )

    def _measure(self, version: str) -> Observed:
        selector = f"{SERVICE_LABEL}={self.project},{LABEL}/model-version={version}"
        pods = self.cluster.list("Pod", labelSelector=selector)
        addresses = [pod.get("status", {}).get("podIP") for pod in pods]
        return observe([f"http://{address}:{PORT}" for address in addresses if address])


def _serves_nothing(service: dict[str, Any]) -> bool:
    """Whether no revision of it was ever ready, so that nothing can be kept."""
    conditions = service.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    rolled_out = _predictor_status(service).get("latestRolledoutRevision")
    return not ready and not rolled_out and not service.get("spec", {}).get("canary")


def _check_mode(service: dict[str, Any], config: DeploymentConfig) -> None:
    mode = service["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode")
    names = {"RawDeployment": "Standard", "Serverless": "Knative"}
    if mode and names.get(mode, mode) != config.mode:
        raise SlipwayError(
            f"InferenceService {service['metadata']['name']} runs in mode {mode}, deployment.mode is"
            f" {config.mode}. KServe does not change the mode of a running service: delete it first,"
            " or give the project another name."
        )


def _hash_label(predictor: dict[str, Any]) -> str:
    return str(predictor.get("labels", {}).get(f"{LABEL}/model-hash", ""))


def _stable_predictor(service: dict[str, Any]) -> dict[str, Any]:
    """The predictor that serves, also where an interrupted deploy left another one in the spec."""
    kept = service["metadata"].get("annotations", {}).get(STABLE)
    stable = json.loads(kept) if kept else dict(service["spec"]["predictor"])
    stable.pop("canaryTrafficPercent", None)
    return stable


def _is_ready(service: dict[str, Any]) -> bool:
    conditions = service.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _predictor_status(service: dict[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = service.get("status", {}).get("components", {}).get("predictor", {})
    return status


def _tagged(service: dict[str, Any]) -> str:
    """The URL that reaches Knative's latest revision only."""
    for target in _predictor_status(service).get("traffic", []):
        if target.get("tag") == "latest" and target.get("url"):
            return str(target["url"]).rstrip("/")
    return ""


def _address(service: dict[str, Any]) -> str:
    status = service.get("status", {})
    url = (status.get("address") or {}).get("url") or status.get("url")
    if not url:
        raise SlipwayError(
            f"InferenceService {service['metadata']['name']} is ready without a URL."
        )
    return str(url).rstrip("/")
