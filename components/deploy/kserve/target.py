"""Target `kserve`: an InferenceService, rolled out by the means that its mode really has.

Standard: the new version is an entry of `spec.canary`, first with no traffic, then with its share. Then
it becomes the predictor: its Deployment, which keeps its name, is updated pod by pod while the canary
still stands. Knative: a new revision behind `canaryTrafficPercent`, first 0, then its share, then
without the field.

What is ready is read from the pods, never from the InferenceService's status alone: its
`observedGeneration` is another object's, its conditions stay as they were for seconds after a change,
and `Ready` turns False while pods change (docs/platform.md). Every step is a server-side apply of the
whole wanted state, so a deploy that was interrupted is continued by the next.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from slipway.components.config.checks.kubernetes_names import host_problem
from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.release import Release
from slipway.components.contracts.signing.policy import Vouched
from slipway.components.deploy.golden import Golden, NotReached, ask
from slipway.components.deploy.kserve.canary import Observed, observe
from slipway.components.deploy.kserve.diagnosis import diagnose
from slipway.components.deploy.kserve.manifest import (
    ACCOUNT,
    KIND,
    LABEL,
    PORT,
    REVISION,
    SERVICE_LABEL,
    STABLE,
    UNTEMPLATED,
    VERSION_LABEL,
    companions,
    inference_service,
    predictor,
    record,
    revision_name,
    workload,
)
from slipway.components.deploy.kserve.seen import ObservedService
from slipway.components.deploy.kserve.storage import storage_uri
from slipway.components.deploy.rollout import judge_answers, observe_rollout
from slipway.components.support.documents import KubeObject
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubernetes.cluster import Cluster
from slipway.components.support.retry import retry, wait_until
from slipway.components.support.stage import progress

_POLL_SECONDS = 1.0
# Endpoints, gateways and routes follow the pods asynchronously: for so long may a request still go where
# it went before, and so long is a backend without traffic kept.
_ROUTING_SECONDS = 60.0
_DRAIN_SECONDS = 10.0
_RECORDER = "slipway-rollout"
# How often the first step of a rollout in mode Knative is tried: see `_stands_beside_stable`.
_ROUTE_TRIES = 5


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
        The endpoint's base URL, which stays the same from version to version: the cluster-local one
        where KServe gives one.

    Raises:
        SlipwayError: with what stood in the way; the earlier version then serves as before.
    """
    cluster = Cluster(config.namespace, "deploy-role.yaml")
    part = config.part_before
    if part and (problem := host_problem(project, cluster.namespace, part=part)):
        raise SlipwayError(f"Version {release.model_version} was not deployed: {problem}.")
    config = _with_account(cluster, config)
    vouched = Vouched.flags(folder, release.model_hash)
    wanted = predictor(release, project, storage_uri(release, folder, config), config, vouched)
    return Rollout(
        cluster=cluster,
        release=release,
        golden=golden,
        project=project,
        config=config,
        wanted=wanted,
    ).run()


def _with_account(cluster: Cluster, config: DeploymentConfig) -> DeploymentConfig:
    """The service account that `stack render` made, where the namespace has it and none is set."""
    if config.service_account or not cluster.get("ServiceAccount", ACCOUNT):
        return config
    return config.model_copy(update={"service_account": ACCOUNT})


@dataclass(slots=True, kw_only=True)
class Rollout:
    """One version on its way into one InferenceService."""

    cluster: Cluster
    release: Release
    golden: Golden
    project: str
    config: DeploymentConfig
    wanted: KubeObject
    _stable: KubeObject = field(default_factory=dict)

    def run(self) -> str:
        """Takes the version into service.

        Returns:
            The endpoint's base URL.
        """
        kept = self._stand_beside()
        timeout = self.config.ready_timeout.total_seconds()
        self.cluster.wait_gone(KIND, self.project, timeout, _POLL_SECONDS)
        current = self.cluster.get(KIND, self.project)
        if current is None or not (kept or self._see(current).any_ready()):
            url = self._first(current is None)
        else:
            _check_mode(current, self.config)
            self._stable = kept or _without_share(current["spec"]["predictor"])
            url = self._replace(current)
        self._remember(self.wanted)
        return url

    def _first(self, created: bool) -> str:
        """There is nothing that could serve meanwhile."""
        self._remember(None)
        self._apply({"predictor": self.wanted})
        try:
            url = self._settle(self.wanted)
            self._ask(url)
        except SlipwayError:
            if created:
                self.cluster.delete(KIND, self.project)
            raise
        return url

    def _replace(self, current: KubeObject) -> str:
        """Another version serves, and keeps serving until this one has proved itself."""
        if name := self._stable.get("name"):
            # The Deployment of an InferenceService from before: it keeps its name, and so its host.
            self.wanted["name"] = name
        spec = current["spec"]
        shared = "canaryTrafficPercent" in spec["predictor"]
        promoted = not shared and _revision(spec["predictor"]) == _revision(self.wanted)
        same_model = _hash(self._stable) == _hash(self.wanted)
        try:
            self._withdraw(spec)
            if promoted or (same_model and self.config.mode == "Standard"):
                return self._take_over()
            if self.config.mode == "Standard":
                return self._standard()
            return self._knative(window=not same_model)
        except KeyboardInterrupt:
            self._put_back()
            raise
        except SlipwayError as error:
            if _revision(self._stable) == _revision(self.wanted):
                raise
            version = self._stable.get("labels", {}).get(VERSION_LABEL, "before")
            try:
                self._put_back()
            except SlipwayError as second:
                raise SlipwayError(
                    f"{error} Putting version {version} back did not end well either: {second}"
                    " Look at the InferenceService; running deploy again continues from there."
                ) from error
            raise SlipwayError(
                f"{error} Rolled back: version {version} serves all requests."
            ) from error

    def _take_over(self) -> str:
        """The last step of every rollout, and all of one that changes settings only."""
        self._apply({"predictor": self.wanted})
        url = self._settle(self.wanted)
        self._ask(url)
        return url

    def _standard(self) -> str:
        name = revision_name(self.release)
        if name == self._stable.get("name"):
            name += "-next"
        most = self._stable.get("minReplicas", 1)
        new = {key: value for key, value in self.wanted.items() if key not in UNTEMPLATED}

        def split(share: int, stable: KubeObject) -> KubeObject:
            replicas = min(most, max(1, math.ceil(self.config.replicas * share / 100)))
            canary = {**new, "name": name, "minReplicas": replicas}
            return {
                "predictor": stable,
                "canary": [{"trafficPercent": share, "predictor": canary}],
            }

        def canary_ready(seen: ObservedService) -> bool:
            statuses = seen.status.get("canaryStatuses", [])
            return any(s.get("name") == name and s.get("ready") for s in statuses) and seen.runs(
                workload(self.project, name), _revision(self.wanted)
            )

        self._apply(split(0, self._stable))
        self._wait(canary_ready)
        self._ask_pods()
        if share := self.config.canary.share:
            self._apply(split(share, self._stable))
            self._wait(canary_ready)
            self._observe()
        self._apply(split(0, self.wanted))
        time.sleep(_DRAIN_SECONDS)
        self._settle(self.wanted)
        return self._take_over()

    def _knative(self, *, window: bool) -> str:
        for _ in range(_ROUTE_TRIES):
            if self._stands_beside_stable():
                break
            progress(
                "KServe sends requests to the version before last, since Knative told of the route before"
                " it told of the new revision: putting the stable one back"
            )
            self._put_back()
        else:
            raise SlipwayError(
                f"KServe took another version than the stable one for it {_ROUTE_TRIES} times, since"
                " Knative told of the route before it told of the new revision. Run deploy again."
            )
        self._ask_pods()
        share = self.config.canary.share
        if share and window:
            self._apply({"predictor": {**self.wanted, "canaryTrafficPercent": share}})
            self._wait(lambda seen: seen.is_ready and seen.share_of_latest == share)
            self._observe()
        return self._take_over()

    def _stands_beside_stable(self) -> bool:
        """Knative: brings up the new revision without traffic.

        Returns:
            False as soon as KServe gives the traffic to the version before the stable one: its
            PropagateStatus does so where Knative's route follows before its configuration.
        """
        stable, wanted = _revision(self._stable), _revision(self.wanted)
        # Without a revision that it knows as rolled out KServe sends all traffic to the latest one.
        before = self._wait(lambda seen: bool(seen.rolled_out))
        if not before.is_rolled_out(stable):
            return False
        self._apply({"predictor": {**self.wanted, "canaryTrafficPercent": 0}})
        seen = self._wait(
            lambda seen: seen.rolled_out != before.rolled_out or seen.latest_ready(wanted)
        )
        return seen.rolled_out == before.rolled_out

    def _put_back(self) -> None:
        """The state from before. No traffic goes to a refused canary at any time."""
        spec = (self.cluster.get(KIND, self.project) or {}).get("spec", {"predictor": {}})
        unsplit = "canary" not in spec and "canaryTrafficPercent" not in spec["predictor"]
        if unsplit and _revision(spec["predictor"]) == _revision(self._stable):
            # Nothing was changed. A share of 0 for the revision that has all traffic would make KServe
            # take the one before it for the stable one (PropagateStatus).
            return
        self._withdraw(spec)
        if self.config.mode == "Knative":
            # Without this step Knative would send all traffic to the latest ready revision, which
            # is the refused one, until the stable one's new revision is ready.
            self._apply({"predictor": {**self._stable, "canaryTrafficPercent": 0}})
            self._wait(lambda seen: seen.latest_ready(_revision(self._stable)), whose=self._stable)
        self._apply({"predictor": self._stable})
        self._settle(self._stable)

    def _withdraw(self, spec: KubeObject) -> None:
        """Takes the traffic from what does not serve yet, and changes nothing else.

        In mode Standard KServe removes a canary's pods before its route. In both, what else is wanted may
        be refused, such as a field that somebody else has taken meanwhile: by then a version that was
        refused has no requests.
        """
        predictor, entries = spec["predictor"], spec.get("canary", [])
        if any(entry.get("trafficPercent") for entry in entries):
            idle = [{**entry, "trafficPercent": 0} for entry in entries]
            self._apply({"predictor": predictor, "canary": idle})
            time.sleep(_DRAIN_SECONDS)
        elif predictor.get("canaryTrafficPercent"):
            self._apply({"predictor": {**predictor, "canaryTrafficPercent": 0}})

    def _settle(self, serving: KubeObject) -> str:
        """Waits until the predictor's pods, and none but they, take all requests."""

        def settled(seen: ObservedService) -> bool:
            if not (seen.is_ready and seen.address):
                return False
            revision = _revision(serving)
            if self.config.mode == "Knative":
                return seen.latest_ready(revision) and seen.share_of_latest == 100
            return seen.runs(workload(self.project, serving.get("name")), revision)

        return self._wait(settled, whose=serving).address

    def _apply(self, spec: KubeObject) -> None:
        manifest = inference_service(self.project, self.cluster.namespace, self.config, spec)
        self.cluster.apply(manifest)

    def _stand_beside(self) -> KubeObject | None:
        """Applies what stands beside the InferenceService; gives what is recorded as stable there."""
        kept = None
        for manifest in companions(self.project, self.cluster.namespace, self.release, self.config):
            applied = self.cluster.apply(manifest)
            kept = applied["metadata"].get("annotations", {}).get(STABLE) or kept
        return json.loads(kept) if kept else None

    def _remember(self, stable: KubeObject | None) -> None:
        self.cluster.apply(record(self.project, self.cluster.namespace, stable), _RECORDER)

    def _see(self, service: KubeObject, **labels: str | None) -> ObservedService:
        """The predictor's pods, narrowed by labels; a transformer's carry the same ones but one."""
        wanted = {SERVICE_LABEL: self.project, "component": "predictor", **labels}
        selector = ",".join(f"{name}={value}" for name, value in wanted.items())
        return ObservedService(
            service=service, pods=self.cluster.list("Pod", labelSelector=selector)
        )

    def _wait(
        self, done: Callable[[ObservedService], bool], *, whose: KubeObject | None = None
    ) -> ObservedService:
        """Polls until it holds.

        Args:
            done: what is waited for.
            whose: predictor it is that is to become ready; None: the new one.
        """
        seen: ObservedService

        def is_done() -> bool:
            nonlocal seen
            service = self.cluster.get(KIND, self.project)
            if service is None or service["metadata"].get("deletionTimestamp"):
                raise SlipwayError(f"InferenceService {self.project} was deleted meanwhile.")
            seen = self._see(service)
            return done(seen)

        timeout = self.config.ready_timeout.total_seconds()
        if not wait_until(is_done, timeout=timeout, every=_POLL_SECONDS, clock=time):
            waited = whose or self.wanted
            version = waited.get("labels", {}).get(VERSION_LABEL, "before")
            raise SlipwayError(
                f"Version {version} is not ready after {timeout:.0f} s:"
                f" {diagnose(self.cluster, seen, _revision(waited))}."
            )
        return seen

    def _ask(self, url: str) -> None:
        """Asks through a route, which may lead to the version before for a moment yet."""
        answered = retry(
            lambda: ask(self.golden, url, self.project, self.release.model_version),
            within=_ROUTING_SECONDS,
            first_wait=_POLL_SECONDS,
            longest_wait=_POLL_SECONDS,
            when=lambda error: isinstance(error, NotReached),
            clock=time,
        )
        judge_answers(answered, self.config)
        progress(
            f"{url} answered {answered.rows} golden rows, largest difference"
            f" {answered.difference:.1g}, {answered.median_ms:.1f} ms"
        )

    def _ask_pods(self) -> None:
        """Asks the new version itself, past all routes: it takes no traffic yet."""
        addresses = self._see({}, **{REVISION: _revision(self.wanted)}).addresses(PORT)
        if not addresses:
            raise SlipwayError(
                f"The pods of version {self.release.model_version} were ready and are so no more."
            )
        self._ask(addresses[0])

    def _observe(self) -> None:
        """The window: both revisions answer real requests, the new one golden rows as well."""
        new_version = self.release.model_version
        old_version = self._stable.get("labels", {}).get(VERSION_LABEL, "")
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
            ask=self._ask_pods,
            config=self.config.canary,
        )

    def _measure(self, version: str) -> Observed:
        return observe(self._see({}, **{VERSION_LABEL: version}).addresses(PORT))


def _check_mode(service: KubeObject, config: DeploymentConfig) -> None:
    mode = service["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode")
    names = {"RawDeployment": "Standard", "Serverless": "Knative"}
    if mode and names.get(mode, mode) != config.mode:
        raise SlipwayError(
            f"InferenceService {service['metadata']['name']} runs in mode {mode}, deployment.mode is"
            f" {config.mode}. KServe does not change the mode of a running service: delete it first,"
            " or give the project another name."
        )


def _hash(predictor: KubeObject) -> str:
    return str(predictor.get("labels", {}).get(f"{LABEL}/model-hash", ""))


def _revision(predictor: KubeObject) -> str | None:
    revision: str | None = predictor.get("labels", {}).get(REVISION)
    return revision


def _without_share(predictor: KubeObject) -> KubeObject:
    return {key: value for key, value in predictor.items() if key != "canaryTrafficPercent"}
