"""TPC-H's lineitem, Q1 and Q6, in SQL that FileStore and DuckDB both take word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROWS: Final = 6_001_215
KEY: Final = "PRIMARY KEY (l_orderkey, l_linenumber)"

Q1: Final = """
select l_returnflag, l_linestatus, sum(l_quantity) as sum_qty, sum(l_extendedprice) as sum_base_price,
  sum(l_extendedprice * (1 - l_discount)) as sum_disc_price,
  sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) as sum_charge,
  avg(l_quantity) as avg_qty, avg(l_extendedprice) as avg_price, avg(l_discount) as avg_disc, count(*) as count_order
from lineitem
where l_shipdate <= date '1998-12-01' - interval '90' day
group by l_returnflag, l_linestatus
order by l_returnflag, l_linestatus"""

Q6: Final = """
select sum(l_extendedprice * l_discount) as revenue
from lineitem
where l_shipdate >= date '1994-01-01' and l_shipdate < date '1994-01-01' + interval '1' year
  and l_discount between 0.06 - 0.01 and 0.06 + 0.01 and l_quantity < 24"""

QUERIES: Final = {"Q1": Q1, "Q6": Q6}


def create_table(*, key: bool) -> str:
    """The definition, with or without its primary key."""
    return f"""
create table lineitem (
  l_orderkey bigint not null, l_partkey bigint not null, l_suppkey bigint not null, l_linenumber integer not null,
  l_quantity decimal(15,2) not null, l_extendedprice decimal(15,2) not null, l_discount decimal(15,2) not null,
  l_tax decimal(15,2) not null, l_returnflag char(1) not null, l_linestatus char(1) not null, l_shipdate date not null,
  l_commitdate date not null, l_receiptdate date not null, l_shipinstruct char(25) not null,
  l_shipmode char(10) not null,
  l_comment varchar(44) not null{", " + KEY if key else ""})"""


def copy_from(parquet: Path) -> str:
    return f"COPY lineitem FROM '{parquet}' (FORMAT parquet)"
