"""Runs the stages of a local run in containers, as hardened as a cluster would run them.

kfp 2.17 lets the engine delete a container the moment that it ends, and then asks how it ended. Where
the answer comes too late it assumes success, so a container that fails at once is reported as a success
in a quarter to half of all runs (docs/images.md). Here a container is deleted only after its exit code
was read, and whatever cannot be read is a failure.

A predictor outlives the stage that deploys it, so it needs a container of its own: the supervisor of
`serving`, in the predictor's image. The stage finds it by its lock, as it finds one that
runs without containers.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.endpoint import (
    LOG,
    STATE,
    control_path,
    endpoint_folder,
    last_lines,
    read_state,
)
from slipway.components.support import images, stage
from slipway.components.support.environment import without_signers
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import wait_until

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container
    from docker.models.images import Image

    from slipway.local.runner.request import RunRequest

USER = "10001:0"  # where the person is root: a stage never is
TMP = {"/tmp": "rw,nosuid,nodev,size=4g,mode=1777"}  # noqa: S108 - the one writable place of an image
NETWORKED = ("deploy", "monitor")  # they ask the endpoint
LAST_LINES = 15
KILLED = 137
"""The exit code of a process that SIGKILL ended."""
_START_SECONDS = 30.0


class Containers:
    """What the containers of one pipeline run share.

    Args:
        request: what is run.
    """

    def __init__(self, request: "RunRequest") -> None:
        self._request = request
        self._stages = {images.image(name): name for name in images.STAGES}
        self._user = _user()
        Path(request.root).mkdir(parents=True, exist_ok=True)
        self._hand_over(Path(request.root).parent)

    def check(self) -> None:
        """Checks, before the first stage starts, for the engine and every image of the pipeline.

        Raises:
            SlipwayError: no engine answers, or images are neither here nor in a registry.
        """
        import docker
        import docker.errors
        import requests

        used = set(re.findall(r"^ +image: (\S+)$", Path(self._request.pipeline).read_text(), re.M))
        if images.image("deploy") in used:
            used.add(images.image("predictor"))
        local = sorted(name for name in used if not _names_registry(name))
        here = {}
        try:
            with contextlib.closing(docker.from_env()) as client:
                client.ping()
                # Each by its name: a list inspects every image of the machine, and ends in an error
                # where somebody removes one meanwhile.
                for name in local:
                    with contextlib.suppress(docker.errors.ImageNotFound):
                        here[name] = client.images.get(name)
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise SlipwayError(
                f"No container engine answers ({error}). Start one; where there is none, `make engine`"
                ' and `eval "$(images/engine.sh env)"`.'
            ) from error
        if missing := [name for name in local if name not in here]:
            raise SlipwayError(
                f"These images are not here: {', '.join(missing)}. Build them with `make images`."
            )
        if old := [name for name in local if _is_outdated(name, here[name])]:
            raise SlipwayError(
                f"These images hold other code than this checkout: {', '.join(old)}. Build them again"
                " with `make images`."
            )

    def install(self) -> None:
        """Replaces kfp's function; a SIGTERM ends the running container too."""
        from kfp.local import docker_task_handler

        docker_task_handler.run_docker_container = self.run
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    def run(
        self,
        client: "docker.DockerClient",
        image: str,
        command: list[str],
        volumes: dict[str, object],
        **arguments: Any,
    ) -> int:
        """Runs a task's container to its end and prints what it prints.

        Returns:
            Its exit code; 1 also where there is none: no image, no engine, no answer.
        """
        import docker.errors
        import requests

        name = self._stages.get(image, "")
        endpoint, is_new = None, False
        if name != "register" and "environment" in arguments:
            arguments["environment"] = without_signers(arguments["environment"])
        try:
            if name == "deploy":
                endpoint, is_new = self._ensure_endpoint(client)
            if endpoint is not None:
                # The deploy stage watches the predictor's process, which is in that container.
                arguments["pid_mode"] = f"container:{endpoint.id}"
            code = self._run(client, name, image, command, volumes, arguments)
        except SlipwayError as error:
            return _failed(str(error))
        except docker.errors.ImageNotFound:
            return _failed(f"The image {image} is not here. Run `make images`.")
        except docker.errors.APIError as error:
            return _failed(f"The container engine refused {image}: {error.explanation or error}.")
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            return _failed(f"The container engine does not answer any more: {error}.")
        if code and is_new and endpoint is not None and not _serves(self._endpoint_folder()):
            _remove(endpoint)
        return code

    def _run(
        self,
        client: "docker.DockerClient",
        name: str,
        image: str,
        command: list[str],
        volumes: dict[str, object],
        arguments: dict[str, object],
    ) -> int:
        """Creates, starts, follows, waits, and only then deletes."""
        container = client.containers.create(
            image=_present(client, image),
            command=command,
            volumes=volumes,
            **self._hardening(needs_network=name in NETWORKED or name == "" or self._is_remote()),
            **arguments,
        )
        output = _ContainerOutput()
        try:
            container.start()
            for chunk in container.logs(stream=True, follow=True):
                output.print(chunk)
            code = int(container.wait()["StatusCode"])
            container.reload()
            killed = container.attrs["State"].get("OOMKilled", False)
        finally:
            _remove(container)
        if code and not output.has_error:
            why = " for lack of memory" if killed else ""
            if code == KILLED and not killed:
                # An engine may tell of the end before it has heard of its reason.
                why = " (it was killed, most often for lack of memory)"
            tail = "\n".join(output.lines)
            _failed(f"Its container ended with exit code {code}{why}. Its last lines:\n{tail}")
        return code

    def _hardening(self, *, needs_network: bool) -> dict[str, object]:
        from docker.types import Mount

        data = [path for path in self._request.mounts if "://" not in path and Path(path).exists()]
        writable = str(Path(self._request.root).parent)
        return {
            "user": self._user,
            "read_only": True,
            "tmpfs": TMP,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "network_mode": "host" if needs_network else "none",
            "mounts": [
                Mount(target=path, source=path, type="bind", read_only=path != writable)
                for path in dict.fromkeys([writable, *data])
            ],
        }

    def _is_remote(self) -> bool:
        """Whether a store or the data lies behind a network."""
        places = [*self._request.environment.values(), *self._request.mounts]
        local = ("file://", "sqlite://")
        return any("://" in place and not place.startswith(local) for place in places)

    def _endpoint_folder(self) -> Path:
        home = Path(self._request.environment["SLIPWAY_HOME"])
        return endpoint_folder(home, self._request.arguments["project"])

    def _ensure_endpoint(self, client: "docker.DockerClient") -> "tuple[Container | None, bool]":
        """Starts the container that predictors run in, unless it runs.

        Returns:
            The container, None where the model is deployed to a cluster; and whether it is new.

        Raises:
            SlipwayError: a predictor outside containers has the project, or its container does not start.
        """
        if self._request.arguments.get("deployment_target") != "local":
            return None, False
        folder = self._endpoint_folder()
        if control_path(folder).parent != folder:
            raise SlipwayError(
                f"{folder} is too long a path for the endpoint's control socket."
                " Give --out a shorter one."
            )
        project = self._request.arguments["project"]
        # Runs in another folder have a predictor of their own.
        place = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
        title = f"slipway-{project}-predictor-{place}"
        running = _find_endpoint(client, title, project, folder)
        if running is not None:
            return running, False
        return self._start_endpoint(client, title, folder), True

    def _start_endpoint(
        self, client: "docker.DockerClient", title: str, folder: Path
    ) -> "Container":
        """Starts the supervisor in a container of the predictor's image and waits for its state.

        Raises:
            SlipwayError: it does not start.
        """
        from slipway.serving import supervisor

        port = int(self._request.arguments["deployment"]["port"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STATE).unlink(missing_ok=True)
        self._hand_over(folder.parent.parent)
        hardening = self._hardening(needs_network=True)
        container = client.containers.run(
            image=_present(client, images.image("predictor")),
            command=["python3", "-m", supervisor.__name__, str(folder), "--port", str(port)],
            name=title,
            detach=True,
            auto_remove=True,
            environment=without_signers(self._request.environment),
            **hardening,
        )
        wait_until(
            lambda: (folder / STATE).exists() or not _is_up(container), timeout=_START_SECONDS
        )
        if not (folder / STATE).exists():
            _remove(container)
            raise SlipwayError(
                f"The predictor's container did not start: {last_lines(folder / LOG, LAST_LINES)}"
            )
        return container

    def _hand_over(self, folder: Path) -> None:
        """Gives a folder to the user that containers run as; what a root run left there is root's."""
        if os.getuid() != 0:
            return
        user, group = (int(number) for number in self._user.split(":"))
        for path in (folder, *folder.rglob("*")):
            if path.lstat().st_uid != user:
                os.chown(path, user, group, follow_symlinks=False)


class _ContainerOutput:
    """A container's output: passed on at once, the last lines kept, and whether it reported an error."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.has_error = False
        self._rest = b""

    def print(self, chunk: bytes) -> None:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if not text.startswith(stage.EVENT_PREFIX):
                self.lines.append(text)
            elif json.loads(text.removeprefix(stage.EVENT_PREFIX))["event"] == "error":
                self.has_error = True


def _find_endpoint(
    client: "docker.DockerClient", title: str, project: str, folder: Path
) -> "Container | None":
    """The container whose predictor serves the project; one that does not serve is removed.

    Raises:
        SlipwayError: a predictor outside containers serves it.
    """
    import docker.errors

    from slipway.components.deploy.local import target as local

    running = any(
        endpoint.state == "running" and endpoint.project == project
        for endpoint in local.status(folder.parent.parent)
    )
    try:
        existing = client.containers.get(title)
    except docker.errors.NotFound:
        existing = None
    if running and existing is None:
        home = shlex.quote(str(folder.parent.parent))
        raise SlipwayError(
            f"A predictor that runs outside containers serves {project}. End it with"
            f" `SLIPWAY_HOME={home} slipway stop`, then run again."
        )
    if existing is not None and not running:
        existing.remove(force=True)
        return None
    return existing


def _user() -> str:
    """UID:GID that containers run as.

    Raises:
        SlipwayError: SLIPWAY_CONTAINER_USER is none, or root.
    """
    own = USER if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"
    user = os.environ.get("SLIPWAY_CONTAINER_USER") or own
    if not re.fullmatch(r"[1-9]\d*:\d+", user):
        raise SlipwayError(
            f"SLIPWAY_CONTAINER_USER={user} is no user for a container: give UID:GID in numbers,"
            " and not root, for example 1000660000:0."
        )
    return user


def _failed(message: str) -> int:
    stage.emit("error", message=message)
    return 1


def _present(client: "docker.DockerClient", reference: str) -> str:
    """The image, pulled where it is missing and names a registry."""
    import docker.errors

    try:
        client.images.get(reference)
    except docker.errors.ImageNotFound:
        if not _names_registry(reference):
            raise
        client.images.pull(reference)
    return reference


def _is_outdated(reference: str, found: "Image") -> bool:
    """Whether a local image says that it was built from other sources than are here."""
    from slipway.images import plan

    name = reference.partition(":")[0].removeprefix("slipway/")
    label = found.labels.get(plan.SOURCES_LABEL)
    try:
        known = plan.read_images()
    except ValueError:  # an installed package has no sources to compare with
        return False
    return label is not None and name in known and label != plan.content_hash(known[name])


def _names_registry(reference: str) -> bool:
    """Whether a reference names its registry; Docker Hub, the default, does not count."""
    return any(mark in reference.split("/")[0] for mark in ".:")


def _is_up(container: "Container") -> bool:
    import docker.errors

    try:
        container.reload()
    except docker.errors.NotFound:
        return False
    return container.status in ("created", "running")


def _serves(folder: Path) -> bool:
    return bool(read_state(folder).get("stable"))


def _remove(container: "Container") -> None:
    """Deletes a container; where the engine is gone there is nothing more to do."""
    import docker.errors
    import requests

    with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
        container.remove(force=True)
