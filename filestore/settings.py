"""A session's settings: SET, SHOW, RESET, SET LOCAL; those that the engine reads at every value are plain attributes.

A value is kept in its own type and base unit (bool, int in ms or kB, float, str); `get` shows it as PostgreSQL does.
Changes inside a transaction are undone when it rolls back, those of SET LOCAL also when it commits: the session calls
`begin`, `commit` and `rollback`. Names with a dot are free for clients. Known names and bounds: `settings_table`.
Messages as in PostgreSQL 15.

Thread rule: used by the session's thread only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

from filestore import errors, timezones
from filestore.identifiers import quote_ident
from filestore.settings_table import INT_MAX, SETTINGS, Setting
from filestore.timezones import TimeZone
from filestore.types import Kind, number_registered, registered_number

Value = bool | int | float | str
SettingsMark = tuple[dict[str, Value], dict[str, Value | None], dict[str, Value | None]]

_CUSTOM = re.compile(r"[A-Za-z_\x80-\U0010ffff][\w$]*(\.[A-Za-z_\x80-\U0010ffff][\w$]*)+\Z")
_TRANSACTION = {
    "transaction_isolation": "default_transaction_isolation",
    "transaction_read_only": "default_transaction_read_only",
    "transaction_deferrable": "default_transaction_deferrable",
}
_TIME_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1000.0, "min": 60_000.0, "h": 3_600_000.0, "d": 86_400_000.0}
_MEMORY_UNITS = {"B": 1 / 1024, "kB": 1.0, "MB": 1024.0, "GB": 1024.0**2, "TB": 1024.0**3}
_BASE = {"ms": 1.0, "s": 1000.0, "kB": 1.0, "8kB": 8.0}
_ENCODINGS = frozenset(("utf8", "unicode"))
_OTHER_ENCODINGS = re.compile(r"(latin|iso8859|win|koi8|euc|sjis|big5|gbk|uhc|gb18030|johab|sqlascii|muleinternal)")


class Settings:
    """The settings of one session. Attributes that mirror settings are read freely and changed only by `set`.

    transaction_us and statement_us are now() and statement_timestamp(): the session writes them as it begins.
    """

    timezone: TimeZone
    date_order: str
    bytea_output: str
    extra_float_digits: int
    statement_timeout_ms: int
    lock_timeout_ms: int
    idle_in_transaction_session_timeout_ms: int
    search_path: tuple[str, ...]
    synchronous_commit: bool
    client_min_messages: str
    application_name: str
    names: Callable[[Kind, int], str]
    oids: Callable[[Kind, str], int]
    """Names of oids of reg* types, and oids of names; a session puts its own here."""

    def __init__(
        self,
        startup: Mapping[str, str] | None = None,
        *,
        user: str = "filestore",
        facts: Mapping[str, int | str] | None = None,
    ) -> None:
        """`startup` are a connection's parameters; what they set is what RESET returns to. `facts` are the server's own
        values of settings that nobody can set. Errors as `set`."""
        self.names = registered_number
        self.oids = number_registered
        self._values: dict[str, Value] = {}
        self._reset: dict[str, Value] = {**(facts or {}), "session_authorization": user}
        self._undo: dict[str, Value | None] = {}
        self._after: dict[str, Value | None] = {}
        self._in_transaction = False
        self._reported: dict[str, str] = {}
        self._changed: set[str] = set()
        self.transaction_us = self.statement_us = time.time_ns() // 1000
        for name in _HOOKS:
            self._mirror(name)
        for name, value in (startup or {}).items():
            setting = _known(name)
            if setting is not None and setting.context != "user":
                raise _fixed(setting)
            key, parsed = self._parse(name, value.strip("'\"") if name.lower() == "client_encoding" else value)
            self._reset[key] = parsed
            self._mirror(key)

    # Reading

    def get(self, name: str, missing_ok: bool = False) -> str | None:
        """The value as SHOW prints it. Errors with 42704 for an unknown name; None for one when `missing_ok`."""
        key = _key(name)
        setting = SETTINGS.get(key)
        if setting is None:
            custom = self._values.get(key, self._reset.get(key))
            if custom is None:
                if missing_ok:
                    return None
                raise _unrecognized(name)
            return str(custom)
        return show(setting, self.value(key))

    def value(self, name: str) -> Value:
        """The typed value of a known setting in its base unit."""
        key = _key(name)
        if key in self._values:
            return self._values[key]
        if key in _TRANSACTION:
            return self.value(_TRANSACTION[key])
        return self._reset[key] if key in self._reset else SETTINGS[key].default

    def all(self) -> list[tuple[str, str, str]]:
        """(name, shown value, description) of all settings in name order, as SHOW ALL."""
        rows = [(s.name, show(s, self.value(k)), s.description) for k, s in SETTINGS.items()]
        rows += [(k, str(v), "") for k, v in {**self._reset, **self._values}.items() if k not in SETTINGS]
        return sorted(rows, key=lambda row: row[0].lower())

    def registered_name(self, kind: Kind, oid: int) -> str:
        """How an oid of a reg* type is shown."""
        return self.names(kind, oid)

    def registered_oid(self, kind: Kind, text: str) -> int:
        """The oid of what a reg* type's text names."""
        return self.oids(kind, text)

    @property
    def transaction_isolation(self) -> str:
        return str(self.value("transaction_isolation"))

    @property
    def transaction_read_only(self) -> bool:
        return bool(self.value("transaction_read_only"))

    # Writing

    def set(self, name: str, value: str | Sequence[str] | None, local: bool = False) -> None:
        """SET [LOCAL]; a sequence is a list such as search_path's, None is DEFAULT.

        Errors with 42704, 22023, 55P02, 42602, and 0A000 for styles that are not built.
        """
        setting = _known(name)
        if setting is not None and setting.context != "user":
            raise _fixed(setting)
        key = _key(name)
        if value is None:
            self._assign(key, None, local or key in _TRANSACTION)
            return
        if not isinstance(value, str):
            value = _joined(name, setting, value)
        key, parsed = self._parse(name, value)
        self._assign(key, parsed, local or key in _TRANSACTION)

    def set_local(self, name: str, value: str | Sequence[str] | None) -> None:
        """SET LOCAL: until the transaction ends."""
        self.set(name, value, local=True)

    def reset(self, name: str) -> None:
        """RESET: back to the connection's start. Errors with 42704, 55P02."""
        setting = _known(name)
        key = _key(name)
        if setting is None and key not in self._values and key not in self._reset:
            raise _unrecognized(name)
        self.set(name, None)

    def reset_all(self) -> None:
        """RESET ALL; settings of the current transaction stay."""
        for key in list(self._values):
            if key not in _TRANSACTION:
                self._assign(key, None, False)

    def _parse(self, name: str, value: str) -> tuple[str, Value]:
        key = _key(name)
        setting = _known(name)
        if setting is None:
            return key, value
        parsed = _PARSE[setting.type](setting, name, value)
        if key == "standard_conforming_strings" and not parsed:
            raise errors.FeatureNotSupported(
                "standard_conforming_strings = off is not supported",
                hint="Write E'...' for strings with backslash escapes.",
            )
        if key == "datestyle":
            return key, _check_datestyle(name, value, self.date_order)
        check = _CHECKS.get(key)
        return key, check(name, parsed) if check is not None and isinstance(parsed, str) else parsed

    def _assign(self, key: str, value: Value | None, local: bool) -> None:
        before = self._values.get(key)
        if self._in_transaction:
            self._undo.setdefault(key, before)
            if local:
                self._after.setdefault(key, before)
            else:
                self._after.pop(key, None)
        elif local:
            return  # outside a transaction there is nothing it could last for
        self._store(key, value)

    def _store(self, key: str, value: Value | None) -> None:
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value
        self._mirror(key)

    def _mirror(self, key: str) -> None:
        hook = _HOOKS.get(key)
        if hook is not None:
            hook(self)
        setting = SETTINGS.get(key)
        if setting is not None and setting.report:
            self._changed.add(key)

    # Transactions

    def mark(self) -> SettingsMark:
        """What `back_to` restores within the transaction."""
        return dict(self._values), dict(self._undo), dict(self._after)

    def back_to(self, mark: SettingsMark) -> None:
        """Undoes the changes since the mark; those before it end as they would have."""
        values, undo, after = mark
        for key in self._values.keys() | values.keys():
            if self._values.get(key) != values.get(key):
                self._store(key, values.get(key))
        self._undo, self._after = dict(undo), dict(after)

    def begin(self) -> None:
        """A transaction starts; from here on changes can be undone."""
        self._in_transaction = True

    def commit(self) -> None:
        """Keeps what SET did, ends what SET LOCAL did."""
        self._end(self._after)

    def rollback(self) -> None:
        """Undoes all changes since `begin`."""
        self._end(self._undo)

    def _end(self, values: dict[str, Value | None]) -> None:
        self._in_transaction = False
        if not self._undo:
            return
        for key, value in list(values.items()):
            self._store(key, value)
        self._undo.clear()
        self._after.clear()

    # The wire

    def report_changes(self) -> list[tuple[str, str]]:
        """(name, value) of reported settings that changed since the last call."""
        out = []
        for key in sorted(self._changed):
            shown = show(SETTINGS[key], self.value(key))
            if self._reported.get(key) != shown:
                self._reported[key] = shown
                out.append((SETTINGS[key].name, shown))
        self._changed.clear()
        return out

    def parameter_status(self) -> list[tuple[str, str]]:
        """(name, value) of all reported settings: what a new connection is told."""
        self._changed.update(key for key, setting in SETTINGS.items() if setting.report)
        self._reported.clear()
        return self.report_changes()


# Names


def _key(name: str) -> str:
    lowered = name.lower()
    return {"time zone": "timezone", "transaction isolation level": "transaction_isolation"}.get(lowered, lowered)


def _known(name: str) -> Setting | None:
    """The setting, None for a custom name. Errors with 42704 or 42602 for any other."""
    setting = SETTINGS.get(_key(name))
    if setting is not None:
        return setting
    if "." not in name:
        raise _unrecognized(name)
    if _CUSTOM.match(name) is None:
        raise errors.InvalidParameterName(
            f'invalid configuration parameter name "{name}"',
            detail="Custom parameter names must be two or more simple identifiers separated by dots.",
        )
    return None


def _unrecognized(name: str) -> errors.UndefinedObject:
    return errors.UndefinedObject(f'unrecognized configuration parameter "{name}"')


def _fixed(setting: Setting) -> errors.CannotChangeNow:
    tail = {"postmaster": " without restarting the server", "sighup": " now"}.get(setting.context, "")
    return errors.CannotChangeNow(f'parameter "{setting.name}" cannot be changed{tail}')


# Values from text


def _invalid(
    name: str, value: str, *, hint: str | None = None, detail: str | None = None
) -> errors.InvalidParameterValue:
    shown = SETTINGS[_key(name)].name if hint is None else name
    return errors.InvalidParameterValue(f'invalid value for parameter "{shown}": "{value}"', hint=hint, detail=detail)


_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def parse_bool(value: str) -> bool | None:
    """A boolean as PostgreSQL spells it, unique prefixes included; None for anything else."""
    lowered = value.strip().lower()
    if not lowered or lowered == "o":
        return None
    if any(word.startswith(lowered) for word in _TRUE):
        return True
    return False if any(word.startswith(lowered) for word in _FALSE) else None


def _parse_bool(setting: Setting, _name: str, value: str) -> Value:
    parsed = parse_bool(value)
    if parsed is None:
        raise errors.InvalidParameterValue(f'parameter "{setting.name}" requires a Boolean value')
    return parsed


_NUMBER = re.compile(
    r"\s*([+-]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))\s*([A-Za-z]*)\s*\Z"
)


def _number(setting: Setting, name: str, value: str) -> float:
    """The number in the setting's base unit."""
    found = _NUMBER.match(value)
    if found is None:
        raise _invalid(name, value, hint=_unit_hint(setting) if value.strip()[:1].isdigit() else None)
    number = float(int(found[1], 16)) if "x" in found[1].lower() else float(found[1])
    if not found[2]:
        return number
    units = _units(setting)
    if found[2] not in units or setting.unit is None:
        raise _invalid(name, value, hint=_unit_hint(setting))
    return number * units[found[2]] / _BASE[setting.unit]


def _units(setting: Setting) -> dict[str, float]:
    return {} if setting.unit is None else _TIME_UNITS if setting.unit in ("ms", "s") else _MEMORY_UNITS


def _unit_hint(setting: Setting) -> str | None:
    if setting.unit is None:
        return None
    names = [f'"{u}"' for u in _units(setting)]
    return f"Valid units for this parameter are {', '.join(names[:-1])}, and {names[-1]}."


def _parse_int(setting: Setting, name: str, value: str) -> Value:
    number = _number(setting, name, value)
    if abs(number) > INT_MAX:
        raise _invalid(name, value, hint="Value exceeds integer range.")
    return int(_in_range(setting, round(number)))


def _parse_real(setting: Setting, name: str, value: str) -> Value:
    return float(_in_range(setting, _number(setting, name, value)))


def _in_range(setting: Setting, number: float) -> float:
    low, high = setting.minimum, setting.maximum
    if low is not None and high is not None and not low <= number <= high:
        unit = f" {setting.unit}" if setting.unit else ""
        raise errors.InvalidParameterValue(
            f"{number:g}{unit} is outside the valid range for parameter "
            f'"{setting.name}" ({_plain(low)} .. {_plain(high)})'
        )
    return number


def _plain(bound: float) -> str:
    return str(int(bound)) if abs(bound) < 1e15 and bound == int(bound) else f"{bound:g}"


def _parse_enum(setting: Setting, name: str, value: str) -> Value:
    lowered = value.lower()
    if lowered in setting.choices:
        return lowered
    if "on" in setting.choices and "off" in setting.choices:
        flag = parse_bool(value)
        if flag is not None:
            return "on" if flag else "off"
    raise _invalid(name, value, hint=f"Available values: {', '.join(setting.choices)}.")


def _parse_string(_setting: Setting, _name: str, value: str) -> Value:
    return value


_PARSE: dict[str, Callable[[Setting, str, str], Value]] = {
    "bool": _parse_bool,
    "int": _parse_int,
    "real": _parse_real,
    "enum": _parse_enum,
    "string": _parse_string,
    "list": _parse_string,
}


def _check_datestyle(name: str, value: str, present: str) -> Value:
    order = present
    for word in (w.strip().lower() for w in value.split(",")):
        if word == "iso":
            continue
        if word in ("ymd", "dmy", "mdy"):
            order = word.upper()
        elif word.startswith("euro"):
            order = "DMY"
        elif word in ("us", "default") or word.startswith("noneuro"):
            order = "MDY"
        elif word in ("sql", "german") or word.startswith("postgres"):
            raise errors.FeatureNotSupported(f'DateStyle "{value}" is not supported', hint="Use ISO.")
        else:
            raise _invalid(name, value, detail=f'Unrecognized key word: "{word}".')
    return f"ISO, {order}"


def parse_zone(value: str) -> TimeZone | None:
    """The zone that SET TIME ZONE names: a number of hours east, or a name (POSIX ones count west); None for none.

    Errors with 0A000 as `timezones.named`.
    """
    number = _HOURS.match(value)
    if number is None:
        return timezones.named(value)
    hours = float(number[1])
    return timezones.fixed(int(hours * 3600)) if abs(hours) < 168 else None


_HOURS = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\Z")


def _check_zone(name: str, value: str) -> Value:
    if value.lower() in ("local", "default"):
        return str(SETTINGS["timezone"].default)
    zone = parse_zone(value)
    if zone is None:
        raise _invalid(name, value)
    return zone.name


def _check_encoding(name: str, value: str) -> Value:
    squeezed = re.sub(r"[^a-z0-9]", "", value.lower())
    if squeezed in _ENCODINGS:
        return "UTF8"
    if _OTHER_ENCODINGS.match(squeezed):
        raise errors.FeatureNotSupported(f'client_encoding "{value}" is not supported', hint="Use UTF8.")
    raise _invalid(name, value)


def _only(allowed: str, label: str) -> Callable[[str, str], Value]:
    def check(_name: str, value: str) -> Value:
        if value != allowed:
            raise errors.FeatureNotSupported(f'{label} "{value}" is not supported', hint=f"Use {allowed}.")
        return value

    return check


def split_names(value: str) -> tuple[str, ...]:
    """The names of a list such as search_path: unquoted ones in lower case. Errors with 22023 for bad syntax."""
    names: list[str] = []
    at = 0
    pattern = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(,|\Z)')
    while at < len(value) or (at and value[at - 1] == ","):
        found = pattern.match(value, at)
        if found is None:
            raise errors.InvalidParameterValue(
                f'invalid value for parameter "search_path": "{value}"', detail="List syntax is invalid."
            )
        names.append(found[2].lower() if found[1] is None else found[1].replace('""', '"'))
        at = found.end()
    return tuple(names)


def _joined(name: str, setting: Setting | None, values: Sequence[str]) -> str:
    """SET's values as one text. Errors with 22023 for several where there is one."""
    if setting is not None and setting.type == "list":
        return ", ".join(map(quote_ident, values))
    if len(values) > 1 and name.lower() != "datestyle":
        raise errors.InvalidParameterValue(f"SET {name} takes only one argument")
    return ", ".join(values)


def _check_search_path(_name: str, value: str) -> Value:
    split_names(value)
    return value


_CHECKS: dict[str, Callable[[str, str], Value]] = {
    "timezone": _check_zone,
    "client_encoding": _check_encoding,
    "intervalstyle": _only("postgres", "IntervalStyle"),
    "search_path": _check_search_path,
}


# Values to text


def show(setting: Setting, value: Value) -> str:
    """The value as SHOW prints it: on/off, the largest unit that divides it."""
    if setting.type == "bool":
        return "on" if value else "off"
    if setting.type == "real" and isinstance(value, float):
        return f"{value:.6g}"
    if setting.unit is None or not isinstance(value, int) or value <= 0:
        return str(value)
    units, base = _units(setting), _BASE[setting.unit]
    for unit, factor in sorted(units.items(), key=lambda item: -item[1]):
        ratio = value * base / factor
        if ratio >= 1 and ratio == int(ratio):
            return f"{int(ratio)}{unit}"
    return f"{value}{setting.unit}"


# What the engine reads often, as attributes


def _mirror_zone(settings: Settings) -> None:
    settings.timezone = parse_zone(str(settings.value("timezone"))) or timezones.UTC


def _mirror_order(settings: Settings) -> None:
    settings.date_order = str(settings.value("datestyle"))[-3:]


def _mirror_path(settings: Settings) -> None:
    settings.search_path = split_names(str(settings.value("search_path")))


def _mirror_commit(settings: Settings) -> None:
    settings.synchronous_commit = settings.value("synchronous_commit") != "off"


def _attribute(attribute: str, name: str) -> Callable[[Settings], None]:
    def mirror(settings: Settings) -> None:
        setattr(settings, attribute, settings.value(name))

    return mirror


_HOOKS: dict[str, Callable[[Settings], None]] = {
    "timezone": _mirror_zone,
    "datestyle": _mirror_order,
    "search_path": _mirror_path,
    "synchronous_commit": _mirror_commit,
    "statement_timeout": _attribute("statement_timeout_ms", "statement_timeout"),
    "lock_timeout": _attribute("lock_timeout_ms", "lock_timeout"),
    "idle_in_transaction_session_timeout": _attribute(
        "idle_in_transaction_session_timeout_ms", "idle_in_transaction_session_timeout"
    ),
    **{
        name: _attribute(name, name)
        for name in (
            "bytea_output",
            "extra_float_digits",
            "client_min_messages",
            "application_name",
        )
    },
}
