"""What a start-up packet asks for: user, database, settings; and what the server refuses before there is a session.

Pure functions over `Startup`. Parameters that are no field of the protocol are settings, as are the `-c name=value` of
`options`; names beginning with `_pq_.` are protocol options, none of which is known. What clients send: psycopg and
pgjdbc put search_path into `options`, asyncpg quotes client_encoding, pgjdbc sends DateStyle and TimeZone.

Source: PostgreSQL 15, 55.2.1 and 55.7 (StartupMessage); wording of the refusals from its backend_startup.c and
postinit.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from filestore import errors
from filestore.server.pgwire.messages import PROTOCOL_MAJOR, Startup
from filestore.server.pgwire.replies import NegotiateProtocolVersion

_FIELDS = ("user", "database", "options", "replication")
# SQL_ASCII is what psql asks for in the C locale; it means bytes as they are, and ours are UTF-8.
_UTF8 = ("utf8", "unicode", "utf", "sqlascii")
_OTHER_ENCODINGS = re.compile(
    r"(latin|iso8859|win|windows|koi8|euc|mule|big5|gb|johab|sjis|shift|uhc|alt|abc|tcvn|vscii|mskanji)\w*"
)
_FALSE = ("false", "off", "no", "0")


@dataclass(slots=True)
class Request:
    """A start-up packet, understood. `settings` come from parameters and `options`, the former last, which wins."""

    user: str
    database: str
    settings: dict[str, str]
    negotiate: NegotiateProtocolVersion | None


def understand(message: Startup) -> Request:
    """Raises the errors that PostgreSQL answers a start-up with; all are fatal."""
    if message.major != PROTOCOL_MAJOR:
        raise errors.FeatureNotSupported(
            f"unsupported frontend protocol {message.major}.{message.minor}: server supports 3.0 to 3.0"
        )
    given = message.parameters
    user = given.get("user", "")
    if not user:
        raise errors.InvalidAuthorization("no PostgreSQL user name specified in startup packet")
    if given.get("replication", "off").lower() not in _FALSE:
        raise errors.FeatureNotSupported(
            "replication connections are not supported", hint="Connect without the replication parameter."
        )
    settings = options(given.get("options", ""))
    settings |= {k: v for k, v in given.items() if k not in _FIELDS and not k.startswith("_pq_.")}
    for name in list(settings):
        if name.lower() == "client_encoding":
            settings[name] = encoding(settings[name])
    unknown = tuple(k for k in given if k.startswith("_pq_."))
    negotiate = NegotiateProtocolVersion(0, unknown) if message.minor > 0 or unknown else None
    return Request(user, given.get("database") or user, settings, negotiate)


def encoding(value: str) -> str:
    """The canonical name of a client encoding that can be served. Errors: 0A000 for one that needs conversion, 22023
    for no encoding.
    """
    plain = re.sub(r"[^a-z0-9]", "", value.lower())
    if plain in _UTF8:
        return "UTF8"
    if _OTHER_ENCODINGS.fullmatch(plain):
        raise errors.FeatureNotSupported(
            f'client_encoding "{value}" is not supported', hint="FileStore speaks UTF8: set client_encoding to UTF8."
        )
    raise errors.InvalidParameterValue(f'invalid value for parameter "client_encoding": "{value}"')


def options(text: str) -> dict[str, str]:
    """The settings of a command-line string: `-c name=value`, `-cname=value`, `--name=value`; a backslash keeps the
    next character.

    Errors: 42601 for anything else.
    """
    found: dict[str, str] = {}
    words = _words(text)
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word = words.pop(0)
        elif (word.startswith("-c") and len(word) > 2) or word.startswith("--"):
            word = word[2:]
        else:
            raise errors.SqlSyntaxError(f'invalid command-line argument for server process: "{word}"')
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise errors.SqlSyntaxError(f"-c {word} requires a value")
        found[name.replace("-", "_")] = value
    return found


def _words(text: str) -> list[str]:
    """Words between blanks, as pg_split_opts has them."""
    return [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in re.findall(r"(?:\\.|[^\\\s])+", text, re.DOTALL)]
