"""Who calls the gRPC and Flight ports: the local user is trusted while no password is set, everybody else shows
basic credentials.

The rule is the PostgreSQL port's; only the exchange differs: these protocols carry `authorization: Basic
base64(user:password)`, which is checked against the same SCRAM verifier. A password in the clear belongs inside
TLS: without it, other addresses are refused.

Thread rule: any thread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import threading
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from scramp import ScramMechanism

from filestore import errors
from filestore.hal import process
from filestore.server.pgwire.auth import MECHANISM, is_loopback, parse_verifier, refusal, verifier_of

# Deriving a key takes a millisecond; a client sends its password with every call.
REMEMBERED_MAX: Final = 1024
LOCAL_USER: Final = "postgres"


class BasicAuth:
    """The rule of one listener. `verifier` gives a user's SCRAM verifier text, None for no such user or no password."""

    def __init__(
        self, verifier: Callable[[str], str | None], *, encrypted: bool, roles: tuple[str, ...] = (LOCAL_USER,)
    ) -> None:
        self._verifier = verifier
        self._encrypted = encrypted
        self._roles = roles
        self._made_up = str(verifier_of(process.random_bytes(16).hex()))
        self._secret = process.random_bytes(32)
        self._remembered: OrderedDict[bytes, str] = OrderedDict()
        self._guard = threading.Lock()

    def admit(self, address: str | None, authorization: str | None) -> str:
        """The user who is calling. Raises 28000 without credentials or without TLS, 28P01 for wrong ones."""
        local = is_loopback(address)
        if local and not any(self._verifier(role) for role in self._roles):
            return LOCAL_USER
        if not local and not self._encrypted:
            raise errors.InvalidAuthorization(
                "connections from other machines need TLS", hint="Start the server with a certificate and a key."
            )
        if not authorization:
            raise errors.InvalidAuthorization(
                "authentication required", hint='Send "authorization: Basic base64(user:password)" as metadata.'
            )
        user, password = decoded(authorization)
        known = self._verifier(user) if user in self._roles else None
        self._check(user, password, known)
        return user

    def _check(self, user: str, password: str, known: str | None) -> None:
        text = known or self._made_up
        mark = hmac.new(self._secret, f"{user}\0{password}".encode(), hashlib.sha256).digest()
        with self._guard:
            if known is not None and self._remembered.get(mark) == text:
                return
        verifier = parse_verifier(text)
        _, stored_key, _, _ = ScramMechanism(MECHANISM).make_auth_info(
            password, iteration_count=verifier.iterations, salt=verifier.salt
        )
        if not hmac.compare_digest(stored_key, verifier.stored_key) or known is None:
            raise refusal(user)
        with self._guard:
            self._remembered[mark] = text
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)


def decoded(authorization: str) -> tuple[str, str]:
    """(user, password) of a basic authorization header; the padding may be missing. Raises 28000 when it is
    malformed.
    """
    scheme, _, encoded = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        encoded = encoded.strip()
        text = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
        user, colon, password = text.partition(":")
        if not colon:
            raise ValueError
    except (ValueError, binascii.Error):
        raise errors.InvalidAuthorization("malformed authorization header", hint="Only Basic is understood.") from None
    return user, password


def host_of(peer: str) -> str | None:
    """The address in gRPC's name of a peer (`ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`); None when it has none."""
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    return rest.rpartition(":")[0].strip("[]")
