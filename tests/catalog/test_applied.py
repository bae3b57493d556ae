"""Correlated subqueries that no join can stand for are run for each row: the same answers as PostgreSQL's."""

from __future__ import annotations

import pytest

from filestore import errors
from tests.catalog.conftest import Ask, statements

QUERIES = """
select a.id, (select b.g + a.id from generate_series(1, 5) b(g) where b.g < a.id order by b.g desc limit 1)
  from generate_series(1, 4) a(id) order by 1;

select a.id, (select count(*) from generate_series(1, 9) b(g) where b.g > a.id * 2)
  from generate_series(1, 6) a(id) order by 1;

select a.id from generate_series(1, 9) a(id)
  where a.id in (select b.g + a.id - 3 from generate_series(1, 3) b(g))
    or a.id not in (select g from generate_series(a.id, 8) g)
  order by 1;

select a.id, exists (select 1 from generate_series(1, 9) b(g) where b.g * b.g = a.id having count(*) > 0)
  from generate_series(1, 9) a(id) order by 1;

select a.id, (select string_agg(x, '')
    from unnest(array(select b.g::text from generate_series(1, a.id) b(g) order by 1)) x)
  from generate_series(0, 3) a(id) order by 1;

select a.id, (select (select c.g * a.id from generate_series(2, 2) c(g) where c.g > b.g)
    from generate_series(1, 1) b(g))
  from generate_series(1, 3) a(id) order by 1;

select name, (select max(x.name) from app.author x where x.id < a.id and length(x.name) <= length(a.name))
  from app.author a order by 1;

select a.n, (select a.n) from (values (1.0), (1.00), (null)) a(n) order by a.n::text;
"""


@pytest.mark.parametrize("sql", statements(QUERIES))
def test_answers_are_postgresql_s(sql: str, ask: Ask, oracle: Ask) -> None:
    assert ask(sql) == oracle(sql)


def test_more_than_one_row_is_an_error(ask: Ask) -> None:
    with pytest.raises(errors.CardinalityViolation):
        ask("select (select g from generate_series(1, a.id) g) from generate_series(1, 2) a(id)")
