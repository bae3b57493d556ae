"""TLS without sockets: bytes in, bytes out, so that the connection decides when a plain byte may be believed.

`TlsLayer` wraps ssl.MemoryBIO. It begins either after an SSLRequest was answered 'S', or at once when a client opens
with a ClientHello (`sslnegotiation=direct`), which has to name `postgresql` by ALPN, so that no other protocol's
client can be talked into it. A byte that came before the handshake is the connection's to refuse (CVE-2021-23214,
RELIABILITY S4).

Source: PostgreSQL 15, 55.2.11; ALPN and direct start of PostgreSQL 17.
"""

from __future__ import annotations

import ssl

from filestore import errors

ALPN = "postgresql"
CLIENT_HELLO = 0x16  # content type of a TLS handshake record
_CHUNK = 64 << 10


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """A context for a certificate chain and key in PEM files. Errors: 58P01 when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise errors.UndefinedFile(
            f'could not load TLS certificate "{certificate}" with key "{key}": {error}',
            hint="Both are PEM files; the key must belong to the certificate and have no passphrase.",
        ) from None
    return context


class TlsBroken(Exception):
    """The peer does not speak TLS, or not the TLS that is asked for: the connection is dropped without an answer."""


class TlsLayer:
    """The TLS of one connection. Thread rule: one thread at a time."""

    def __init__(self, context: ssl.SSLContext, direct: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._direct = direct
        self.ready = False

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Takes bytes of the network; returns (plain bytes for the codec, bytes to send back). Raises TlsBroken."""
        self._incoming.write(data)
        try:
            if not self.ready and not self._handshake():
                return b"", self._outgoing.read()
            return self._read(), self._outgoing.read()
        except ssl.SSLError as error:
            raise TlsBroken(str(error)) from None

    def _handshake(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        if self._direct and self._object.selected_alpn_protocol() != ALPN:
            raise TlsBroken("received direct SSL connection request without ALPN protocol negotiation extension")
        self.ready = True
        return True

    def _read(self) -> bytes:
        parts = []
        try:
            while part := self._object.read(_CHUNK):
                parts.append(part)
        except ssl.SSLWantReadError:
            pass  # all that has arrived is read
        except ssl.SSLZeroReturnError:
            pass  # the peer has said goodbye; the end of the stream follows
        return b"".join(parts)

    def send(self, data: bytes) -> bytes:
        """The encrypted form of `data`."""
        self._object.write(data)
        return self._outgoing.read()

    def close(self) -> bytes:
        """What tells the peer that nothing follows."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it does not wait for the peer's answer, or the handshake never ended
        return self._outgoing.read()
