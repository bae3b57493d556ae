"""Text forms against PostgreSQL 15: golden.jsonl holds its answers (see make_golden.py)."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from filestore import errors, timezones, types
from filestore.query import literals, render
from filestore.query.interval_text import format_interval, parse_interval
from filestore.query.literals import format_literal, parse_literal
from filestore.settings import Settings
from filestore.storage.vector import Vector

GOLDEN = [json.loads(line) for line in Path(__file__).with_name("golden.jsonl").read_text().splitlines()]
KINDS = sorted({kind for _, kind, *_ in GOLDEN})


def sql_type(name: str) -> types.SqlType:
    found = re.match(r"(.*?)\((\d+)(?:,(\d+))?\)$", name)
    if found is None:
        return types.SqlType(types.BY_NAME[name])
    kind = types.BY_NAME[found[1]]
    if kind is types.Kind.NUMERIC:
        return types.numeric(int(found[2]), int(found[3] or 0))
    return types.SqlType(kind, length=int(found[2]))


def ours(kind: str, text: str, settings: Settings) -> list[str | None]:
    try:
        if kind.startswith("interval "):
            return [format_interval(parse_interval(text, kind.removeprefix("interval "))), None, None, None, None]
        wanted = sql_type(kind)
        value = parse_literal(wanted, text, settings, explicit=True)
        return [format_literal(wanted, value, settings), None, None, None, None]
    except errors.Error as error:
        return [None, error.sqlstate, error.message, error.hint, error.detail]


def differs_by_design(kind: str, text: str) -> bool:
    """A scaled int64 has no NaN; microseconds from 1970 end in 294247."""
    if kind.startswith("numeric(") and text.strip().lower() == "nan":
        return kind != "numeric(30,4)"
    return kind.startswith("timestamp") and re.match(r"29427[67]", text) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_as_postgres(kind: str) -> None:
    for zone, of, text, *expected in GOLDEN:
        if of == kind and not differs_by_design(kind, text):
            assert ours(kind, text, Settings({"TimeZone": zone})) == expected, (zone, text)


def test_date_order() -> None:
    for style, day in (("MDY", "2003-01-02"), ("DMY", "2003-02-01"), ("YMD", "2001-02-03")):
        settings = Settings({"DateStyle": style})
        assert format_literal(types.DATE, parse_literal(types.DATE, "01/02/03", settings)) == day


def test_now_is_the_transactions() -> None:
    settings = Settings({"TimeZone": "Asia/Kolkata"})
    settings.transaction_us = 1_795_000_000_123_456
    assert parse_literal(types.TIMESTAMPTZ, "now", settings) == settings.transaction_us
    assert format_literal(types.DATE, parse_literal(types.DATE, "tomorrow", settings)) == "2026-11-19"


def test_assignment_refuses_long_strings() -> None:
    with pytest.raises(errors.StringTooLong, match=r"value too long for type character varying\(3\)"):
        parse_literal(types.varchar(3), "abcd")
    assert parse_literal(types.varchar(3), "abc   ") == "abc"
    with pytest.raises(errors.CharacterNotInRepertoire):
        parse_literal(types.TEXT, "a\0b")


def test_shortest_floats_do_not_lie_between_two_floats() -> None:
    """PostgreSQL's digits, as 15.13 printed them; Python's repr of the first is 3.597009966976397e+16."""
    doubles = {
        "0x1.ff2a75d5681e0p+54": "3.5970099669763968e+16",
        "-0x1.fb5fba6dd4d64p+55": "-7.1406533751761696e+16",
        "0x1.4fbd93efcd494p+57": "1.8900512055824038e+17",
        "0x1.f7f543d794d06p+54": "3.5462896253482008e+16",
    }
    singles = {
        "0x1.b2c96p+27": "2.2795341e+08",
        "0x1.69f6f4p+25": "4.7443432e+07",
        "-0x1.cc65a8p+25": "-6.0345168e+07",
    }
    for kind, formatter, known in (
        (types.FLOAT8, literals.format_float8, doubles),
        (types.FLOAT4, literals.format_float4, singles),
    ):
        given = {float.fromhex(x): want for x, want in known.items()}
        column = Vector(kind, np.array(list(given), kind.dtype))
        printed = render.text(column)
        assert [printed[i].decode() for i in range(len(given))] == list(given.values())
        assert [formatter(x) for x in given] == list(given.values())


def test_random_floats_are_strictly_shortest(seed: int) -> None:
    """Columns against the twin, and the twin against its definition: fewer digits do not come nearer."""
    rng = np.random.default_rng(seed)
    for kind, word, fraction, bits in ((types.FLOAT8, np.uint64, 52, 64), (types.FLOAT4, np.uint32, 23, 32)):
        values = rng.integers(0, 2**bits, 500, word)
        exponents = rng.integers(1 << fraction, 2 ** (bits - 1) - (1 << fraction), 1000, word) >> word(fraction)
        few = rng.integers(0, 4096, 1000, word) << word(fraction - 12)  # few bits: powers of two, halves, ties
        near = rng.integers(53 + 1023, 100 + 1023, 1000, word) if bits == 64 else rng.integers(151, 180, 1000, word)
        all_bits = [values, exponents << word(fraction) | few, near << word(fraction) | few, near << word(fraction)]
        data = np.concatenate([*all_bits, values >> word(2) << word(2)]).view(kind.dtype)
        data = data[np.isfinite(data)]
        printed = render.text(Vector(kind, data))
        formatter = literals.format_float4 if bits == 32 else literals.format_float8
        for i, value in enumerate(data.tolist()):
            text = printed[i].decode()
            assert text == formatter(value)
            assert kind.dtype.type(text) == data[i]
            with np.errstate(over="ignore"):
                beside = [float(np.nextafter(data[i], kind.dtype.type(end))) for end in (-np.inf, np.inf)]
            away = abs(Fraction(text) - Fraction(value))
            assert all(away < abs(Fraction(text) - Fraction(x)) for x in beside if math.isfinite(x)), text


def test_float_digits() -> None:
    settings = Settings({"extra_float_digits": "0"})
    assert format_literal(types.FLOAT8, 0.1 + 0.2, settings) == "0.3"
    assert format_literal(types.FLOAT4, 1 / 3, settings) == "0.333333"


def test_bytea_escape() -> None:
    assert format_literal(types.BYTEA, b"a\\\x00\xff", Settings({"bytea_output": "escape"})) == "a\\\\\\000\\377"


def test_zone_beyond_the_tables_end() -> None:
    zone = timezones.named("America/New_York")
    assert zone is not None
    summer, cycle = 16_983_648_000_000_000, 146_097 * 86_400_000_000  # in 2508
    for step in (0, 86_400_000_000 * 180):
        assert zone.offset_at(summer + step) == zone.offset_at(summer + step + cycle)
