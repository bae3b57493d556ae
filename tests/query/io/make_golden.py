"""Asks PostgreSQL 15 for the text form or error of many inputs and writes golden.jsonl, which test_literals.py compares with.

Run by hand against a server of any contents: python make_golden.py "host=... port=... user=..."
Each line: [zone, type, input, output, sqlstate, message, hint, detail].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psycopg

ZONES = ("UTC", "America/New_York", "Asia/Kolkata")
FUNCTION = """create or replace function pg_temp.try(t text, v text) returns text[] language plpgsql as $$
declare r text; s text; m text; h text; d text;
begin
    execute format('select format(''%%s'', %L::%s)', v, t) into r;
    return array[r, null, null, null, null];
exception when others then
    get stacked diagnostics s = returned_sqlstate, m = message_text, h = pg_exception_hint, d = pg_exception_detail;
    return array[null, s, m, nullif(h, ''), nullif(d, '')];
end $$"""

# fmt: off
# ruff: noqa: E501
INTEGERS = ['0', '1', ' 12 ', '-5', '+7', '', '  ', 'abc', '1.5', '1e3', '32767', '32768', '-32768', '-32769', '2147483647', '2147483648', '-2147483648', '9223372036854775807', '9223372036854775808', '-9223372036854775808', '-9223372036854775809', '99999999999999999999999', '0x10', '1_000', '--1', '+ 1', '12 3', '007', ' -0']
FLOATS = ['0', '-0', '1', '1.5', '.5', '5.', '1e10', '1e14', '1e15', '123456789012345', '1234567890123456', '12345678901234567', '1e16', '1e20', '1e100', '1e-4', '1e-5', '0.0001', '0.00001', '0.00012345', '0.1', '100000', '999999', '1000000', '1234567', '123456.7', '1e400', '1e-400', '1e39', '3.4028235e38', '3.4028236e38', '1e-45', '1e-46', '4.9e-324', '2e-324', '1.7976931348623157e308', '1.8e308', 'NaN', 'nan', 'Infinity', '-Infinity', 'inf', '+inf', '-inf', '+infinity', 'infinit', '0x10', '0x1p3', '0x', '1e', 'e5', '', '  ', ' 1.5 ', '1.5x', '1.5 x', '0.3', '0.1000000001', '16777217', '16777216.5', '1.00000017881393432617187499', '1.00000017881393432617187500', '1.00000017881393432617187501', '-nan', '123456789.123456789', '5e-1', '0.30000000000000004']
NUMERICS = ['0', '-0', '1', '1.50', '-1.50', '.5', '5.', '1e3', '1e-3', '1.5e3', '1.50e1', '1e', 'NaN', 'nan', 'Infinity', '-inf', 'inf', '+Infinity', '', '  ', ' 1.5 ', '1.5x', '123456789012345678901234567890.123456789', '999.994', '999.995', '999.99', '-999.995', '0.005', '0.015', '0.025', '-0.005', '1e130000', '1e132000', '1e-16383', '1e-16384', '1e99999999999', '00012.300', '+5', '--5', '1_000', '0x1', '1e1000', '.', '-', '+.5', '0e5', '0.00e-3', '99999.5', '1 2']
BOOLEANS = ['t', 'true', 'TRUE', 'tru', 'f', 'false', 'y', 'yes', 'ye', 'n', 'no', 'on', 'o', 'of', 'off', '1', '0', '2', '', ' true ', 'truee', 'yess', '10']
DATES = ['2026-11-21', '2026-1-2', '20261121', '261121', 'Nov 21 2026', '21 Nov 2026', 'November 21, 2026', '11/21/2026', '21/11/2026', '1/2/03', '1-2-03', '2026/11/21', '2026.11.21', '2026 Nov 21', 'Nov-21-2026', '21-Nov-2026', '2026-Nov-21', 'nov 21', '2026-13-01', '2026-02-29', '2024-02-29', '2026-02-30', '2026-00-10', '2026-10-00', '0000-01-01', '0001-01-01', '0001-01-01 BC', '0044-03-15 BC', '44 BC', '10000-01-01', '99999-12-31', '5874897-12-31', '5874898-01-01', '5874898-06-03', '4714-11-24 BC', '4714-11-23 BC', '4713-01-01 BC', 'infinity', '-infinity', '+infinity', 'epoch', '2026-11-21 10:20:30', '2026-11-21T10:20:30Z', '2026-11-21 BC 10:00', 'J2451187', 'j2451187', '2026.325', '2026-325', '1999.008', 'Sat Nov 21 2026', 'Sat 21 Nov 2026', '', '  ', 'abc', '2026', '202611', '2026-11', '26-11-21', '70-01-01', '69-01-01', '99-12-31', '2026-11-21 foo', '2026-11-21 America/New_York', '2026-11-21 Foo/Bar', '1/1/1', '13/1/2026', '2026-11-21-05', '  2026-11-21  ', '2026-11-31', 'y2026m11d21', '2026-11-21 25:00', 'Nov 2026', '21 2026 Nov', '2026 21 Nov', '12-Feb-99', '99-Feb-12', 'Feb-12-99', '1.1.2026', 'January 8, 1999', '1999-01-08', '1/8/1999', '1/18/1999', '01/02/03', '1999-Jan-08', 'Jan-08-1999', '08-Jan-1999', '08-Jan-99', 'Jan-08-99', '19990108', '990108', '1999.008', 'January 8, 99 BC', '2147483648-01-01', '99999999999-01-01', '2026-11-21 é', '2026-11-21 é', '2026年11月21日']
TIMES = ['10:20:30', '10:20', '1:2:3', '10:20:30.123456789', '24:00:00', '24:00:01', '25:00', '10:60', '10:20:60', '23:59:60', '23:59:60.5', '10:20:61', '10am', '10:20 AM', '10:20 pm', '12:00 am', '12:00 pm', '13:00 pm', '0:00 pm', '102030', '1020', '10', '102030.5', '04:05:06 PST', '04:05:06-08', '04:05:06+08:30', '040506-08', '2026-11-21 10:20:30', '2003-04-12 04:05:06 America/New_York', '04:05:06 America/New_York', 'T10:20', '', 'abc', '10:20:30.', '10:.5', '10:', '10::5', '1:2:', '1:2:.5', '10:20.5', 'allballs', '10:20:30 foo', '-10:20', '10:20:30.9999999', '23:59:59.9999999', '10:20:30+16', '10:20:30+15:59', '10:20:30+15:60', '10:20:30 Z', 'infinity', 'now x', 'epoch']
TIMESTAMPS = ['2026-11-21', '2026-11-21 10:20:30', '2026-11-21T10:20:30', '2026-11-21t10:20:30z', '2026-11-21T10:20:30Z', '2026-11-21T10:20:30.123Z', '2026-11-21 10:20:30.1234567', '2026-11-21 10:20:30.9999999', '2026-11-21 10:20:30+02', '2026-11-21 10:20:30+0230', '2026-11-21 10:20:30 +02:30', '2026-11-21 10:20:30-03:30:15', '2026-11-21 10:20:30 PST', '2026-11-21 10:20:30 EST', '2026-07-21 10:20:30 America/New_York', '2026-11-21 10:20:30 america/new_york', '2026-11-21 10:20:30 Foo/Bar', '2026-11-21 10:20:30 FOO', '20261121T102030', '20261121T102030Z', '20261121 102030', '20261121102030', '20261121T102030-05', '2026-11-21 24:00:00', '2026-11-21 24:00:01', '2026-11-21 10', '2026-11-21 1020', '2026-11-21 10:20 PM', 'Nov 21 10:20:30 2026', 'Sat Nov 21 10:20:30 2026', 'Sat Nov 21 10:20:30 2026 PST', 'Sat Nov 21 10:20:30 PST 2026', 'infinity', '-infinity', 'epoch', '294247-01-01', '294276-12-31 23:59:59', '294277-01-01', '4714-11-24 BC', '4714-11-23 23:59:59 BC', '10000-01-01 00:00:00', '0044-03-15 12:00:00 BC', '2026-03-08 02:30:00 America/New_York', '2026-11-01 01:30:00 America/New_York', '1800-01-01 00:00:00', '2026-11-21 10:20:30 UTC', '2026-11-21 10:20:30 UTC+3', '2026-11-21 10:20:30 GMT', '2026-11-21 10:20:30 zulu', '', 'x', '2026-11-21 10:61', '2026-11-21 10:20:30+16', '2026-11-21 10:20:30+99999', '2026-02-30 10:00', '2026-11-21 10:20:30 +', '2026-11-21  10:20:30', '2026-11-21, 10:20:30', '(2026-11-21 10:20:30)', '2026-11-21 10:20:30 10:20:30', '2026-11-21 2026-11-21', 'J2451187 10:00', 'J2451187.5', '2026-11-21 at 10:20', 'today x', '2026-11-21T10', '2026-11-21T1020', '2026-11-21T10:20', '2026-11-21T', '2026-11-21 10:20:30.', '2026-11-21 .5', '12/31/2026 10:00', '31/12/2026 10:00', '19970207 152327', '970207 152327', '97038 152327', '20011225T040506.789-07', '2011-03-13 02:30 EST5EDT', '2026-11-21 10:20:30 <+03>-03', '1997-02-10 17:32:01 MET', '10:20:30', '2026-11-21 allballs', '2026-11-21 10:20:30 DST']
INTERVALS = ['1 day', '1 days', '-1 day', '1 year 2 months', '1 year -2 months', '1-2', '-1-2', '1 2:03:04', '-1 2:03:04', '-1 -2:03:04', '1 +2:03:04', '1:02', '1:02:03', '1:02:03.456789', '1:02.5', '-1:02:03', '100:00:00', '1.5 days', '1.5 months', '1.5 years', '1.5 weeks', '1.5 hours', '1.5 minutes', '1.5', '1.5 seconds', '1', '10', 'P1Y2M3D', 'P1Y2M3DT4H5M6S', 'P1Y2M3DT4H5M6.789S', 'PT1.5H', 'P1W', 'P-1Y', 'P0001-02-03T04:05:06', 'P00010203T040506', 'PT', 'P', 'P1.5', 'PT1.5', 'P1Y2', 'PT1H2', 'p1y', 'P1Y2', 'P1', 'PT10', '1 day ago', '1 day 2 hours ago', '@ 1 minute', '@ 1 minute ago', '1 decade', '1 century', '1 millennium', '1 mil', '1 ms', '1 us', '1 msec', '1 usec', '1 microsecond', '1500 milliseconds', '1 week', '1 quarter', '1 foo', '1 day 1 day', '1d2h3m4s', '1y2mon3d', '', '  ', 'abc', 'day', '1 day foo', 'infinity', '1 mon', '3 mons', '0', '0 days', '00:00:00', '-00:00:01', '1 year -1 day', '-1 year +1 day 00:00:01', '-1 day +00:00:01', '1 mon -1 day -00:00:01', '2147483647 months', '2147483648 months', '2147483647 centuries', '3000000000 s', '99999999999999999999 s', '9223372036854775808 us', '2147483648 weeks', '1000000000 weeks', '2147483647 years', '178956970 years', '178956971 years', '2147483647 days', '2147483648 days', '9223372036854775807 us', '2562047788 hours', '1e3 days', '1 day 25:00:00', '1 day 24:00:60', '1 day 00:60:00', '-0.5 days', '0.5 months', '0.1 years', '.5 days', '-.5 days', '1.5 decades', '1 2', '1 2 3', '1 y 2 mon', '10 20:30', '1 day -02:03:04.5', '1 day 10', '-1.5 months', '0.0000005 seconds', '0.0000015 seconds', '1.0000005', '1 hour 90 minutes', '1-13', '1-12', '1 month 1-2', '6 mon 5 day 4 hr 3 min 2 sec', '3.5 hours ago', 'P1.5D', 'P1.5M', 'P1.5Y', 'PT0.5S', 'P1Y-2M', 'P-1DT2H', 'P1Y2M10DT2H30M', 'P0003-00-00', 'P1-2-3', 'P1-2T1:2:3', '+1 day', '1 day  +1:00', '1 h', '1 hours 1 hr', '-1', '-1.5 hours', '1 second 500 ms', '1 sec 1 us', '1.5 sec 1 us']
UUIDS = ['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', 'a0eebc999c0b4ef8bb6d6bb9bd380a11', 'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11', '{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}', '', 'x', ' a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0e-ebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-']
BYTEAS = ['', 'abc', '\\x', '\\x6162', '\\x61 62', '\\x6', '\\x6g', '\\x6 1', 'a\\\\b', 'a\\001b', 'a\\400', 'a\\8', 'a\\\\', 'a\\ ', '\\377', 'é', '\\X61', '\\xé']
OIDS = ['0', '1', '-1', '4294967295', '4294967296', '-2147483648', '-2147483649', 'abc', '', ' 5 ', '5 x']
FIELDS = ["year", "month", "day", "hour", "minute", "second", "year to month", "day to hour", "day to minute", "day to second", "hour to minute", "hour to second", "minute to second"]
FIELD_INPUTS = ["3", "1.5", "1:02", "1:02:03", "3 4:05:06", "1-2", "1 year 2 mons 3 days 4:05:06.7", "-3 -4:05:06"]
STRINGS = ["", "a", "abc", "abcd", "ab  ", "ab    ", "  ab", "a\u00e9b", "\u00e9\u00e9\u00e9\u00e9", "x" * 70, "\u00e9" * 40]
# fmt: on

TYPES = {
    "smallint": INTEGERS, "integer": INTEGERS, "bigint": INTEGERS, "real": FLOATS, "double precision": FLOATS,
    "numeric": NUMERICS, "numeric(5,2)": NUMERICS, "numeric(2,2)": NUMERICS, "numeric(30,4)": NUMERICS,
    "boolean": BOOLEANS, "date": DATES + TIMESTAMPS, "time": TIMES, "timestamp": TIMESTAMPS, "timestamptz": TIMESTAMPS,
    "interval": INTERVALS, **{f"interval {f}": FIELD_INPUTS for f in FIELDS}, "uuid": UUIDS, "bytea": BYTEAS, "oid": OIDS,
    "varchar(3)": STRINGS, "char(3)": STRINGS, "text": STRINGS, "name": STRINGS,
}  # fmt: skip


def main(dsn: str) -> None:
    lines = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FUNCTION)
        for zone in ZONES:
            connection.execute("select set_config('timezone', %s, false)", (zone,))
            kinds = TYPES if zone == "UTC" else {"timestamptz": TIMESTAMPS}
            for kind, inputs in kinds.items():
                for text in inputs:
                    (row,) = connection.execute("select pg_temp.try(%s, %s)", (kind, text)).fetchone() or ((),)
                    lines.append(json.dumps([zone, kind, text, *row], ensure_ascii=False))
    Path(__file__).with_name("golden.jsonl").write_text("\n".join(lines) + "\n")
    print(len(lines), "lines")


if __name__ == "__main__":
    main(sys.argv[1])
