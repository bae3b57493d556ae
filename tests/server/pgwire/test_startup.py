"""Start-up packets: what clients really send, and what is refused."""

from __future__ import annotations

import pytest

from filestore import errors
from filestore.server.pgwire.messages import Startup
from filestore.server.pgwire.replies import NegotiateProtocolVersion
from filestore.server.pgwire.startup import encoding, options, understand


def startup(minor: int = 0, **parameters: str) -> Startup:
    return Startup(3, minor, {"user": "postgres", **parameters})


def test_parameters_are_settings() -> None:
    request = understand(startup(database="postgres", application_name="psql", DateStyle="ISO", TimeZone="Asia/Tokyo"))
    assert (request.user, request.database) == ("postgres", "postgres")
    assert request.settings == {"application_name": "psql", "DateStyle": "ISO", "TimeZone": "Asia/Tokyo"}
    assert request.negotiate is None


def test_the_database_is_the_user_unless_named() -> None:
    assert understand(startup()).database == "postgres"
    assert understand(startup(database="")).database == "postgres"


@pytest.mark.parametrize("value", ["UTF8", "utf-8", "'utf-8'", "Unicode", "SQL_ASCII"])
def test_encodings_that_are_served(value: str) -> None:
    assert understand(startup(client_encoding=value)).settings == {"client_encoding": "UTF8"}


@pytest.mark.parametrize(("value", "sqlstate"), [("LATIN1", "0A000"), ("WIN1252", "0A000"), ("nonsense", "22023")])
def test_encodings_that_are_not(value: str, sqlstate: str) -> None:
    with pytest.raises(errors.Error) as caught:
        encoding(value)
    assert caught.value.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-c search_path=app", {"search_path": "app"}),
        ("-csearch_path=app", {"search_path": "app"}),
        ("-c search_path=a -c  statement_timeout=5s", {"search_path": "a", "statement_timeout": "5s"}),
        ("--statement-timeout=5s", {"statement_timeout": "5s"}),
        (r"-c search_path=a,\ b -c application_name=x\\y", {"search_path": "a, b", "application_name": "x\\y"}),
        ("-c datestyle=ISO,\\ MDY", {"datestyle": "ISO, MDY"}),
        ("", {}),
    ],
)
def test_options(text: str, found: dict[str, str]) -> None:
    assert options(text) == found


@pytest.mark.parametrize("text", ["-x", "-c search_path", "word", "-c"])
def test_options_that_are_none(text: str) -> None:
    with pytest.raises(errors.SqlSyntaxError):
        options(text)


def test_a_parameter_wins_over_options() -> None:
    request = understand(startup(options="-c application_name=a -c TimeZone=UTC", application_name="b"))
    assert request.settings == {"application_name": "b", "TimeZone": "UTC"}


def test_a_newer_minor_and_protocol_options_are_negotiated() -> None:
    assert understand(startup(2)).negotiate == NegotiateProtocolVersion(0, ())
    request = understand(Startup(3, 0, {"user": "postgres", "_pq_.x": "1"}))
    assert request.negotiate == NegotiateProtocolVersion(0, ("_pq_.x",))
    assert request.settings == {}


def test_refusals() -> None:
    for message, sqlstate in [
        (Startup(2, 0, {}), "0A000"),
        (Startup(4, 0, {"user": "postgres"}), "0A000"),
        (Startup(3, 0, {}), "28000"),
        (startup(replication="database"), "0A000"),
        (startup(replication="true"), "0A000"),
    ]:
        with pytest.raises(errors.Error) as caught:
            understand(message)
        assert caught.value.sqlstate == sqlstate
    assert understand(startup(replication="off")).settings == {}
