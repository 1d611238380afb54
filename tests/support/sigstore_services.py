"""Fulcio, Rekor and a timestamp authority over HTTP, on loopback, as strict as the real ones.

Fulcio takes a token only of an issuer that it knows, whose signature, audience and time hold, and a
request that is signed by the key in it. Rekor takes an envelope only if the certificate beside it fits
its signature. `faults` makes the next answers of a path others: a status, "hang", "close" or "nonsense".
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from support.sigstore_world import GITHUB, TRAIN, Sigstore, new_key, pem

CERTIFICATE, LOG, LOG_2, STAMP = (
    "/api/v2/signingCert",
    "/api/v1/log/entries",
    "/api/v2/log/entries",
    "/api/v1/timestamp",
)
_ISSUER_KEY = new_key()


def make_token(
    *, issuer: str = GITHUB, audience: str = "sigstore", seconds: float = 300, **claims: Any
) -> str:
    """An identity token, as the issuer of a CI's jobs makes it."""
    now = int(time.time())
    said = {"sub": "repo:acme/models:ref:refs/heads/main", "job_workflow_ref": TRAIN[19:]}
    said |= {"iss": issuer, "aud": audience, "iat": now - 5, "nbf": now - 5, "exp": now + seconds}
    return jwt.encode(said | claims, _ISSUER_KEY, algorithm="ES256")


@dataclass(slots=True)
class Services:
    """What is asked, and what the next answers are to be."""

    world: Sigstore
    url: str = ""
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)

    def signing_config(self, rekor: int = 1) -> dict[str, Any]:
        """What signing_config.json holds; of Rekor's first or second API."""

        def at(version: int, path: str = "") -> list[dict[str, Any]]:
            start = {"start": "2025-01-01T00:00:00Z"}
            url = {"url": self.url + path, "operator": "us", "validFor": start}
            return [url | {"majorApiVersion": version}]

        return {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": at(1),
            "rekorTlogUrls": at(rekor),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": at(1, STAMP),
            "tsaConfig": {"selector": "ANY"},
        }

    def trust_config(self) -> dict[str, Any]:
        """What a client's trust configuration holds: the root and the services."""
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.world.trusted_root(),
            "signingConfig": self.signing_config(),
        }

    def answer(self, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        """An answer: its status and its body."""
        if path == STAMP:
            return 201, self.world.stamp(body)
        try:
            made = {CERTIFICATE: self._certify, LOG: self._log, LOG_2: self._log_2}[path]
            return (200 if path == CERTIFICATE else 201), json.dumps(
                made(json.loads(body), headers)
            ).encode()
        except (jwt.InvalidTokenError, InvalidSignature, ValueError, KeyError) as error:
            status = 401 if isinstance(error, jwt.InvalidTokenError) else 400
            return status, json.dumps({"code": status, "message": "not taken"}).encode()

    def _certify(self, request: dict[str, Any], headers: Any) -> dict[str, Any]:
        token = headers["Authorization"].removeprefix("Bearer ")
        self.tokens.append(token)
        public = _ISSUER_KEY.public_key()
        claims = jwt.decode(token, public, algorithms=["ES256"], audience="sigstore", issuer=GITHUB)
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        key = csr.public_key()
        if not csr.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("no proof of possession")
        name = f"https://github.com/{claims['job_workflow_ref']}"
        issued = self.world.issue(key, name, claims["iss"])
        chain = [issued, self.world.authority.issuing, self.world.authority.root]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": [*map(pem, chain)]}}}

    def _log(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        proposed = request["spec"]["proposedContent"]
        envelope = json.loads(proposed["envelope"])
        (verifier,) = proposed["verifiers"]
        certificate = base64.b64decode(verifier)
        kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"])
        signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
        key = x509.load_pem_x509_certificate(certificate).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        (one,) = envelope["signatures"]
        key.verify(base64.b64decode(one["sig"]), signed, ec.ECDSA(hashes.SHA256()))
        return {"24296fb2": self.world.log_dsse(envelope, certificate.decode())}

    def _log_2(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        return self.world.log_hash(request)


@contextmanager
def serve(world: Sigstore) -> Iterator[Services]:
    """The services on a port of loopback that the system chose."""
    services = Services(world)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            services.asked.append(self.path)
            fault = (services.faults.get(self.path) or [0]).pop(0)
            if fault == "hang":
                services.hanging.wait(30)
            if fault in ("hang", "close"):
                self.close_connection = True
                return
            status, content = services.answer(self.path, self.headers, body)
            if fault == "nonsense":
                content = b"<html>Welcome to the guest network</html>"
            elif fault:
                status, content = int(fault), b'{"code": 1, "message": "no"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    services.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield services
    finally:
        services.hanging.set()
        server.shutdown()
        server.server_close()
        thread.join()
