"""Vectors to Arrow arrays and back: without a copy where the layouts are one, checked where they come from outside.

Out: fixed-width vectors and string views share memory with the array; booleans and validity are packed, a scaled int64
becomes decimal128, an interval month_day_nano, a uuid the uuid extension type. A numeric without precision is its
text. Dictionary vectors are decoded unless `keep_dictionary` asks otherwise: a stream's schema is told before its rows.

In: any Arrow array that means the wanted SQL type: other widths, units, decimals, dictionaries and string layouts are
converted with the rounding and the errors of an assignment cast; an error carries `.row`. Buffers from Flight may lie
unaligned and are read-only: what a kernel will read is copied once when it is not aligned.

Does not: nested types (0A000). Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filestore import errors, types
from filestore.query import arrow_kernels as kernels
from filestore.query import render, text_parse
from filestore.query.calendar_text import DAY_US
from filestore.query.datetime_text import DEFAULTS, TextSettings
from filestore.query.literals import fit_numeric, format_numeric, numeric_field_overflow
from filestore.query.vectors import at_scale
from filestore.storage.vector import EMPTY_HEAP, Array, Batch, Vector, string_vector
from filestore.types import INTEGER_KINDS, OID_KINDS, STRING_KINDS, Kind, Physical, SqlType

MAX_VIEW_OFFSET = 2**31 - 1  # Arrow's view offsets are signed


# Out


def schema(names: Sequence[str], sql_types: Sequence[SqlType]) -> pa.Schema:
    """The Arrow schema that batches of these columns are exported with."""
    return pa.schema([pa.field(n, t.arrow()) for n, t in zip(names, sql_types, strict=True)])


def record_batch(batch: Batch, names: Sequence[str], *, keep_dictionary: bool = False) -> pa.RecordBatch:
    """The batch as Arrow; columns keep their order, equal names are kept."""
    arrays = [array(c, keep_dictionary=keep_dictionary) for c in batch.columns]
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * batch.length, pa.struct([])))
    fields = [pa.field(n, a.type) for n, a in zip(names, arrays, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def array(vector: Vector, *, keep_dictionary: bool = False) -> pa.Array:
    """The vector as an Arrow array of type `vector.type.arrow()` (a dictionary of it, when kept)."""
    if vector.dictionary is not None:
        if keep_dictionary:
            codes = pa.array(np.ascontiguousarray(vector.data), mask=None if vector.valid is None else ~vector.valid)
            return pa.DictionaryArray.from_arrays(codes, array(vector.dictionary))
        vector = vector.plain()
    kind = vector.type.kind
    if kind is Kind.NUMERIC:
        return _numeric_array(vector)
    if kind is Kind.BOOL:
        bits = np.packbits(np.ascontiguousarray(vector.data).view(np.uint8) != 0, bitorder="little")
        return _from_buffers(vector, bits)
    if kind is Kind.INTERVAL:
        return _from_buffers(vector, _month_day_nano(vector))
    if kind is Kind.UUID:
        storage = _from_buffers(vector, np.ascontiguousarray(vector.data), pa.binary(16))
        return pa.ExtensionArray.from_storage(pa.uuid(), storage)
    if vector.type.is_view:
        return _view_array(vector)
    return _from_buffers(vector, np.ascontiguousarray(vector.data))


def _validity(vector: Vector) -> Any:
    return None if vector.valid is None else pa.py_buffer(np.packbits(vector.valid, bitorder="little"))


def _from_buffers(vector: Vector, data: Array, arrow_type: pa.DataType | None = None) -> pa.Array:
    wanted = vector.type.arrow() if arrow_type is None else arrow_type
    return pa.Array.from_buffers(wanted, len(vector), [_validity(vector), pa.py_buffer(data)])


def _view_array(vector: Vector) -> pa.Array:
    heap = EMPTY_HEAP if vector.heap is None else vector.heap
    views = np.ascontiguousarray(vector.data)
    if vector.valid is not None and not vector.valid.all():
        views = np.where(vector.valid[:, None], views, np.uint64(0))  # null rows may hold anything
    if len(heap) > MAX_VIEW_OFFSET:
        packed = render.binary(vector)  # only what these rows use
        whole = text_parse.from_binary(types.BYTEA, packed.offsets, packed.data, vector.valid)
        views, heap = whole.data, EMPTY_HEAP if whole.heap is None else whole.heap
        if len(heap) > MAX_VIEW_OFFSET:
            raise errors.ProgramLimitExceeded("a column's strings exceed 2 GB in one batch")
    buffers = [_validity(vector), pa.py_buffer(views), pa.py_buffer(heap)]
    return pa.Array.from_buffers(vector.type.arrow(), len(vector), buffers)


def _numeric_array(vector: Vector) -> pa.Array:
    wanted = vector.type.arrow()
    if pa.types.is_decimal(wanted):
        if vector.is_decimal64 and vector.scale == wanted.scale:
            wide = np.empty((len(vector), 2), np.int64)
            wide[:, 0] = vector.data
            wide[:, 1] = vector.data >> 63
            return _from_buffers(vector, wide)
        limbs = at_scale(vector, wanted.scale)
        if limbs is not None and limbs[2].all():
            return _from_buffers(vector, np.stack([limbs[1].view(np.int64), limbs[0]], axis=1))
        values: list[Decimal | None] = []
        for value in render.canonical(vector):
            if value is not None and not value.is_finite():
                raise errors.NumericOutOfRange(f"{value} has no Arrow decimal form", hint="Cast the column to text.")
            values.append(None if value is None else fit_numeric(vector.type, value))
        return pa.array(values, wanted)
    encoded = render.text(vector)
    if encoded.offsets[-1] > MAX_VIEW_OFFSET:
        raise errors.ProgramLimitExceeded("a column's numbers exceed 2 GB in one batch")
    offsets = encoded.offsets.astype(np.int32)
    buffers = [_validity(vector), pa.py_buffer(offsets), pa.py_buffer(encoded.data)]
    return pa.Array.from_buffers(wanted, len(vector), buffers)


def _month_day_nano(vector: Vector) -> Array:
    words = np.ascontiguousarray(vector.data)
    clock = words.view(np.int64)[:, 1]
    limit = (2**63 - 1) // 1000
    over = (clock > limit) | (clock < -limit)
    if vector.valid is not None:
        over &= vector.valid
    if over.any():
        raise errors.IntervalOverflow("interval out of range for Arrow's nanoseconds")
    out = words.copy().view(np.int64)
    out[:, 1] = clock * 1000
    return out


# Types


def sql_type(arrow_type: pa.DataType) -> SqlType:
    """The SQL type that holds every value of an Arrow type. Errors with 0A000 for nested types and the like."""
    if pa.types.is_dictionary(arrow_type):
        return sql_type(arrow_type.value_type)
    if pa.types.is_decimal(arrow_type):
        if 0 <= arrow_type.scale <= arrow_type.precision:
            return types.numeric(arrow_type.precision, arrow_type.scale)
        return types.NUMERIC
    if pa.types.is_timestamp(arrow_type):
        return types.TIMESTAMP if arrow_type.tz is None else types.TIMESTAMPTZ
    if pa.types.is_time(arrow_type):
        return types.TIME
    if arrow_type == pa.uuid():
        return types.UUID
    if is_text(arrow_type):
        return types.TEXT
    for test, found in _SQL_TYPES:
        if test(arrow_type):
            return found
    raise errors.FeatureNotSupported(
        f"Arrow type {arrow_type} is not supported", hint="Cast the column: docs/reference/types.md lists the types."
    )


_SQL_TYPES = (
    (pa.types.is_boolean, types.BOOL),
    (lambda t: pa.types.is_int8(t) or pa.types.is_uint8(t) or pa.types.is_int16(t), types.INT2),
    (lambda t: pa.types.is_uint16(t) or pa.types.is_int32(t), types.INT4),
    (lambda t: pa.types.is_uint32(t) or pa.types.is_int64(t), types.INT8),
    (pa.types.is_uint64, types.numeric(20, 0)),
    (lambda t: pa.types.is_float16(t) or pa.types.is_float32(t), types.FLOAT4),
    (pa.types.is_float64, types.FLOAT8),
    (lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_binary_view(t), types.BYTEA),
    (pa.types.is_fixed_size_binary, types.BYTEA),
    (pa.types.is_date, types.DATE),
    (pa.types.is_interval, types.INTERVAL),
    (pa.types.is_duration, types.INTERVAL),
    (pa.types.is_null, types.TEXT),
)


# In


def vectors(
    data: pa.RecordBatch | pa.Table, sql_types: Sequence[SqlType], settings: TextSettings | None = None
) -> Iterator[tuple[list[Vector], int]]:
    """(vectors in stored form, rows) of each batch of `data`, its columns taken in order. Errors as `vector`."""
    batches = [data] if isinstance(data, pa.RecordBatch) else data.to_batches()
    for batch in batches:
        if batch.num_rows:
            pairs = zip(batch.columns, sql_types, strict=True)
            yield [vector(column, wanted, settings) for column, wanted in pairs], batch.num_rows


def vector(source: pa.Array, wanted: SqlType, settings: TextSettings | None = None) -> Vector:
    """The array as a stored-form vector of `wanted` (strings may come dictionary-encoded).

    Errors with 42804 when the types do not go together, 22003, 22001, 22008, 22021 and so on for values, with `.row`.
    """
    if isinstance(source, pa.ChunkedArray):
        source = source.combine_chunks() if source.num_chunks != 1 else source.chunk(0)
    if isinstance(source, pa.ExtensionArray):
        source = source.storage
    if pa.types.is_dictionary(source.type):
        return _from_dictionary(source, wanted, settings)
    if pa.types.is_null(source.type):
        source = source.cast(wanted.arrow() if wanted.kind is not Kind.UUID else pa.binary(16))
        return vector(source, wanted, settings)
    valid = valid_of(source)
    kind = wanted.kind
    if is_text(source.type) and kind not in STRING_KINDS:
        result = _from_text(source, wanted, valid, settings)
    elif kind in STRING_KINDS or kind is Kind.BYTEA:
        result = _strings(source, wanted, valid)
    elif kind is Kind.NUMERIC:
        result = _numeric(source, wanted, valid)
    elif kind in INTEGER_KINDS or kind in OID_KINDS:
        result = Vector(wanted, _integers(source, wanted, valid))
    elif kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.DATE, Kind.TIME):
        result = Vector(wanted, _datetimes(source, wanted, valid, settings or DEFAULTS))
    else:
        result = Vector(wanted, _others(source, wanted))
    result.valid = valid
    return result


def is_text(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


def valid_of(source: pa.Array) -> Array | None:
    """bool[n], None when nothing is null."""
    if source.null_count == 0:
        return None
    bits = np.frombuffer(source.buffers()[0], np.uint8)
    first = source.offset // 8
    part = np.unpackbits(bits[first : (source.offset + len(source) + 7) // 8], bitorder="little")
    skip = source.offset - first * 8
    valid: Array = part[skip : skip + len(source)].astype(np.bool_)
    return valid


def _values(source: pa.Array, dtype: Any) -> Array:
    """The values buffer as an aligned numpy array that shares memory where it can."""
    buffer = source.buffers()[1]
    size = np.dtype(dtype).itemsize
    if buffer is None or len(source) == 0:
        return np.zeros(len(source), dtype)
    values: Array = np.frombuffer(buffer, dtype, len(source), source.offset * size)
    return values if values.flags.aligned else values.copy()


def _mismatch(source: pa.DataType, wanted: SqlType) -> errors.DatatypeMismatch:
    return errors.DatatypeMismatch(f"Arrow type {source} cannot become {wanted}")


def _from_dictionary(source: pa.DictionaryArray, wanted: SqlType, settings: TextSettings | None) -> Vector:
    words = source.dictionary
    small = len(words) <= 65_536 and words.null_count == 0 and len(words) > 0
    if wanted.kind not in STRING_KINDS or not small:
        return vector(source.dictionary_decode(), wanted, settings)
    valid = valid_of(source.indices)
    indices = vector(source.indices, types.INT8).data
    if valid is not None:
        indices = np.where(valid, indices, 0)
    if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= len(words)):
        raise errors.DataError("dictionary index out of bounds")
    try:
        dictionary = vector(words, wanted, settings)
    except errors.Error:
        return vector(source.dictionary_decode(), wanted, settings)  # only used words count, and the row is wanted
    codes = indices.astype(np.uint8 if len(words) <= 256 else np.uint16)
    return Vector(wanted, codes, valid, None, 0, dictionary)


def _from_text(source: pa.Array, wanted: SqlType, valid: Array | None, settings: TextSettings | None) -> Vector:
    data, starts, ends = _string_bounds(source)
    return text_parse.from_fields(wanted, data, starts, ends, valid, settings)


def _string_bounds(source: pa.Array) -> tuple[Array, Array, Array]:
    """(bytes uint8[], starts, ends int64[n]) of any string or binary array."""
    if pa.types.is_string_view(source.type) or pa.types.is_binary_view(source.type):
        source = source.cast(pa.large_binary())
    n = len(source)
    if pa.types.is_fixed_size_binary(source.type):
        width = source.type.byte_width
        starts = np.arange(source.offset, source.offset + n, dtype=np.int64) * width
        buffer = source.buffers()[1]
        return EMPTY_HEAP if buffer is None else np.frombuffer(buffer, np.uint8), starts, starts + width
    wide = pa.types.is_large_string(source.type) or pa.types.is_large_binary(source.type)
    _, offsets_buffer, data_buffer = source.buffers()
    data = EMPTY_HEAP if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    if n == 0 or offsets_buffer is None:
        return data, np.zeros(n, np.int64), np.zeros(n, np.int64)
    dtype = np.dtype(np.int64 if wide else np.int32)
    offsets = np.frombuffer(offsets_buffer, dtype, n + 1, source.offset * dtype.itemsize).astype(np.int64)
    if offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
        raise errors.DataError("string offsets out of bounds")
    return data, offsets[:-1].copy(), offsets[1:].copy()


def _strings(source: pa.Array, wanted: SqlType, valid: Array | None) -> Vector:
    binary = wanted.kind is Kind.BYTEA
    views = pa.types.is_string_view(source.type) or pa.types.is_binary_view(source.type)
    bytes_like = pa.types.is_binary(source.type) or pa.types.is_large_binary(source.type)
    bytes_like = bytes_like or pa.types.is_binary_view(source.type) or pa.types.is_fixed_size_binary(source.type)
    if binary != bytes_like or not (bytes_like or is_text(source.type)):
        raise _mismatch(source.type, wanted)
    if views and wanted.length is None and wanted.kind in (Kind.TEXT, Kind.VARCHAR, Kind.BYTEA, Kind.UNKNOWN):
        return _views(source, wanted, valid)
    data, starts, ends = _string_bounds(source)
    if binary:
        return text_parse.from_binary_fields(wanted, data, starts, ends, valid)
    return text_parse.from_fields(wanted, data, starts, ends, valid)


def _views(source: pa.Array, wanted: SqlType, valid: Array | None) -> Vector:
    """String views taken over; several heaps are joined into one."""
    buffers = source.buffers()
    n = len(source)
    views = np.frombuffer(buffers[1], np.uint64, 2 * n, source.offset * 16).reshape(n, 2) if n else None
    if views is None:
        return Vector(wanted, np.zeros((0, 2), np.uint64), None, EMPTY_HEAP)
    heaps = [np.frombuffer(b, np.uint8) for b in buffers[2:] if b is not None]
    sizes = np.array([len(h) for h in heaps], np.int64)
    bases = np.zeros(len(heaps), np.int64)
    np.cumsum(sizes[:-1], out=bases[1:])
    if int(sizes.sum()) > 0xFFFFFFFF:
        raise errors.ProgramLimitExceeded("a column's strings exceed 4 GB in one batch")
    heap = EMPTY_HEAP if not heaps else heaps[0] if len(heaps) == 1 else np.concatenate(heaps)
    out = np.empty((n, 2), np.uint64)
    views = views.copy()  # aligned and of one kind for the kernel
    live = render.NO_NULLS if valid is None else valid
    row = kernels.move_views(views, views.view(np.int32).reshape(n, 4), bases, sizes, live, out)
    if row >= 0:
        raise text_parse.at_row(errors.DataError("string view out of bounds"), row)
    if wanted.kind is not Kind.BYTEA:
        row = kernels.invalid_view(out, out.view(np.uint8).reshape(-1), heap)
        if row >= 0:
            raise text_parse.at_row(text_parse.utf8_error(source[row].as_buffer().to_pybytes()), row)
    return Vector(wanted, out, None, heap)


def _check_range(wanted: SqlType, wrong: Array, valid: Array | None) -> None:
    """Raises 22003 when a valid row is marked."""
    if valid is not None:
        wrong = wrong & valid
    if wrong.any():
        error = errors.NumericOutOfRange(f"{wanted.kind.value} out of range")
        raise text_parse.at_row(error, int(np.argmax(wrong)))


_INTEGER_DTYPES = {f"{s}int{w}": np.dtype(f"{k}{w // 8}") for s, k in (("", "i"), ("u", "u")) for w in (8, 16, 32, 64)}


def _integers(source: pa.Array, wanted: SqlType, valid: Array | None) -> Array:
    dtype = _INTEGER_DTYPES.get(str(source.type))
    low, high = (0, 2**32 - 1) if wanted.kind in OID_KINDS else _bounds(wanted)
    if dtype is not None:
        values = _values(source, dtype)
        if dtype != wanted.dtype or wanted.kind in OID_KINDS:
            _check_range(wanted, (values > np.array(high).astype(_wider(dtype))) | (values < low), valid)
        out: Array = values.astype(wanted.dtype, copy=False)
        return out
    if pa.types.is_floating(source.type):
        numbers = np.rint(source.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False))
        _check_range(wanted, ~((numbers >= float(low)) & (numbers < float(high) + 1)), valid)
        fitted: Array = numbers.astype(wanted.dtype)
        return fitted
    if pa.types.is_decimal(source.type):
        rounded = pc.round(source, 0, round_mode="half_towards_infinity")
        digits = [0 if v is None else int(v) for v in rounded.to_pylist()]
        _check_range(wanted, np.array([not low <= v <= high for v in digits], np.bool_), valid)
        return np.array(digits, wanted.dtype)
    raise _mismatch(source.type, wanted)


def _bounds(wanted: SqlType) -> tuple[int, int]:
    bound = 1 << (8 * wanted.width - 1)
    return -bound, bound - 1


def _wider(dtype: np.dtype[Any]) -> Any:
    return np.uint64 if dtype.kind == "u" else np.int64


def _numeric(source: pa.Array, wanted: SqlType, valid: Array | None) -> Vector:
    if wanted.physical is not Physical.DEC64:
        return _wide_numeric(source, wanted)
    scale, precision = wanted.scale or 0, wanted.precision or 0
    if pa.types.is_decimal(source.type):
        if source.type.scale > scale:
            source = pc.round(source, scale, round_mode="half_towards_infinity")
        if not (source.type.bit_width == 128 and source.type.scale == scale):
            source = _rescaled(source, wanted)
        pairs = _pairs(source)
        values = np.ascontiguousarray(pairs[:, 0])
        wrong = pairs[:, 1] != (values >> 63)
    elif str(source.type) in _INTEGER_DTYPES:
        whole = _integers(source, types.INT8, valid)
        limit = 10 ** (precision - scale)
        wrong = (whole >= limit) | (whole <= -limit)
        values = np.where(wrong, 0, whole) * 10**scale
    elif pa.types.is_floating(source.type):
        return _from_text(source.cast(pa.large_string()), wanted, valid, None)
    else:
        raise _mismatch(source.type, wanted)
    limit = 10**precision
    wrong = wrong | (values >= limit) | (values <= -limit)
    if valid is not None:
        wrong &= valid
    if wrong.any():
        raise text_parse.at_row(numeric_field_overflow(precision, scale), int(np.argmax(wrong)))
    return Vector(wanted, values, scale=scale)


def _pairs(source: pa.Array) -> Array:
    """int64[n, 2] low and high words of a decimal128 array."""
    n = len(source)
    if n == 0:
        return np.zeros((0, 2), np.int64)
    words = np.frombuffer(source.buffers()[1], np.int64, 2 * n, source.offset * 16)
    return words.reshape(n, 2)


def _rescaled(source: pa.Array, wanted: SqlType) -> pa.Array:
    """A decimal array as decimal128(38, scale); a value that has no room there is out of the type's range too."""
    target = pa.decimal128(38, wanted.scale or 0)
    try:
        return source.cast(target)
    except pa.ArrowInvalid:
        for row, value in enumerate(source.to_pylist()):
            if value is not None and abs(value) >= Decimal(10) ** ((wanted.precision or 0) - (wanted.scale or 0)):
                error = numeric_field_overflow(wanted.precision or 0, wanted.scale or 0)
                raise text_parse.at_row(error, row) from None
        raise


def _wide_numeric(source: pa.Array, wanted: SqlType) -> Vector:
    """Decimals of any width, integers and floats as canonical text, value by value."""
    if pa.types.is_floating(source.type):
        source = source.cast(pa.large_string())
        return _from_text(source, wanted, valid_of(source), None)
    if not pa.types.is_decimal(source.type) and str(source.type) not in _INTEGER_DTYPES:
        raise _mismatch(source.type, wanted)
    out: list[bytes | None] = []
    for row, value in enumerate(source.to_pylist()):
        if value is None:
            out.append(None)
            continue
        try:
            fitted = fit_numeric(wanted, Decimal(value))
        except errors.Error as error:
            raise text_parse.at_row(error, row) from None
        out.append(format_numeric(fitted, wanted.scale).encode())
    return string_vector(wanted, out)


_UNIT_US = {"s": 1_000_000, "ms": 1000, "us": 1}


def _microseconds(source: pa.Array, unit: str, valid: Array | None, dtype: Any = np.int64) -> Array:
    values = _values(source, dtype).astype(np.int64, copy=False)
    if unit == "ns":
        return values // 1000
    factor = _UNIT_US[unit]
    if factor == 1:
        return values
    limit = (2**63 - 1) // factor
    wrong = (values > limit) | (values < -limit)
    if valid is not None:
        wrong &= valid
    if wrong.any():
        raise text_parse.at_row(errors.DatetimeOverflow("timestamp out of range"), int(np.argmax(wrong)))
    return values * factor


def _datetimes(source: pa.Array, wanted: SqlType, valid: Array | None, settings: TextSettings) -> Array:
    kind, given = wanted.kind, source.type
    if kind is Kind.DATE and pa.types.is_date32(given):
        return _values(source, np.int32)
    if kind is Kind.TIME:
        if not pa.types.is_time(given):
            raise _mismatch(given, wanted)
        narrow = np.int32 if pa.types.is_time32(given) else np.int64
        return _microseconds(source, given.unit, valid, narrow)
    if pa.types.is_date32(given):
        local = _values(source, np.int32).astype(np.int64) * DAY_US
        zoned = False
    elif pa.types.is_date64(given):
        local = _values(source, np.int64) // 86_400_000 * DAY_US
        zoned = False
    elif pa.types.is_timestamp(given):
        local = _microseconds(source, given.unit, valid)
        zoned = given.tz is not None
    else:
        raise _mismatch(given, wanted)
    if kind is Kind.TIMESTAMPTZ:
        return local if zoned else local - settings.timezone.offsets_of_local(local) * 1_000_000
    if zoned:
        local = local + settings.timezone.offsets_at(local) * 1_000_000
    return local if kind is Kind.TIMESTAMP else (local // DAY_US).astype(np.int32)


def _others(source: pa.Array, wanted: SqlType) -> Array:
    kind, given = wanted.kind, source.type
    if kind is Kind.BOOL and pa.types.is_boolean(given):
        bits = np.frombuffer(source.buffers()[1], np.uint8) if len(source) else EMPTY_HEAP
        return np.unpackbits(bits, bitorder="little")[source.offset : source.offset + len(source)].copy()
    if kind is Kind.FLOAT8 and (pa.types.is_floating(given) or str(given) in _INTEGER_DTYPES):
        return _floats(source, pa.float64())
    if kind is Kind.FLOAT4 and (pa.types.is_floating(given) or str(given) in _INTEGER_DTYPES):
        return _floats(source, pa.float32())
    if kind in (Kind.FLOAT4, Kind.FLOAT8) and pa.types.is_decimal(given):
        return _floats(source.cast(pa.float64()), pa.float32() if kind is Kind.FLOAT4 else pa.float64())
    if kind is Kind.UUID and pa.types.is_fixed_size_binary(given) and given.byte_width == 16:
        return _values(source, "V16").view(np.uint64).reshape(-1, 2).copy()
    if kind is Kind.INTERVAL:
        return _intervals(source, wanted)
    raise _mismatch(given, wanted)


def _floats(source: pa.Array, target: pa.DataType) -> Array:
    if source.type == target:
        return _values(source, np.float32 if target == pa.float32() else np.float64)
    converted = source.cast(target, safe=False)
    return _values(converted, np.float32 if target == pa.float32() else np.float64)


def _intervals(source: pa.Array, wanted: SqlType) -> Array:
    out = np.zeros((len(source), 2), np.uint64)
    if pa.types.is_duration(source.type):
        out.view(np.int64)[:, 1] = _microseconds(source, source.type.unit, valid_of(source))
        return out
    if source.type != pa.month_day_nano_interval():
        raise _mismatch(source.type, wanted)
    buffer = source.buffers()[1]
    if len(source):
        words = np.frombuffer(buffer, np.uint64, 2 * len(source), source.offset * 16).reshape(-1, 2)
        out[:, 0] = words[:, 0]
        out.view(np.int64)[:, 1] = words[:, 1].copy().view(np.int64) // 1000
    return out
