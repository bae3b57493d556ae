"""Functions over arrays in their text form, such as {1,NULL,"a b"}, as system tables show them.

Arrays have one dimension and are numbered from 1. An item is compared by its text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from filestore import errors
from filestore.query.catalog_functions import NULL_ARGUMENTS
from filestore.query.scalar.registry import implement, result_size
from filestore.query.vectors import from_python, per_value, to_python
from filestore.storage.vector import Vector
from filestore.types import SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

_SPECIAL = frozenset('{}",\\')


def items_of(text: str) -> list[str | None]:
    """The items of `{...}`; of an int2vector such as `1 2` as well. 22P02 for anything else."""
    from filestore.query.bind_context import array_texts

    if text.startswith("{"):
        return array_texts(text, None)
    words = text.split()
    if not all(word.lstrip("-").isdigit() for word in words):
        raise errors.InvalidTextRepresentation(
            f'malformed array literal: "{text}"',
            detail='Array value must start with "{" or dimension information.',
        )
    return list(words)


def quoted(item: str | None) -> str:
    """An item as it stands in an array's text."""
    if item is None:
        return "NULL"
    plain = item and item.upper() != "NULL" and not any(c in _SPECIAL or c.isspace() for c in item)
    return item if plain else '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'


def text_of(items: Sequence[str | None]) -> str:
    """The text form of an array."""
    return "{" + ",".join(map(quoted, items)) + "}"


def _to_string(array: str | None, separator: str | None, null: str | None = None) -> str | None:
    if array is None or separator is None:
        return None
    shown = (null if item is None else item for item in items_of(array))
    return separator.join(item for item in shown if item is not None)


def _bound(array: str, dimension: int) -> int | None:
    return len(items_of(array)) or None if dimension == 1 else None


def _lower(array: str, dimension: int) -> int | None:
    if _bound(array, dimension) is None:
        return None
    return 1 if array.startswith("{") else 0  # int2vector counts from 0


def _upper(array: str, dimension: int) -> int | None:
    count = _bound(array, dimension)
    return None if count is None else count - 1 + (_lower(array, dimension) or 0)


def _position(array: str, item: str) -> int | None:
    items = items_of(array)
    return items.index(item) + 1 if item in items else None


def _item(array: str, number: int) -> str | None:
    items = items_of(array)
    place = number - (_lower(array, 1) or 0)
    return items[place] if 0 <= place < len(items) else None


def _contains(array: str, item: str) -> bool | None:
    items = items_of(array)
    return True if item in items else None if None in items else False


def _append(array: str | None, item: str | None) -> str:
    return text_of([*([] if array is None else items_of(array)), item])


def _split(text: str | None, separator: str | None) -> str | None:
    if text is None:
        return None
    if separator is None:
        return text_of(list(text))
    return text_of(text.split(separator) if separator else [text]) if text else "{}"


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "array_to_string": _to_string,
    "array_length": _bound,
    "array_lower": _lower,
    "array_upper": _upper,
    "cardinality": lambda array: len(items_of(array)),
    "array_position": _position,
    "array_append": _append,
    "array_cat": lambda left, right: text_of([*items_of(left), *items_of(right)]),
    "array_remove": lambda array, item: text_of([i for i in items_of(array) if i != item]),
    "string_to_array": _split,
    "array_item": _item,
    "array_contains": _contains,
    "array_quote": quoted,
}


def _register(name: str, function: Callable[..., Any]) -> None:
    @implement(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
        del ctx
        if name not in NULL_ARGUMENTS:
            return per_value(args, length, result, function)
        size = result_size(args, length)
        columns = [to_python(a) for a in args]
        rows = zip(*(c * size if len(c) != size else c for c in columns), strict=True)
        return from_python(result, [function(*row) for row in rows])


for _name, _function in _FUNCTIONS.items():
    _register(_name, _function)
