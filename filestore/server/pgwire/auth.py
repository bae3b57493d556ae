"""Who a client is: trust for the local user while no password is set, SCRAM-SHA-256 otherwise. Nothing else is
offered: no MD5, no cleartext (RELIABILITY S1).

`Authenticator.begin` decides for a connection; a `ScramExchange` then takes the client's two messages. For a user who
does not exist the whole exchange is played against a made-up verifier, whose salt is the same each time, and ends with
the same error as a wrong password (S2). The mathematics are scramp's. Sans-IO; thread rule: an exchange belongs to one
connection.

Source: RFC 5802, RFC 7677; PostgreSQL 15, 55.3.1; verifiers are written as PostgreSQL stores them
(`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, pg_authid.rolpassword).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from scramp import ScramException, ScramMechanism

from filestore import errors
from filestore.hal import process

MECHANISM = "SCRAM-SHA-256"
ITERATIONS = 4096

_NAMELESS = re.compile(r"\A([^,]*,[^,]*,)n=,")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True)
class Verifier:
    """What the server keeps of a password."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int

    def __str__(self) -> str:
        salt, stored, server = (base64.b64encode(b).decode() for b in (self.salt, self.stored_key, self.server_key))
        return f"{MECHANISM}${self.iterations}:{salt}${stored}:{server}"


def verifier_of(password: str) -> Verifier:
    """A verifier with a fresh salt."""
    salt, stored_key, server_key, iterations = ScramMechanism(MECHANISM).make_auth_info(
        password, iteration_count=ITERATIONS, salt=process.random_bytes(16)
    )
    return Verifier(salt, stored_key, server_key, iterations)


def parse_verifier(text: str) -> Verifier:
    """Errors: 22023 for a text that is no SCRAM verifier."""
    match = _VERIFIER.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in match.groups()[1:])
    except (ValueError, binascii.Error):
        raise errors.InvalidParameterValue("invalid SCRAM verifier") from None
    return Verifier(salt, stored_key, server_key, int(match[1]))


def is_loopback(address: str | None) -> bool:
    """Whether a peer address is this machine; an unknown one is not."""
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def refusal(user: str) -> errors.InvalidPassword:
    """The one answer to a wrong password, an unknown user and a user without a password."""
    return errors.InvalidPassword(f'password authentication failed for user "{user}"', severity="FATAL")


@dataclass(slots=True)
class Authenticator:
    """The rules of one listener. `verifier` gives a user's verifier text, None for no such user or no password."""

    verifier: Callable[[str], str | None]
    roles: frozenset[str] = frozenset({"postgres"})
    secret: bytes = field(default_factory=lambda: process.random_bytes(32))

    def begin(self, user: str, address: str | None) -> ScramExchange | None:
        """The exchange a client has to pass, None when it is trusted. Errors: 28000 for an unknown user who would be
        trusted.
        """
        known = self.verifier(user) if user in self.roles else None
        nobody_has_one = not any(self.verifier(role) for role in self.roles)
        if is_loopback(address) and nobody_has_one:
            if user not in self.roles:
                raise errors.InvalidAuthorization(f'role "{user}" does not exist', severity="FATAL")
            return None
        return ScramExchange(user, self._made_up(user) if known is None else parse_verifier(known), known is not None)

    def _made_up(self, user: str) -> Verifier:
        """A verifier that no password fits, the same for the same name as long as the server runs."""
        salt = hmac.new(self.secret, b"salt" + user.encode(), hashlib.sha256).digest()[:16]
        key = hmac.new(self.secret, b"key" + user.encode(), hashlib.sha256).digest()
        return Verifier(salt, key, key, ITERATIONS)


class ScramExchange:
    """The server's side of SCRAM: `first` and `final` take the client's messages and return the answers."""

    def __init__(self, user: str, verifier: Verifier, real: bool) -> None:
        self.user = user
        self.started = False
        self._real = real
        info = (verifier.salt, verifier.stored_key, verifier.server_key, verifier.iterations)
        self._server = ScramMechanism(MECHANISM).make_server(lambda _name: info)

    def first(self, mechanism: str, data: bytes | None) -> bytes:
        """server-first-message. Errors: 08P01 for another mechanism or a malformed message."""
        if mechanism != MECHANISM:
            raise errors.ProtocolViolation("client selected an invalid SASL authentication mechanism", severity="FATAL")
        self.started = True
        try:
            text = _text(data or b"")
            # libpq leaves SCRAM's own user name empty, as the start-up packet has it; scramp insists on one. What is
            # signed is the message as it came.
            self._server.set_client_first(_NAMELESS.sub(r"\1n=*,", text))
            self._server.client_first_bare = text.split(",", 2)[2]
            return str(self._server.get_server_first()).encode()
        except ScramException as error:
            raise _malformed(error) from None

    def final(self, data: bytes) -> bytes:
        """server-final-message, which ends the exchange well. Errors: 28P01 for a wrong proof, 08P01 for a malformed
        message.
        """
        try:
            self._server.set_client_final(_text(data))
        except ScramException as error:
            if "p=" not in data.decode("ascii", "replace"):
                raise _malformed(error) from None
            raise refusal(self.user) from None
        if not self._real:
            raise refusal(self.user)
        return str(self._server.get_server_final()).encode()


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise errors.ProtocolViolation("malformed SCRAM message", severity="FATAL") from None


def _malformed(error: ScramException) -> errors.ProtocolViolation:
    return errors.ProtocolViolation("malformed SCRAM message", detail=str(error), severity="FATAL")
