"""Settings: PostgreSQL's values, words and transaction rules."""

from __future__ import annotations

import pytest

from filestore import errors
from filestore.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("work_mem", "1GB", "1GB"),
        ("work_mem", "1 GB", "1GB"),
        ("work_mem", "100", "100kB"),
        ("work_mem", "5000", "5000kB"),
        ("statement_timeout", "1min", "1min"),
        ("statement_timeout", "1500", "1500ms"),
        ("statement_timeout", "1.5s", "1500ms"),
        ("statement_timeout", "60000", "1min"),
        ("jit", "1", "on"),
        ("client_encoding", "utf-8", "UTF8"),
        ("datestyle", "ISO, DMY", "ISO, DMY"),
        ("datestyle", "european", "ISO, DMY"),
        ("timezone", "europe/berlin", "Europe/Berlin"),
        ("timezone", "utc", "UTC"),
        ("timezone", "-5", "<-05>+05"),
        ("timezone", "5.5", "<+05:30>-05:30"),
        ("timezone", "UTC-3", "UTC-3"),
        ("time zone", "Etc/UTC", "Etc/UTC"),
        ("synchronous_commit", "true", "on"),
        ("synchronous_commit", "remote_apply", "remote_apply"),
        ("client_min_messages", "info", "info"),
        ("default_transaction_isolation", "SERIALIZABLE", "serializable"),
        ("random_page_cost", "1.10", "1.1"),
        ("row_security", "ON", "on"),
        ("extra_float_digits", "1.4", "1"),
        ("a.b", "x", "x"),
        ("effective_cache_size", "1GB", "1GB"),
        ("idle_in_transaction_session_timeout", "1d", "1d"),
        ("search_path", 'A, "B c"', 'A, "B c"'),
    ],
)
def test_values(name: str, value: str, shown: str) -> None:
    settings = Settings()
    settings.set(name, value)
    assert settings.get(name) == shown


@pytest.mark.parametrize(
    ("name", "value", "sqlstate", "message"),
    [
        ("foo", "1", "42704", 'unrecognized configuration parameter "foo"'),
        (
            "extra_float_digits",
            "99",
            "22023",
            '99 is outside the valid range for parameter "extra_float_digits" (-15 .. 3)',
        ),
        ("client_min_messages", "fatal", "22023", 'invalid value for parameter "client_min_messages": "fatal"'),
        ("work_mem", "abc", "22023", 'invalid value for parameter "work_mem": "abc"'),
        (
            "statement_timeout",
            "-1",
            "22023",
            '-1 ms is outside the valid range for parameter "statement_timeout" (0 .. 2147483647)',
        ),
        ("statement_timeout", "5 parsecs", "22023", 'invalid value for parameter "statement_timeout": "5 parsecs"'),
        ("jit", "maybe", "22023", 'parameter "jit" requires a Boolean value'),
        ("server_version", "1", "55P02", 'parameter "server_version" cannot be changed'),
        (
            "max_connections",
            "5",
            "55P02",
            'parameter "max_connections" cannot be changed without restarting the server',
        ),
        ("client_encoding", "latin1", "0A000", 'client_encoding "latin1" is not supported'),
        ("client_encoding", "foo", "22023", 'invalid value for parameter "client_encoding": "foo"'),
        ("datestyle", "SQL", "0A000", 'DateStyle "SQL" is not supported'),
        ("datestyle", "foo", "22023", 'invalid value for parameter "DateStyle": "foo"'),
        ("timezone", "Foo/Bar", "22023", 'invalid value for parameter "TimeZone": "Foo/Bar"'),
        ("intervalstyle", "iso_8601", "0A000", 'IntervalStyle "iso_8601" is not supported'),
        ("intervalstyle", "foo", "22023", 'invalid value for parameter "intervalstyle": "foo"'),
        ("a.b-c", "1", "42602", 'invalid configuration parameter name "a.b-c"'),
    ],
)
def test_refusals(name: str, value: str, sqlstate: str, message: str) -> None:
    with pytest.raises(errors.Error) as caught:
        Settings().set(name, value)
    assert (caught.value.sqlstate, caught.value.message) == (sqlstate, message)


def test_transactions() -> None:
    settings = Settings({"application_name": "start"})
    settings.parameter_status()
    settings.begin()
    settings.set("application_name", "one")
    settings.set_local("application_name", "two")
    settings.set("TimeZone", "Asia/Kolkata", local=True)
    assert settings.report_changes() == [("application_name", "two"), ("TimeZone", "Asia/Kolkata")]
    settings.commit()
    assert (settings.application_name, settings.timezone.name) == ("one", "UTC")
    settings.begin()
    settings.set("application_name", "three")
    settings.rollback()
    assert settings.application_name == "one"
    settings.reset("application_name")
    assert settings.report_changes() == [("application_name", "start"), ("TimeZone", "UTC")]


def test_set_after_set_local_stays() -> None:
    settings = Settings()
    settings.begin()
    settings.set_local("application_name", "local")
    settings.set("application_name", "session")
    settings.commit()
    assert settings.application_name == "session"


def test_the_transactions_own_end_with_it() -> None:
    settings = Settings()
    settings.set("default_transaction_isolation", "repeatable read")
    settings.begin()
    assert settings.transaction_isolation == "repeatable read"
    settings.set("transaction_isolation", "read committed")
    settings.set("transaction_read_only", "on")
    settings.commit()
    assert (settings.transaction_isolation, settings.transaction_read_only) == ("repeatable read", False)


def test_start() -> None:
    settings = Settings({"client_encoding": "'utf-8'", "DateStyle": "ISO", "search_path": "app"})
    told = dict(settings.parameter_status())
    assert len(told) == 13
    assert told["server_version"].startswith("15.")
    assert settings.search_path == ("app",)
    settings.set("search_path", ("a", "B c"))
    path: tuple[str, ...] = settings.search_path
    assert path == ("a", "B c")
    settings.reset_all()
    assert settings.search_path == ("app",)
    assert settings.get("nothing.here", missing_ok=True) is None
    assert ("search_path", "app") in [row[:2] for row in settings.all()]
