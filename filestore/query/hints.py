"""What to do instead: the hints of refusals (0A000), by what is refused.

A refusal that has no hint of its own gets one here, so that nobody is left with a bare "not supported". Keys are the
names that the messages begin with. PostgreSQL's own refusals keep its words, which say what is wrong by themselves.
"""

from __future__ import annotations

from typing import Final

from filestore import errors

OTHERWISE: Final = "What is built is listed in docs/reference/sql.md."
_JSON: Final = "Keep json as text and take it apart in the client."
_RANKS: Final = "Use GROUP BY with aggregates, or number the rows in the client."
_ARRAYS: Final = "No value is an array: use rows, or IN with a list of values."
_REGEX: Final = "Use regexp_replace, regexp_substr or split_part."
_ADVISORY: Final = "Lock a row by updating it, or a table by LOCK TABLE."
_NUMBERS: Final = "Give the values in INSERT, or use gen_random_uuid()."
_ALTER: Final = "Create a table as it should be, INSERT ... SELECT into it, and drop the old one."

HINTS: Final[dict[str, str]] = {
    # queries
    "window functions": _RANKS, "WINDOW": _RANKS, "WITHIN GROUP": "Sort by the value and take the middle row.",
    "ROLLUP": "Join the groupings by UNION ALL.", "CUBE": "Join the groupings by UNION ALL.",
    "GROUPING SETS": "Join the groupings by UNION ALL.",
    "LATERAL": "Join with a subquery that is grouped by what it is joined on, or use a subquery in the select list.",
    "a subquery in LATERAL": "Join with a subquery, or use one in the select list.",
    "WITH RECURSIVE": "Follow the references one level at a time, in the client or by joins.",
    "WITH before": "Put the query into FROM or USING.",
    "TABLESAMPLE": "Use WHERE random() < 0.1.", "FETCH FIRST ... WITH TIES": "Compare with the last row's value.",
    "SELECT INTO": "Create the table, then INSERT ... SELECT.", "ROWS FROM": "Join the functions' rows.",
    "a row value in this place": "Rows can be compared, and looked for by IN: else write their columns.",
    "field selection": "Name a table's column: table.column.",
    "system column": "Name the row by its key.",
    "* with modifiers": "List the columns.", "* in this place": "List the columns.",
    "cross-database references": "A store is one database: leave its name out.",
    "INSERT ... ON CONFLICT": "Use UPDATE, then INSERT ... WHERE NOT EXISTS.",
    "ONLY": "Tables have no children: leave ONLY out.",
    "CAST ... FORMAT": "Use to_date or to_timestamp.",
    "COLLATE": 'Strings are compared byte by byte, as COLLATE "C" does.',
    "OPERATOR()": "Write the operator by itself.",
    "array": _ARRAYS, "ARRAY": _ARRAYS, "DISTINCT in this place": "Use SELECT DISTINCT in a subquery.",
    "json operators": _JSON, "named arguments": "Give the arguments by place.",
    "VARIADIC": "Give the arguments one by one.", "CURRENT_TIME": "Use LOCALTIME.",
    "bit strings": "Use an integer with & | # << >>, or bytea.", "U& strings": "Use E'\\u0061', or the letter itself.",
    "a precision of the current time": "Use date_trunc.",
    "Overlaps": "Compare the ends: a.first < b.last AND b.first < a.last.",
    "> ANY": "Compare with min() or max() of the subquery.", "ANY (subquery)": "Use min() or max() of the subquery.",
    "ALL (subquery)": "Use min() or max() of the subquery.",
    # functions
    "function array_agg": "Use string_agg.", "function json": _JSON, "function to_json": _JSON,
    "function row_to_json": _JSON, "function jsonb": _JSON, "function regexp": _REGEX,
    "function nextval": _NUMBERS, "function currval": _NUMBERS, "function setval": _NUMBERS,
    "function lastval": _NUMBERS, "function pg_advisory": _ADVISORY, "function pg_try_advisory": _ADVISORY,
    "function unnest": _ARRAYS,
    "function generate_series": "Put it into FROM.", "function mode": "Group by the value and take the most frequent.",
    "function pg_sleep": "Use pg_sleep(seconds).", "function to_number": "Use replace() and a cast to numeric.",
    "function make_interval": "Multiply: 3 * interval '1 day'.",
    "function percentile": "Sort by the value and take the row at that place.",
    "function covar": "Use avg(x * y) - avg(x) * avg(y).",
    "function corr": "Use (avg(x * y) - avg(x) * avg(y)) / (stddev_pop(x) * stddev_pop(y)).",
    "function setseed": "Values of random() cannot be repeated: keep them in a table.",
    "function sind": "Use sin(radians(x)), and so for the others of degrees.",
    "function string_to_table": "Use split_part with generate_series.",
    **{f"function {name}()": _RANKS for name in (
        "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value",
        "last_value", "nth_value",
    )},
    "operator": "Use a function; the operators are listed in docs/reference/sql.md.",
    # definitions
    "FOREIGN KEY constraints": "Leave them out and check in the application: SELECT ... WHERE NOT EXISTS.",
    "EXCLUDE constraints": "UNIQUE constraints are built.",
    "DEFERRABLE constraints": "An UPDATE of many keys is checked at its end anyway: leave the word out.",
    "identity columns": _NUMBERS, "temporary tables": "Create the table and drop it in the same transaction.",
    "generated columns": "Compute the value in the query, or give it in INSERT.",
    "partitioned tables": "Use one table: whole segments are skipped by their bounds.", "INHERITS": "Use one table.",
    "TABLESPACE": "Tables lie in the store's directory.", "NULLS NOT DISTINCT": "Use a value instead of NULL.",
    "INCLUDE": "Leave it out: an index leads to the row.", "CREATE TABLE OF": "List the columns.",
    "ALTER TABLE ... ADD COLUMN": _ALTER, "ALTER TABLE": _ALTER,
    "ADD CONSTRAINT USING INDEX": "Leave USING INDEX out.", "NOT VALID": "Leave it out: the rows are checked at once.",
    "ALTER SCHEMA": "Create another schema.", "CREATE INDEX": "PRIMARY KEY and UNIQUE constraints make indexes.",
    "COMMENT": "Leave it out.", "GRANT": "One role owns everything: leave it out.", "CLUSTER": "Leave it out.",
    "REVOKE": "One role owns everything: leave it out.", "REASSIGN OWNED": "One role owns everything: leave it out.",
    "DROP OWNED": "Drop the schemas.", "DO": "Run the statements from the client.",
    "CALL": "Run the statements from the client.", "LOAD": "There are no libraries to load.",
    "CREATE FUNCTION": "Put the expression into the query, or compute in the client.",
    "CREATE PROCEDURE": "Run the statements from the client.",
    "CREATE TRIGGER": "Run the statements from the client, in the same transaction.",
    "CREATE TYPE": "Use text with a CHECK constraint.", "CREATE DOMAIN": "Use the type with a CHECK constraint.",
    "CREATE EXTENSION": "Leave it out: gen_random_uuid() and md5() are built in.",
    "CREATE MATERIALIZED VIEW": "Create a table, and INSERT ... SELECT into it.",
    "REFRESH MATERIALIZED VIEW": "TRUNCATE a table, and INSERT ... SELECT into it.",
}  # fmt: skip


def hint_of(what: str) -> str:
    """The hint for something that is not built: that of the longest key that its name begins or ends with."""
    for key in _LONGEST_FIRST:
        if what.startswith(key) or what.endswith(key):
            return HINTS[key]
    return OTHERWISE


def not_supported(what: str, position: int | None, hint: str | None = None) -> errors.FeatureNotSupported:
    """The refusal of something by its name, with a hint."""
    verb = "are" if what.endswith("s") and not what.isupper() else "is"
    return errors.FeatureNotSupported(f"{what} {verb} not supported", hint=hint or hint_of(what), position=position)


_LONGEST_FIRST: Final = sorted(HINTS, key=len, reverse=True)
