"""COPY: round trips in pieces of any size, PostgreSQL's errors with their lines, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filestore import errors, types
from filestore.query import copy, render
from filestore.query.copy import files, stream
from filestore.query.copy.options import copy_options
from filestore.query.copy.parquet_format import read_parquet, write_parquet
from filestore.storage.schema import ColumnDef
from filestore.storage.vector import Batch, Vector, string_vector
from filestore.types import Kind
from tests.query.io.columns import TYPES, column

NAMES = ["a", "b", "c"]
KINDS = [types.INT4, types.TEXT, types.numeric(5, 2)]


@pytest.fixture
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every feed is looked at, so that records are cut by every boundary."""
    monkeypatch.setattr(stream, "CHUNK_BYTES", 1)


def read(
    data: bytes, step: int = 1 << 30, names: list[str] = NAMES, kinds: Any = KINDS, **options: Any
) -> list[tuple[Any, ...]]:
    chosen = copy_options(options.items(), reading=True, names=names, table="t")
    reader = copy.reader("t", names, kinds, chosen)
    chunks = [c for at in range(0, len(data), step) for c in reader.feed(data[at : at + step])] + reader.finish()
    for chunk in chunks:
        Batch(chunk.columns, chunk.length).verify()
    return [row for c in chunks for row in zip(*[render.canonical(v) for v in c.columns], strict=True)]


def shown(rows: list[tuple[Any, ...]]) -> str:
    return repr([tuple(str(v) if v is not None else None for v in row) for row in rows])


@pytest.mark.parametrize(
    ("data", "options", "rows"),
    [
        (
            b"1\t\\x41\\102\\b\\t\\\\\\N\\q\\x\t1.5\n2\t\\N\t1.5\n3\ta\\N\t1.5\n4\t\\\\N\t1.5\n5\t\t1.5\n\\.\nzzz",
            {},
            ["AB\b\t\\Nqx", None, "aN", "\\N", ""],
        ),
        (
            b'1,,1.5\n2,"",1.5\n3,"ab"cd"e,f",1.5\n4," x ",1.5\n5,\\N,1.5\n6,a\\,1.5\n"7",\\.x,"1.5"\n\\.\nfoo',
            {"format": "csv"},
            [None, "", "abcde,f", " x ", "\\N", "a\\", "\\.x"],
        ),
        (b"1\tab\t1\r\n2\tc\t2\r\n", {}, ["ab", "c"]),
        (b"1\tab\t1\r2\tc\t2", {}, ["ab", "c"]),
        (b"1\ta\\\nb\t1", {}, ["a\nb"]),
        (b"a,b,c\n1,'it''s',2\n", {"format": "csv", "quote": "'", "header": True}, ["it's"]),
        (b'a,"b",c\n1,x,2', {"format": "csv", "header": "match"}, ["x"]),
        (b"1,'a\\'b\\\\c\\d',2\n", {"format": "csv", "quote": "'", "escape": "\\"}, ["a'b\\c\\d"]),
        (b'1,"",2\n', {"format": "csv", "force_null": ("b",)}, [None]),
        (b"1,,2\n", {"format": "csv", "force_not_null": ("*",)}, [""]),
        (b"1|N|2\n2|N2|2\n", {"delimiter": "|", "null": "N"}, [None, "N2"]),
        (b"", {}, []),
    ],
)
@pytest.mark.usefixtures("tiny_chunks")
def test_reading(data: bytes, options: dict[str, Any], rows: list[str | None]) -> None:
    for step in (1, 2, 3, 7, 1000):
        assert [row[1] for row in read(data, step, **options)] == rows, step


@pytest.mark.usefixtures("tiny_chunks")
def test_a_backslash_at_the_very_end_stands_for_nothing() -> None:
    for text, value in ((b"a\\tb\\", "a\tb"), (b"ab\\", "ab"), (b"\\", "")):
        for step in (1, 2, 1000):
            assert read(b"1\t" + text, step, NAMES[:2], KINDS[:2])[0][1] == value


TAB_ROW = 'COPY t, line 1: "1\ta"'


@pytest.mark.parametrize(
    ("data", "options", "sqlstate", "message", "context"),
    [
        (b"1\ta\n", {}, "22P04", 'missing data for column "c"', TAB_ROW),
        (b"1\ta\t1\tx\n", {}, "22P04", "extra data after last expected column", 'COPY t, line 1: "1\ta\t1\tx"'),
        (
            b"1\ta\t1\nx\ta\t1\n",
            {},
            "22P02",
            'invalid input syntax for type integer: "x"',
            'COPY t, line 2, column a: "x"',
        ),
        (b"1\ta\t1\n\n", {}, "22P02", 'invalid input syntax for type integer: ""', 'COPY t, line 2, column a: ""'),
        (b"1\ta\t1234.5\n", {}, "22003", "numeric field overflow", 'COPY t, line 1, column c: "1234.5"'),
        (b"1\ta\t1\n2\tc\r\t2\n", {}, "22P04", "literal carriage return found in data", "COPY t, line 2"),
        (b"1\ta\\.\t2\n", {}, "22P04", "end-of-copy marker corrupt", "COPY t, line 1"),
        (
            b"1\t\\377\t1\n",
            {},
            "22021",
            'invalid byte sequence for encoding "UTF8": 0xff',
            'COPY t, line 1, column b: "\ufffd"',
        ),
        (b"1,a\n", {"format": "csv"}, "22P04", 'missing data for column "c"', 'COPY t, line 1: "1,a"'),
        (
            b'1,"a\nb",1\nx,2,3\n',
            {"format": "csv"},
            "22P02",
            'invalid input syntax for type integer: "x"',
            'COPY t, line 3, column a: "x"',
        ),
        (
            b'1,"abc,1\n2\n',
            {"format": "csv"},
            "22P04",
            "unterminated CSV quoted field",
            'COPY t, line 1: "1,"abc,1\n2\n"',
        ),
        (
            b'1,"abc\r\n',
            {"format": "csv"},
            "22P04",
            "unterminated CSV quoted field",
            'COPY t, line 2: "1,"abc\r\n"',
        ),
        (
            b'1,a,1\n2,"abc,1\n2\n',
            {"format": "csv"},
            "22P04",
            "unterminated CSV quoted field",
            'COPY t, line 4: "2,"abc,1\n2\n"',
        ),
        (
            b'a,b,c\n1,"abc,1\n',
            {"format": "csv", "header": "true"},
            "22P04",
            "unterminated CSV quoted field",
            'COPY t, line 3: "1,"abc,1\n"',
        ),
        (
            b"a,x,c\n1,a,1",
            {"format": "csv", "header": "match"},
            "22P04",
            'column name mismatch in header line field 2: got "x", expected "b"',
            'COPY t, line 1: "a,x,c"',
        ),
        (
            b"a,b\n1,a,1",
            {"format": "csv", "header": "match"},
            "22P04",
            "wrong number of fields in header line: got 2, expected 3",
            'COPY t, line 1: "a,b"',
        ),
    ],
)
@pytest.mark.usefixtures("tiny_chunks")
def test_errors(data: bytes, options: dict[str, Any], sqlstate: str, message: str, context: str) -> None:
    for step in (1, 4, 1000):
        with pytest.raises(errors.Error) as caught:
            read(data, step, **options)
        error = caught.value
        assert (error.sqlstate, error.message) == (sqlstate, message)
        if step == 1000 or "unterminated" not in message:
            assert error.context == context


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_every_type_round_trips(form: str, rng: np.random.Generator) -> None:
    names = [f"c{i}" for i in range(len(TYPES))]
    batch = Batch([column(rng, t, 300) for t in TYPES], 300)
    writing = copy_options([("format", form)], reading=False, names=names, table="t")
    writer = copy.writer(names, TYPES, writing)
    parts = (writer.rows(batch.slice(0, 200)), writer.rows(batch.slice(200, 300)))
    data = writer.header() + b"".join(p.tobytes() for p in parts) + writer.trailer()
    expected = list(zip(*[render.canonical(v) for v in batch.columns], strict=True))
    assert repr(read(data, 999, names, TYPES, format=form)) == repr(expected)


WORD = st.none() | st.text(alphabet="ab\\N.\t\n\r,\"'|é ", max_size=8)
CHOICES = st.sampled_from(
    [
        {},
        {"delimiter": "|", "null": "NULL"},
        {"format": "csv"},
        {"format": "csv", "null": "\\N", "delimiter": "|"},
        {"format": "csv", "quote": "'", "escape": "\\", "null": "NULL"},
        {"format": "csv", "force_quote": ("*",)},
        {"format": "binary"},
    ]
)


@given(rows=st.lists(st.tuples(WORD, WORD), max_size=6), options=CHOICES, step=st.integers(1, 40))
@settings(deadline=None, max_examples=150)
def test_strings_round_trip(rows: list[tuple[str | None, str | None]], options: dict[str, Any], step: int) -> None:
    names, kinds = ["x", "y"], [types.TEXT, types.TEXT]
    columns = [string_vector(types.TEXT, [None if r[i] is None else r[i].encode() for r in rows]) for i in (0, 1)]
    writer = copy.writer(names, kinds, copy_options(options.items(), reading=False, names=names, table="t"))
    data = writer.header() + writer.rows(Batch(columns, len(rows))).tobytes() + writer.trailer()
    reading = {k: v for k, v in options.items() if k != "force_quote"}
    assert read(data, step, names, kinds, **reading) == rows


def test_one_column_end_marker() -> None:
    vector = string_vector(types.TEXT, [b"\\.", b"", None])
    writer = copy.writer(["x"], [types.TEXT], copy_options([("format", "csv")], reading=False, names=["x"], table="t"))
    data = writer.rows(Batch([vector], 3)).tobytes()
    assert data == b'"\\."\n""\n\n'
    assert read(data, names=["x"], kinds=[types.TEXT], format="csv") == [("\\.",), ("",), (None,)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PGCOPY\n\xff\r\n\1" + bytes(8), "COPY file signature not recognized"),
        (b"PGCOPY\n\xff\r\n\0" + b"\0\1\0\0" + bytes(4), "invalid COPY file header (WITH OIDS)"),
        (b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\2", "row field count is 2, expected 1"),
        (b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1\xff\xff\xff\xfe", "invalid field size"),
        (b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1\0\0\0\4\0", "unexpected EOF in COPY data"),
        (b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\xff\xffx", "received copy data after EOF marker"),
    ],
)
def test_binary_errors(data: bytes, message: str) -> None:
    with pytest.raises(errors.BadCopyFileFormat) as caught:
        read(data, names=["x"], kinds=[types.INT4], format="binary")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("options", "reading", "sqlstate", "message"),
    [
        ({"format": "foo"}, True, "22023", 'COPY format "foo" not recognized'),
        ({"delimiter": "ab"}, True, "0A000", "COPY delimiter must be a single one-byte character"),
        ({"delimiter": "a"}, True, "22023", 'COPY delimiter cannot be "a"'),
        ({"quote": '"'}, True, "0A000", "COPY quote available only in CSV mode"),
        ({"format": "csv", "delimiter": '"'}, True, "22023", "COPY delimiter and quote must be different"),
        ({"format": "csv", "force_quote": ("a",)}, True, "0A000", "COPY force quote only available using COPY TO"),
        ({"format": "csv", "force_null": ("a",)}, False, "0A000", "COPY force null only available using COPY FROM"),
        ({"format": "csv", "force_quote": ("z",)}, False, "42703", 'column "z" of relation "t" does not exist'),
        ({"header": "match"}, False, "0A000", 'cannot use "match" with HEADER in COPY TO'),
        ({"format": "binary", "null": "x"}, False, "42601", "cannot specify NULL in BINARY mode"),
        ({"delimiter": "|", "null": "a|b"}, False, "0A000", "COPY delimiter must not appear in the NULL specification"),
        ({"foo": 1}, False, "42601", 'option "foo" not recognized'),
    ],
)
def test_options(options: dict[str, Any], reading: bool, sqlstate: str, message: str) -> None:
    with pytest.raises(errors.Error) as caught:
        copy_options(options.items(), reading=reading, names=NAMES, table="t")
    assert (caught.value.sqlstate, caught.value.message) == (sqlstate, message)


def test_context_of_a_row() -> None:
    reader = copy.reader("t", NAMES, KINDS, copy_options([], reading=True, names=NAMES, table="t"))
    reader.feed(b"1\ta\t1\n2\t\\N\t2\n")
    (chunk,) = reader.finish()
    assert chunk.context(1) == 'COPY t, line 2: "2\t\\N\t2"'


def test_files(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.txt")
    with files.open_output(path) as out:
        out.write(b"1\ta\t1\n")
    assert b"".join(files.read_chunks(path)) == b"1\ta\t1\n"
    for name, sqlstate in ((str(tmp_path / "none"), "58P01"), (str(tmp_path), "42809")):
        with pytest.raises(errors.Error) as caught:
            list(files.read_chunks(name))
        assert caught.value.sqlstate == sqlstate
    with pytest.raises(errors.Error, match="relative path not allowed"):
        files.open_output("here.txt")


@pytest.fixture
def parquet(tmp_path: Path, rng: np.random.Generator) -> tuple[str, list[ColumnDef], Batch]:
    kinds = [t for t in TYPES if t.kind is not Kind.INTERVAL]
    columns = [ColumnDef(f"c{i}", t) for i, t in enumerate(kinds)]
    batch = Batch([column(rng, t, 500) for t in kinds], 500)
    path = str(tmp_path / "rows.parquet")
    assert write_parquet(path, columns, [batch.slice(0, 100), batch.slice(100, 500)]) == 500
    return path, columns, batch


def test_parquet_round_trip(parquet: tuple[str, list[ColumnDef], Batch]) -> None:
    path, columns, batch = parquet
    (chunk,) = read_parquet(path, columns[::-1], table="t")
    for vector, expected in zip(chunk.columns[::-1], batch.columns, strict=True):
        vector.verify()
        assert repr(render.canonical(vector)) == repr(render.canonical(expected)), expected.type


def test_parquet_dictionaries(tmp_path: Path) -> None:
    path, columns = str(tmp_path / "words.parquet"), [ColumnDef("w", types.TEXT, not_null=True)]
    words = Vector(
        types.TEXT,
        np.arange(5000, dtype=np.uint8) % 3,
        None,
        None,
        0,
        string_vector(types.TEXT, [b"x", b"yy", b"z" * 20]),
    )
    write_parquet(path, columns, [Batch([words], 5000)])
    (chunk,) = read_parquet(path, columns, table="t")
    assert chunk.columns[0].dictionary is not None
    assert chunk.columns[0].strings() == words.strings()


def test_parquet_errors(parquet: tuple[str, list[ColumnDef], Batch], tmp_path: Path) -> None:
    path, columns, batch = parquet
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing more")

    def refused(path: str, wanted: list[ColumnDef]) -> tuple[str, str]:
        with pytest.raises(errors.Error) as caught:
            list(read_parquet(path, wanted, table="t"))
        return caught.value.sqlstate, caught.value.message + " | " + str(caught.value.context)

    assert refused(str(broken), columns)[1].startswith(f'"{broken}" is not a Parquet file')
    assert refused(str(tmp_path / "none"), columns)[0] == "58P01"
    assert refused(path, columns[:-1]) == (
        "22P04",
        f'file "{path}" has column "{columns[-1].name}", which the table or column list has not | None',
    )
    assert refused(path, [*columns, ColumnDef("z", types.INT4)]) == ("22P04", f'file "{path}" has no column "z" | None')
    valid = batch.columns[0].valid
    assert valid is not None
    first = int(np.argmin(valid))
    not_null = [ColumnDef("c0", columns[0].type, not_null=True), *columns[1:]]
    sqlstate, message = refused(path, not_null)
    assert sqlstate == "23502"
    assert f"COPY t, row {first + 1}, column c0 of file" in message
