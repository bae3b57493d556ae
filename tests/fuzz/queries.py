"""Random queries over `tables`: joins, grouping, set operations, ORDER BY with LIMIT, and DML that is undone."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.fuzz.grammar import COMMON, KINDS, ORDERED, Expressions, Scope, table_scope
from tests.fuzz.tables import COLUMNS


@dataclass(frozen=True)
class Query:
    """One random text. `ordered`: its order is total. `risky`: it may fail, as the rows demand."""

    sql: str
    ordered: bool = False
    risky: bool = False
    undo: bool = False


class Queries:
    """A stream of queries from one seed; query `i` depends on seed and i alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def query(self, number: int) -> Query:
        """The query of a number."""
        rng = random.Random(f"{self.seed}/{number}")
        shape = rng.random()
        if shape < 0.08:
            return _risky(rng)
        if shape < 0.16:
            return _writing(rng)
        if shape < 0.24:
            return _set_operation(rng)
        return _select(rng)


def _items(x: Expressions, rng: random.Random, count: int, depth: int) -> list[tuple[str, str]]:
    kinds = [rng.choice(COMMON if rng.random() < 0.7 else KINDS) for _ in range(count)]
    return [(x.make(kind, depth), kind) for kind in kinds]


def _risky(rng: random.Random) -> Query:
    """One table, read whole, one item that may fail."""
    x = Expressions(rng, risky=True)
    x.subqueries = False
    x.scope = table_scope("a", "a")
    return Query(f"SELECT a.id, {x.make(rng.choice(('int', 'num', 'big')), 2)} FROM a", risky=True)


def _source(x: Expressions, rng: random.Random) -> str:
    """FROM's text; sets the scope."""
    kind = rng.random()
    if kind < 0.12:
        x.scope = table_scope("big", "g")
        if rng.random() < 0.5:
            x.scope.columns += table_scope("a", "a").columns
            join, key, other = (
                rng.choice(("JOIN", "LEFT JOIN")),
                rng.choice(("id", "k")),
                rng.choice(("id", "i4", "i2")),
            )
            return f"big g {join} a ON g.{key} = a.{other}"
        return "big g"
    if kind < 0.4:
        x.scope = table_scope("a", "a")
        return "a"
    if kind < 0.5:
        x.scope = table_scope("b", "i")
        items = _items(x, rng, 3, 2)
        where = f" WHERE {x.make('bool', 2)}" if rng.random() < 0.5 else ""
        body = ", ".join(f"{text} AS c{i}" for i, (text, _) in enumerate(items))
        x.scope = Scope([(f"q.c{i}", kind) for i, (_, kind) in enumerate(items)] + [("q.id", "int")])
        return f"(SELECT i.id, {body} FROM b i{where}) q"
    left, right = table_scope("a", "a"), table_scope("b", "b")
    x.scope = Scope(left.columns + right.columns)
    join = rng.choice(("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
    both = rng.choice(("id", "i2", "i4", "t", "d", "n", "u", "i8", "c", "b"))
    on = f"a.{both} = b.{both}"
    if rng.random() < 0.15:
        on = f"a.{rng.choice(('i2', 'i4', 'id'))} = b.{rng.choice(('i8', 'n', 'i2'))}"
    saved, x.subqueries = x.subqueries, False
    if join != "FULL JOIN" and rng.random() < 0.35:
        on += f" AND {x.make('bool', 2)}"
    x.subqueries = saved
    if rng.random() < 0.15:
        x.scope.columns += table_scope("a", "z").columns
        return f"a {join} b ON {on} {rng.choice(('JOIN', 'LEFT JOIN'))} a z ON z.id = b.i4"
    return f"a {join} b ON {on}"


def _aggregate(x: Expressions, rng: random.Random) -> str:
    name = rng.choice(("count", "sum", "avg", "min", "max", "count(*)", "bool_and", "bool_or", "var_pop", "stddev"))
    if name == "count(*)":
        text = "count(*)"
    elif name in ("bool_and", "bool_or"):
        text = f"{name}({x.make('bool', 2)})"
    elif name in ("min", "max"):
        text = f"{name}({x.make(rng.choice(ORDERED), 2)})"
    elif name == "count":
        text = f"count({rng.choice(('', 'DISTINCT '))}{x.make(rng.choice(ORDERED), 2)})"
    elif name in ("var_pop", "stddev"):
        text = f"{name}({x.make(rng.choice(('int', 'num')), 1)})"
    else:
        text = f"{name}({rng.choice(('', '', 'DISTINCT '))}{x.make(rng.choice(('int', 'big', 'num', 'float')), 2)})"
    if rng.random() < 0.15:
        text += f" FILTER (WHERE {x.make('bool', 1)})"
    return text


def _select(rng: random.Random) -> Query:
    x = Expressions(rng)
    source = _source(x, rng)
    big = source.startswith("big")
    where = f" WHERE {x.make('bool', 3)}" if rng.random() < 0.6 else ""
    if big and "JOIN" not in source and rng.random() < 0.7:
        low = rng.randint(1, 200_000)
        where = f" WHERE g.id BETWEEN {low} AND {low + rng.randint(0, 3000)}" + (f" AND ({where[7:]})" if where else "")
    if rng.random() < 0.4 or (big and " AND " not in where):
        return _grouped(x, rng, source, where)
    items = [text for text, _ in _items(x, rng, rng.randint(1, 4), 3)]
    distinct = "DISTINCT " if rng.random() < 0.15 else ""
    sql = f"SELECT {distinct}{', '.join(items)} FROM {source}{where}"
    return _ordered(rng, sql, len(items)) if rng.random() < 0.4 else Query(sql)


def _ordered(rng: random.Random, sql: str, width: int) -> Query:
    """ORDER BY all columns, so that LIMIT picks the same rows everywhere."""
    ways = [rng.choice(("", " DESC", " NULLS FIRST", " DESC NULLS LAST")) for _ in range(width)]
    sql += " ORDER BY " + ", ".join(f"{i + 1}{way}" for i, way in enumerate(ways))
    if rng.random() < 0.5:
        sql += f" LIMIT {rng.choice((0, 1, 3, 10, 100))}"
        if rng.random() < 0.4:
            sql += f" OFFSET {rng.choice((0, 1, 5, 40))}"
    return Query(sql, ordered=True)


def _grouped(x: Expressions, rng: random.Random, source: str, where: str) -> Query:
    x.subqueries = False
    keys = [text for text, _ in _items(x, rng, rng.randint(0, 2), rng.choice((0, 0, 1, 2)))]
    aggregates = [_aggregate(x, rng) for _ in range(rng.randint(1, 3))]
    sql = f"SELECT {', '.join(keys + aggregates)} FROM {source}{where}"
    if keys:
        sql += " GROUP BY " + ", ".join(str(i + 1) for i in range(len(keys)))
    if rng.random() < 0.25:
        sql += f" HAVING {rng.choice(('count(*) > 1', 'sum(' + x.leaf('int') + ') > 3', 'count(*) % 2 = 0'))}"
    return _ordered(rng, sql, len(keys) + len(aggregates)) if rng.random() < 0.2 else Query(sql)


def _set_operation(rng: random.Random) -> Query:
    kinds = [rng.choice(COMMON if rng.random() < 0.7 else KINDS) for _ in range(rng.randint(1, 2))]
    parts = []
    for table, alias in (("a", "a"), ("b", "b")):
        x = Expressions(rng)
        x.subqueries = False
        x.scope = table_scope(table, alias)
        items = ", ".join(x.make(kind, rng.choice((0, 1, 2))) for kind in kinds)
        where = f" WHERE {x.make('bool', 2)}" if rng.random() < 0.4 else ""
        parts.append(f"SELECT {items} FROM {table} {alias}{where}")
    operation = rng.choice(("UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"))
    sql = f" {operation} ".join(parts)
    if rng.random() < 0.3:
        return _ordered(rng, sql, len(kinds))
    if rng.random() < 0.3:
        return Query(f"WITH w AS ({sql}) SELECT count(*) FROM w")
    return Query(sql)


def _writing(rng: random.Random) -> Query:
    """A write with RETURNING inside a transaction that is rolled back; the table is read before that."""
    x = Expressions(rng)
    x.scope = table_scope("a", "a")
    x.subqueries = False
    column = rng.choice([name for name in COLUMNS if name not in ("id", "i2", "n", "v", "c", "m")])
    kind = COLUMNS[column][1]
    where = f" WHERE {x.make('bool', 2)}" if rng.random() < 0.8 else ""
    match rng.randint(0, 3):
        case 0:
            sql = f"UPDATE a SET {column} = {x.make(kind, 2)}{where} RETURNING a.id, a.{column}"
        case 1:
            sql = f"DELETE FROM a{where} RETURNING a.id, {x.make('int', 1)}"
        case 2:
            test = f"s.id = a.id AND {x.make('bool', 2)}"
            sql = f"UPDATE a SET {column} = s.{column} FROM b s WHERE {test} RETURNING a.id, s.id"
        case _:
            sql = f"INSERT INTO a (id, {column}) SELECT a.id + 1000, {x.make(kind, 2)} FROM a{where} RETURNING *"
    return Query(sql, undo=True)
