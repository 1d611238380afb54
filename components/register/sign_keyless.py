"""Signs a bundle without a key: by the identity of a CI job or a service account, through Sigstore.

An identity token goes to Fulcio, which gives a certificate of some minutes for a key that this process
makes and forgets; Rekor's log then says for ever who signed what, and when. All of it is sigstore's own
library; here it is bounded in time, asked again where that helps, and its errors are told.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slipway.components.contracts.bundle import SIGNATURE
from slipway.components.contracts.signing.keyless import load_root, reason
from slipway.components.contracts.signing.policy import TrustPolicy
from slipway.components.contracts.signing.signature import write_statement
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import write_text
from slipway.components.support.retry import retry
from slipway.components.support.secrets import remember

if TYPE_CHECKING:
    from sigstore.models import SigningConfig
    from sigstore.oidc import IdentityToken
    from sigstore.sign import SigningContext

ANSWER_SECONDS = 30.0
ATTEMPTS = 4
_LONGEST_WAIT = 30.0


def sign_keyless(
    folder: Path, policy: TrustPolicy, token_file: Path | None, services: Path | None
) -> None:
    """Puts a signature into a bundle's folder, by whoever the identity token names.

    Args:
        folder: the bundle.
        policy: its root says which authorities and logs are trusted; its signers whose tokens are sent.
        token_file: holds the token, as a projected service account's; None: the CI job's own.
        services: Sigstore's signing_config.json, which says where they are; None: MODEL_TRUST_ROOT is a
            client's trust configuration, which holds one.

    Raises:
        SlipwayError: there is no token of use, or a service does not do its part.
    """
    token = _read_token(policy, token_file)
    context = _context(policy, services)

    def sign() -> str:
        from sigstore.dsse import Statement

        # A new attempt is a new key with a new certificate: nothing of the one before is used.
        with context.signer(token) as signer:
            return signer.sign_dsse(Statement(write_statement(folder))).to_json()

    try:
        signed = retry(
            sign,
            attempts=ATTEMPTS,
            longest_wait=8.0,
            when=_may_pass,
            asked_to_wait=_asked_to_wait,
        )
    # sigstore's clients, requests and pydantic raise errors that have no base in common.
    except Exception as error:
        raise SlipwayError(_failure(error)) from error
    write_text(folder / SIGNATURE, signed + "\n")


def _read_token(policy: TrustPolicy, file: Path | None) -> "IdentityToken":
    from sigstore.oidc import IdentityError, IdentityToken

    raw = _raw_token(file)
    remember(raw)
    try:
        token = IdentityToken(raw)
    except IdentityError as error:
        cause = type(error.__cause__).__name__
        wrong = {
            "ExpiredSignatureError": "has run out: ask for a new one",
            "InvalidAudienceError": "is for another audience than sigstore: ask for one with it",
        }.get(cause, "is no identity token of OpenID Connect, or has no subject, or has run out")
        raise SlipwayError(f"The identity token {wrong}.") from error
    # The log is public and keeps who signed: nobody is put there whom this place would not trust.
    trusted = {signer.issuer for signer in policy.signers}
    if token.federated_issuer not in trusted:
        raise SlipwayError(
            f"The identity token is of {token.federated_issuer}, and MODEL_SIGNERS trusts only who is"
            f" known to {', '.join(sorted(trusted))}. Nothing was sent."
        )
    return token


def _raw_token(file: Path | None) -> str:
    from sigstore.oidc import IdentityError, detect_credential

    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise SlipwayError(f"The identity token in {file} cannot be read.") from error
    if given := environment.optional("SIGSTORE_ID_TOKEN"):
        return given
    try:
        found = detect_credential()
    except IdentityError as error:
        raise SlipwayError(
            "This CI job's identity token cannot be had. A job of GitHub Actions needs"
            " `permissions: id-token: write`; a pull request of a fork never has one."
        ) from error
    if not found:
        raise SlipwayError(
            "There is no identity token to sign with: this is no CI job that has one. Name a file with"
            " one (--identity-token), or set SIGSTORE_ID_TOKEN; its audience is sigstore."
        )
    return found


def _context(policy: TrustPolicy, services: Path | None) -> "SigningContext":
    from sigstore.sign import SigningContext

    root, config = load_root(policy.root), _services(policy, services)
    fulcio, rekor = config.get_fulcio(), config.get_tlogs()[0]
    # The library waits for ever for these two; for a timestamp it does not.
    for session in (fulcio.session, rekor._session):  # type: ignore[attr-defined]
        session.request = functools.partial(session.request, timeout=ANSWER_SECONDS)
    return SigningContext(
        fulcio=fulcio, rekor=rekor, trusted_root=root, tsa_clients=config.get_tsas()
    )


def _services(policy: TrustPolicy, file: Path | None) -> "SigningConfig":
    from sigstore.models import ClientTrustConfig, SigningConfig

    read: Callable[[], SigningConfig]
    if file is not None:
        read, what = functools.partial(SigningConfig.from_file, str(file)), str(file)
    elif '"signingConfig"' in policy.root:
        config = ClientTrustConfig.from_json
        read, what = (lambda: config(policy.root).signing_config), "MODEL_TRUST_ROOT"
    else:
        raise SlipwayError(
            "Nothing says which Fulcio and which Rekor to ask: give Sigstore's signing_config.json to"
            " --signing-config, or let MODEL_TRUST_ROOT be a client's trust configuration, which holds"
            " it."
        )
    try:
        return read()
    except Exception as error:  # as above
        raise SlipwayError(
            f"{what} holds no signing configuration of Sigstore's with a Fulcio and a Rekor that are in"
            " use."
        ) from error


def _answer(error: BaseException | None) -> Any:
    """The HTTP answer that an error goes back to; None: there was none."""
    while error is not None:
        if (found := getattr(error, "response", None)) is not None:
            return found
        error = error.__cause__ or error.__context__
    return None


def _may_pass(error: BaseException) -> bool:
    answer = _answer(error)
    if answer is None:  # requests' own errors are OSErrors
        return isinstance(error, OSError) and not isinstance(error, ValueError)
    return bool(answer.status_code == 429 or answer.status_code >= 500)


def _asked_to_wait(error: BaseException) -> float | None:
    answer = _answer(error)
    after = answer.headers.get("Retry-After", "") if answer is not None else ""
    return min(float(after), _LONGEST_WAIT) if after.isdecimal() else None


def _failure(error: Exception) -> str:
    """An error for people: who did not do what, and what to do."""
    answer = _answer(error)
    if answer is not None:
        host, status = urlsplit(answer.url).netloc, answer.status_code
        if status == 429 or status >= 500:
            return (
                f"The model is not signed: {host} answered {status}, {ATTEMPTS} times. Try again"
                " later."
            )
        return (
            f"The model is not signed: {host} answered {status}. Fulcio takes tokens only of issuers"
            " that it is set up for, and before they run out."
        )
    if type(error).__name__ in ("ExpiredIdentity", "ExpiredCertificate"):
        return (
            "The model is not signed: the identity token ran out before the end. Ask for a new one."
        )
    if _may_pass(error):
        address = urlsplit(getattr(getattr(error, "request", None), "url", "") or "").netloc
        return (
            f"The model is not signed: {address or 'a service'} could not be reached or did not answer"
            f" within {ANSWER_SECONDS:.0f} s, {ATTEMPTS} times."
        )
    if isinstance(error, ValueError | KeyError | TypeError):
        return "The model is not signed: a service answered what is no answer of Fulcio or Rekor."
    return f"The model is not signed: of what the services gave, {reason(error)}."
