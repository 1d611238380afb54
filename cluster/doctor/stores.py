"""The doctor's checks of what stands beside the cluster: tracking, stores, registries."""

import os
import re
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

from slipway.cluster.checks import containers
from slipway.cluster.doctor.findings import DoctorTarget, Line, fail, ok, skip
from slipway.components.config.checks.places import is_local

PATIENCE = 5.0
INSIDE = re.compile(
    r"^(?P<service>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)(\.svc(\.cluster\.local)?)$"
)
MANIFESTS = ", ".join(
    f"application/vnd.{kind}"
    for kind in (
        "oci.image.index.v1+json",
        "oci.image.manifest.v1+json",
        "docker.distribution.manifest.list.v2+json",
        "docker.distribution.manifest.v2+json",
    )
)


def mlflow(site: DoctorTarget) -> Iterator[Line]:
    """That the tracking server answers; a service inside the cluster is asked through its API."""
    uri = site.settings.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        yield skip("MLflow", "MLFLOW_TRACKING_URI was not read")
        return
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        yield fail("MLflow", f"the address is {parts.scheme or 'no'}://: pods need http or https")
        return
    inside = INSIDE.match(parts.hostname or "")
    shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
    if inside:
        from kubernetes.client import ApiException, CoreV1Api

        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            CoreV1Api(site.api).connect_get_namespaced_service_proxy_with_path(
                f"{inside['service']}:{port}", inside["namespace"], "health"
            )
        except ApiException as error:
            yield fail("MLflow", f"{shown} answered {error.status} {error.reason} to /health")
            return
        yield ok("MLflow", f"{shown} answers")
        return
    import httpx

    auth = (parts.username, parts.password or "") if parts.username else None
    try:
        answer = httpx.get(f"{shown}{parts.path.rstrip('/')}/health", auth=auth, timeout=PATIENCE)
    except httpx.HTTPError as error:
        yield fail("MLflow", f"{shown} does not answer from here: {error}")
        return
    if answer.status_code == 200:
        yield ok("MLflow", f"{shown} answers")
    else:
        yield fail("MLflow", f"{shown} answered {answer.status_code} to /health")


def feature_registry(site: DoctorTarget) -> Iterator[Line]:
    """That the Feast registry's place can be read."""
    uri = site.settings.get("FEATURE_STORE_URI", "")
    if not uri:
        yield skip("feature registry", "FEATURE_STORE_URI was not read")
        return
    if is_local(uri):
        yield fail("feature registry", f"{uri} is a folder, which pods do not share: use a bucket")
        return
    import fsspec

    path = f"{uri.rstrip('/')}/{site.default('project')}/registry.db"
    try:
        system, inner = fsspec.core.url_to_fs(path)
        there = system.exists(inner)
    except Exception as error:
        # Each of s3fs, gcsfs and adlfs raises types of its own; the text is what helps.
        yield fail(
            "feature registry", f"{path} cannot be read with your credentials: {_one(error)}"
        )
        return
    yield ok(
        "feature registry", path if there else f"{path} is not there yet: the first run makes it"
    )


def online_store(site: DoctorTarget) -> Iterator[Line]:
    """That Redis answers a PING, where it can be reached from here."""
    text = site.settings.get("FEAST_REDIS_URL", "").strip()
    if not text:
        yield fail(
            "online store", "FEAST_REDIS_URL is empty: pods share no sqlite file. Give Redis"
        )
        return
    address, *options = text.split(",")
    host, _, port = address.rpartition(":")
    if INSIDE.match(host) and not _in_cluster():
        yield skip("online store", f"{host} is inside the cluster: run `slipway doctor` in a pod")
        return
    import redis

    given = dict(option.split("=", 1) for option in options if "=" in option)
    server = redis.Redis(
        host=host,
        port=int(port or 6379),
        password=given.get("password"),
        username=given.get("username"),
        ssl=given.get("ssl", "").lower() == "true",
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
    )
    try:
        server.ping()
    except redis.RedisError as error:
        yield fail("online store", f"{host}:{port} does not answer: {_one(error)}")
    else:
        yield ok("online store", f"{host}:{port} answers")
    finally:
        server.close()


def object_store(site: DoctorTarget) -> Iterator[Line]:
    """That a small object can be written, read and deleted where features, logs and alerts are kept."""
    import fsspec

    for name in ("FEATURE_STORE_URI", "INFERENCE_LOG_URI", "MONITORING_URI"):
        uri = site.settings.get(name, "")
        if not uri:
            yield skip("object store", f"{name} was not read")
            continue
        if is_local(uri):
            yield fail("object store", f"{name} is {uri}, which pods do not share: use a bucket")
            continue
        path = f"{uri.rstrip('/')}/.slipway-doctor-{uuid.uuid4().hex}"
        step = "reached"
        try:
            system, inner = fsspec.core.url_to_fs(path)
            step = "written"
            system.pipe_file(inner, b"slipway")
            step = "read"
            same = system.cat_file(inner) == b"slipway"
            step = "deleted"
            system.rm_file(inner)
        except Exception as error:
            # Each of s3fs, gcsfs and adlfs raises types of its own; the text is what helps.
            yield fail("object store", f"{name}: {uri} cannot be {step}: {_one(error)}")
            continue
        if same:
            yield ok(
                "object store",
                f"{name}: wrote, read and deleted an object there (your credentials)",
            )
        else:
            yield fail("object store", f"{uri} gives back other bytes than were written")


def images(site: DoctorTarget) -> Iterator[Line]:
    """That the registry has each image; a private one is asked without a login and may decline."""
    found = sorted({str(c.get("image", "")) for c in containers(site.package).values()})
    local = [image for image in found if not _registry(image)]
    if local:
        yield fail(
            "images",
            f"{', '.join(local)}: no registry is named, so no node can pull. Push the images and"
            " compile with the lock that the push writes (docs/images.md)",
        )
    reachable = [image for image in found if _registry(image)]
    good, private = 0, 0
    for image in reachable:
        status = _manifest_status(image)
        if status == 200:
            good += 1
        elif status in (401, 403):
            private += 1
        else:
            answer = f"answered {status}" if status else "did not answer"
            yield fail("images", f"{image}: the registry {answer}")
    if good:
        yield ok("images", f"{good} of {len(found)} can be pulled")
    if private:
        yield skip("images", f"{private} need a login: the nodes' pull secret decides")


def _registry(image: str) -> str:
    """The registry's host; empty where the name has none (Docker's own rule)."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else ""


def _manifest_status(image: str) -> int:
    """HTTP status of the image's manifest, with an anonymous token where one is given; 0: none."""
    import httpx

    host = _registry(image)
    name = image.removeprefix(f"{host}/")
    name, _, reference = name.partition("@") if "@" in name else name.rpartition(":")
    name = name.partition(":")[0] if "@" in image else name
    scheme = "http" if host.split(":")[0] in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{host}/v2/{name}/manifests/{reference}"
    headers = {"Accept": MANIFESTS}
    try:
        answer = httpx.head(url, headers=headers, timeout=PATIENCE, follow_redirects=True)
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', answer.headers.get("www-authenticate", "")))
        if answer.status_code == 401 and challenge.get("realm", "").startswith("https://"):
            query: dict[str, str] = {
                k: challenge[k] for k in ("service", "scope") if k in challenge
            }
            token = httpx.get(challenge["realm"], params=query, timeout=PATIENCE).json()
            headers["Authorization"] = f"Bearer {token.get('token') or token.get('access_token')}"
            answer = httpx.head(url, headers=headers, timeout=PATIENCE, follow_redirects=True)
    except (httpx.HTTPError, ValueError):
        return 0
    return answer.status_code


def _in_cluster() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def _one(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:160]}"
