"""How the Kubeflow Pipelines API is reached: where it is, and as whom.

Secrets come from the environment or from files, never from the command line, where other users of the
machine could read them. TLS certificates are always verified.
"""

import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.kubeflow import SERVICE, Access
from slipway.components.support.kubernetes import pod
from slipway.components.support.kubernetes.cluster import cluster_access
from slipway.components.support.secrets import remember

PROXY_PATH = "/api/v1/namespaces/{}/services/ml-pipeline:8888/proxy"

# Each way in, with the variables that choose it. More than one is an error, not a guess.
WAYS = {
    "bearer token": ("SLIPWAY_KFP_TOKEN",),
    "bearer token from a file": ("SLIPWAY_KFP_TOKEN_FILE",),
    "cookie": ("SLIPWAY_KFP_COOKIE",),
    "OAuth client credentials": (
        "SLIPWAY_KFP_OAUTH_TOKEN_URL",
        "SLIPWAY_KFP_OAUTH_CLIENT_ID",
        "SLIPWAY_KFP_OAUTH_CLIENT_SECRET",
    ),
    "Identity-Aware Proxy": ("KF_PIPELINES_IAP_OAUTH2_CLIENT_ID",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the API is.

    Attributes:
        host: base URL; empty: the service inside the cluster, or the kubeconfig's cluster through its
            API server.
        namespace: the user's namespace where KFP serves several; empty where it serves one.
        kfp_namespace: where KFP itself is installed.
        context: of the kubeconfig; empty: its current one.
        ca: file of certificate authorities; empty: those of certifi.
        timeout: seconds that one request may take.
        variables: the environment.
    """

    host: str = ""
    namespace: str = ""
    kfp_namespace: str = "kubeflow"
    context: str = ""
    ca: str = ""
    timeout: float = 30.0
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @classmethod
    def of(
        cls,
        *,
        host: str = "",
        namespace: str = "",
        context: str = "",
        ca: str = "",
        timeout: float = 30.0,
        variables: Mapping[str, str] | None = None,
    ) -> "Connection":
        """From options, and from the environment where an option was not given."""
        known = os.environ if variables is None else variables
        return cls(
            host=host or known.get("KF_PIPELINES_ENDPOINT", ""),
            namespace=namespace or known.get("SLIPWAY_NAMESPACE", ""),
            context=context,
            ca=ca or known.get("SLIPWAY_KFP_CA", ""),
            timeout=timeout,
            variables=known,
        )

    @property
    def way(self) -> str:
        """The way in that the environment chooses; empty: none of ours.

        Raises:
            ProjectError: several are chosen, or one of them by half.
        """
        chosen = []
        for way, names in WAYS.items():
            present = [name for name in names if self.variables.get(name)]
            if present and len(present) < len(names):
                missing = ", ".join(name for name in names if name not in present)
                raise ProjectError(f"{present[0]} is set, but {missing} is not: {way} needs both.")
            if present:
                chosen.append(way)
        if len(chosen) > 1:
            both = " and ".join(WAYS[way][0] for way in chosen)
            raise ProjectError(f"{both} are both set: keep the one way in that is meant.")
        return chosen[0] if chosen else ""


def find_access(connection: Connection) -> Access:
    """Where the API is, and as whom it is asked.

    Raises:
        ProjectError: the settings contradict each other, or would send a secret in the clear.
        SlipwayError: no way to the API was found.
    """
    way, variables = connection.way, connection.variables
    cookie = variables.get("SLIPWAY_KFP_COOKIE") or ""
    if connection.ca and not Path(connection.ca).is_file():
        raise ProjectError(f"There is no file {connection.ca} of certificate authorities.")
    if not connection.host:
        found = _inside_or_by_kubeconfig(connection)
    elif not connection.host.startswith(("https://", "http://")):
        raise ProjectError(f"--host {connection.host}: write it with https:// (or http://).")
    elif not _is_address(connection.host):
        raise ProjectError(f"--host {connection.host} is no address.")
    else:
        found = Access(host=connection.host.rstrip("/"), tls=_tls(connection.ca))
    source = _token_source(way, connection)
    if source is None and not way and not connection.host and pod.PIPELINES_TOKEN.is_file():
        source = _from_file(pod.PIPELINES_TOKEN)
    if source or cookie:
        _refuse_clear_text(found.host, way)
    if source:
        token = source
        found = replace(found, authorization=lambda: f"Bearer {token()}")
    return replace(found, cookie=cookie, timeout=connection.timeout)


def _is_address(url: str) -> bool:
    import httpx

    try:
        return bool(urlsplit(url).hostname and httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        return False


def _inside_or_by_kubeconfig(connection: Connection) -> Access:
    """Inside a pod: the service. Elsewhere: the kubeconfig's API server, which passes requests on."""
    if pod.in_pod():
        return Access(host=SERVICE.format(connection.kfp_namespace), tls=_tls(connection.ca))
    try:
        cluster, _ = cluster_access(connection.context)
    except SlipwayError as error:
        raise SlipwayError(
            "Where is Kubeflow Pipelines? Give its address with --host or KF_PIPELINES_ENDPOINT."
            f" {error}"
        ) from error
    tls = _tls(connection.ca or cluster.ssl_ca_cert or "")
    if cluster.cert_file:
        tls = tls or ssl.create_default_context()
        tls.load_cert_chain(cluster.cert_file, cluster.key_file)
    return Access(
        host=cluster.host.rstrip("/") + PROXY_PATH.format(connection.kfp_namespace),
        # The kubeconfig's hook renews a token that ends.
        authorization=lambda: cluster.get_api_key_with_prefix("authorization") or "",
        tls=tls,
        server_name=getattr(cluster, "tls_server_name", None) or "",
    )


def _tls(authorities: str) -> ssl.SSLContext | None:
    try:
        return ssl.create_default_context(cafile=authorities) if authorities else None
    except OSError as error:  # of ssl's too
        raise ProjectError(
            f"{authorities} is no file of certificate authorities: it is PEM text that begins with"
            " -----BEGIN CERTIFICATE-----."
        ) from error


def _token_source(way: str, connection: Connection) -> Callable[[], str] | None:
    variables = connection.variables
    if way == "bearer token":
        return lambda: variables["SLIPWAY_KFP_TOKEN"]
    if way == "bearer token from a file":
        return _from_file(Path(variables["SLIPWAY_KFP_TOKEN_FILE"]))
    if way == "OAuth client credentials":
        return _ClientCredentials(connection)
    if way == "Identity-Aware Proxy":
        return _from_iap(variables)
    return None


def _from_file(path: Path) -> Callable[[], str]:
    """Reads the file for each request: the kubelet renews projected tokens in place."""

    def read() -> str:
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise SlipwayError(f"The token file {path} cannot be read: {reason}.") from error
        if not token:
            raise SlipwayError(f"The token file {path} is empty.")
        return token

    return read


def _from_iap(variables: Mapping[str, str]) -> Callable[[], str]:
    from kfp.client import auth

    def read() -> str:
        token, _ = auth.get_auth_token(
            variables["KF_PIPELINES_IAP_OAUTH2_CLIENT_ID"],
            variables.get("KF_PIPELINES_APP_OAUTH2_CLIENT_ID"),
            variables.get("KF_PIPELINES_APP_OAUTH2_CLIENT_SECRET"),
        )
        return str(token)

    return read


class _ClientCredentials:
    """An access token of an OAuth 2.0 server (RFC 6749, section 4.4), fetched again before it ends."""

    def __init__(self, connection: Connection) -> None:
        self._variables = connection.variables
        self._timeout = connection.timeout
        self._tls = _tls(connection.ca)
        self._token = ""
        self._ends = 0.0

    def __call__(self) -> str:
        if time.monotonic() < self._ends:
            return self._token
        import httpx

        url = self._variables["SLIPWAY_KFP_OAUTH_TOKEN_URL"]
        _refuse_clear_text(url, "OAuth client credentials")
        form = {"grant_type": "client_credentials"}
        for name in ("scope", "audience"):
            if value := self._variables.get(f"SLIPWAY_KFP_OAUTH_{name.upper()}"):
                form[name] = value
        try:
            answer = httpx.post(
                url,
                data=form,
                auth=(
                    self._variables["SLIPWAY_KFP_OAUTH_CLIENT_ID"],
                    self._variables["SLIPWAY_KFP_OAUTH_CLIENT_SECRET"],
                ),
                timeout=self._timeout,
                verify=self._tls or True,
            )
            answer.raise_for_status()
            content = answer.json()
            if not isinstance(token := content["access_token"], str) or not token:
                raise ValueError("its access_token is no text")
            self._token = remember(token)
            self._ends = time.monotonic() + float(content.get("expires_in") or 60) - 30
        except (httpx.HTTPError, ValueError, TypeError, KeyError, RecursionError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise SlipwayError(f"{url} gave no access token: {reason}.") from error
        return self._token


def _refuse_clear_text(url: str, way: str) -> None:
    """A secret goes over http only where the network is the cluster's own or the machine's."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    near = host in ("localhost", "127.0.0.1", "::1") or host.endswith(".svc.cluster.local")
    if parts.scheme != "https" and not near:
        raise ProjectError(f"{url} is not https: {way or 'the token'} would travel in the clear.")
