"""Every way in: what is sent with a request, and what is refused before anything is sent."""

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kfp_double import Double, Fault

from slipway.cluster import connection as module
from slipway.cluster.api import Kubeflow
from slipway.cluster.connection import Connection
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.kubeflow import KfpApiError
from slipway.components.support.kubernetes import pod


class Recorder:
    """Answers like a healthy server and remembers the headers; also an OAuth token endpoint."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.headers: list[dict[str, str]] = []
        self.forms: list[str] = []
        self.answer: Any = {"multi_user": True}
        self.token_answer: Any = ""  # a token
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sent = {name.title(): value for name, value in self.headers.items()}
                recorder.headers.append(sent | {"path": self.path})
                self.reply(recorder.answer)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                basic = base64.b64decode(self.headers["Authorization"].split()[1]).decode()
                recorder.forms.append(f"{basic} {body}")
                token = {"access_token": f"token-{len(recorder.forms)}", "expires_in": 3600}
                self.reply(token if recorder.token_answer == "" else recorder.token_answer)

            def reply(self, content: Any) -> None:
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


def ask(recorder: Recorder, **variables: str) -> dict[str, str]:
    connection = Connection.of(host=recorder.url, variables=variables)
    Kubeflow(connection, backoff=0.01).health()
    return recorder.headers[-1]


def test_bearer_token(recorder: Recorder) -> None:
    assert ask(recorder, SLIPWAY_KFP_TOKEN="abc")["Authorization"] == "Bearer abc"


def test_token_file_is_read_again_for_each_request(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    connection = Connection.of(host=recorder.url, variables={"SLIPWAY_KFP_TOKEN_FILE": str(path)})
    kubeflow = Kubeflow(connection)
    kubeflow.health()
    path.write_text("two\n")
    kubeflow.health()
    assert [h["Authorization"] for h in recorder.headers] == ["Bearer one", "Bearer two"]
    path.unlink()
    with pytest.raises(SlipwayError, match=r"token file .* cannot be read"):
        kubeflow.health()


def test_cookie(recorder: Recorder) -> None:
    headers = ask(recorder, SLIPWAY_KFP_COOKIE="authservice_session=x")
    assert headers["Cookie"] == "authservice_session=x"
    assert "Authorization" not in headers


def test_no_credentials(recorder: Recorder) -> None:
    headers = ask(recorder)
    assert "Authorization" not in headers
    assert "Cookie" not in headers


def test_oauth_token_is_fetched_once_and_used(recorder: Recorder) -> None:
    variables = {
        "SLIPWAY_KFP_OAUTH_TOKEN_URL": f"{recorder.url}/token",
        "SLIPWAY_KFP_OAUTH_CLIENT_ID": "slipway",
        "SLIPWAY_KFP_OAUTH_CLIENT_SECRET": "s3",
        "SLIPWAY_KFP_OAUTH_SCOPE": "kfp",
    }
    kubeflow = Kubeflow(Connection.of(host=recorder.url, variables=variables))
    kubeflow.health()
    kubeflow.health()
    assert [h["Authorization"] for h in recorder.headers] == ["Bearer token-1"] * 2
    assert recorder.forms == ["slipway:s3 grant_type=client_credentials&scope=kfp"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"\xff\xfe", "it is no text")],
)
def test_a_token_file_that_holds_none(
    recorder: Recorder, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(SlipwayError, match=f"token file .*token .*{said}"):
        ask(recorder, SLIPWAY_KFP_TOKEN_FILE=str(tmp_path / "token"))


@pytest.mark.parametrize(
    "answer", [[], None, {"access_token": None}, {"access_token": 1}, {"expires_in": 3}, b"{"]
)
def test_an_oauth_server_that_gives_no_token_is_named(recorder: Recorder, answer: Any) -> None:
    recorder.token_answer = answer
    with pytest.raises(SlipwayError, match=rf"{recorder.url}/token gave no access token: .*\.$"):
        ask(
            recorder,
            SLIPWAY_KFP_OAUTH_TOKEN_URL=f"{recorder.url}/token",
            SLIPWAY_KFP_OAUTH_CLIENT_ID="me",
            SLIPWAY_KFP_OAUTH_CLIENT_SECRET="hidden",
        )
    assert recorder.headers == []


def test_in_a_pod_the_projected_token_and_the_service(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("pod-token")
    (tmp_path / "namespace").write_text("team")
    monkeypatch.setattr(pod, "PIPELINES_TOKEN", tmp_path / "token")
    monkeypatch.setattr(pod, "NAMESPACE_FILE", tmp_path / "namespace")
    monkeypatch.setattr(module, "SERVICE", recorder.url.replace("{}", ""))
    Kubeflow(Connection.of(variables={})).health()
    assert recorder.headers[-1]["Authorization"] == "Bearer pod-token"
    assert recorder.headers[-1]["path"] == "/apis/v2beta1/healthz"


def test_through_the_kubeconfig_s_api_server(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "a",
                "contexts": [
                    {"name": "a", "context": {"cluster": "c", "user": "u"}},
                    {"name": "b", "context": {"cluster": "c", "user": "v"}},
                ],
                "clusters": [{"name": "c", "cluster": {"server": recorder.url}}],
                "users": [
                    {"name": "u", "user": {"token": "from-a"}},
                    {"name": "v", "user": {"token": "from-b"}},
                ],
            }
        )
    )
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    Kubeflow(Connection.of(variables={})).health()
    Kubeflow(Connection.of(variables={}, context="b")).health()
    assert [h["Authorization"] for h in recorder.headers] == ["Bearer from-a", "Bearer from-b"]
    assert recorder.headers[0]["path"] == (
        "/api/v1/namespaces/kubeflow/services/ml-pipeline:8888/proxy/apis/v2beta1/healthz"
    )


def test_nowhere_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none")
    )
    with pytest.raises(SlipwayError, match="--host or KF_PIPELINES_ENDPOINT"):
        Kubeflow(Connection.of(variables={}))


@pytest.mark.parametrize(
    ("host", "variables", "message"),
    [
        ("kubeflow.example.com", {}, "write it with https://"),
        (
            "http://kubeflow.example.com",
            {"SLIPWAY_KFP_TOKEN": "x"},
            "bearer token would travel in the clear",
        ),
        ("http://kubeflow.example.com", {"SLIPWAY_KFP_COOKIE": "x"}, "in the clear"),
        (
            "https://k.example.com",
            {"SLIPWAY_KFP_TOKEN": "x", "SLIPWAY_KFP_COOKIE": "y"},
            "SLIPWAY_KFP_TOKEN and SLIPWAY_KFP_COOKIE are both set",
        ),
        (
            "https://k.example.com",
            {"SLIPWAY_KFP_OAUTH_CLIENT_ID": "x"},
            "SLIPWAY_KFP_OAUTH_TOKEN_URL, SLIPWAY_KFP_OAUTH_CLIENT_SECRET is not",
        ),
        ("https://k.example.com", {"SLIPWAY_KFP_CA": "/none.pem"}, "no file /none.pem"),
        ("https://k.example.com", {"SLIPWAY_KFP_CA": __file__}, "no file of certificate auth"),
        ("ftp://kubeflow.example.com", {}, "write it with https://"),
        *(
            (host, {}, "is no address")
            for host in ("https://", "http://[::1", "http://a:b", "http://a\x00")
        ),
    ],
)
def test_settings_that_are_refused(host: str, variables: dict[str, str], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        Kubeflow(Connection.of(host=host, variables=variables))


def test_certificates_are_verified(tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "ca.pem")),
        ],
        check=True,
        capture_output=True,
    )
    certificate.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "ca.pem").read_text())
    recorder = Recorder(certificate)
    try:
        with pytest.raises(KfpApiError, match=r"certificate was not accepted.*--ca"):
            ask(recorder)
        assert recorder.headers == []
        assert ask(recorder, SLIPWAY_KFP_CA=str(tmp_path / "ca.pem"))
    finally:
        recorder.close()


def test_errors_carry_the_server_s_words_and_advice(kubeflow_server: Double) -> None:
    kubeflow_server.faults.append(Fault("GET", "healthz", 403, 9))
    with pytest.raises(KfpApiError, match=r"--namespace and the role.*It said: made to fail"):
        Kubeflow(Connection.of(host=kubeflow_server.url)).health()


def test_a_namespace_of_another_user_is_refused(kubeflow_server: Double) -> None:
    kubeflow_server.multi_user, kubeflow_server.namespaces = True, {"mine"}
    Kubeflow(Connection.of(host=kubeflow_server.url, namespace="mine")).find_experiment("x")
    with pytest.raises(KfpApiError, match="403"):
        Kubeflow(Connection.of(host=kubeflow_server.url, namespace="theirs")).find_experiment("x")


def test_a_login_page_in_place_of_an_answer_is_named(recorder: Recorder) -> None:
    recorder.answer = b"<html>Sign in</html>"
    with pytest.raises(
        KfpApiError, match=r"health: 127\.0\.0\.1 answered with a page and not with"
    ):
        ask(recorder)


def test_a_port_where_nothing_listens() -> None:
    with pytest.raises(KfpApiError, match="did not answer") as caught:
        Kubeflow(Connection.of(host="http://127.0.0.1:9", variables={}), backoff=0.01).health()
    assert not caught.value.unknown
