"""Plans as text and JSON: what EXPLAIN answers, what fixtures compare.

The text looks like PostgreSQL's (node, `->`, conditions below), with our nodes: a Project is shown, since it
is one. With ANALYZE the executor gives `measured`: id(node) -> (rows, milliseconds).
"""

from __future__ import annotations

import decimal
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from filestore.identifiers import quote_ident
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import Bound, Plan
from filestore.query.rules.traversal import exprs_of, inputs, subplans
from filestore.storage.schema import TableDef
from filestore.types import Kind

Measured = Mapping[int, tuple[int, float]]

_SYMBOLS: Final = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%", "pow": "^", "concat": "||", "eq": "=",
    "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "like": "~~", "ilike": "~~*",
    "regex_match": "~", "regex_imatch": "~*", "bitand": "&", "bitor": "|", "bitxor": "#", "shl": "<<",
    "shr": ">>", "distinct": "IS DISTINCT FROM", "not_distinct": "IS NOT DISTINCT FROM",
    "similar_to": "SIMILAR TO",
}  # fmt: skip


# --- expressions ----------------------------------------------------------------------------------


def show(expr: e.Expr, columns: Sequence[p.OutputColumn]) -> str:
    """An expression over rows of these columns, in SQL's looks."""

    def each(items: Sequence[e.Expr]) -> str:
        return ", ".join(show(x, columns) for x in items)

    match expr:
        case e.Const():
            return _constant(expr)
        case e.Column(index=index, name=name):
            label = columns[index].name if index < len(columns) else name
            return quote_ident(label) if label and label != "?column?" else f"#{index + 1}"
        case e.Param(number=number):
            return f"${number}"
        case e.Call(name=name, args=args) if name in _SYMBOLS and len(args) == 2:
            return f"({show(args[0], columns)} {_SYMBOLS[name]} {show(args[1], columns)})"
        case e.Call(name="neg", args=(arg,)):
            return f"(-{show(arg, columns)})"
        case e.Call(name=name, args=args):
            return f"{name}({each(args)})"
        case e.Cast(arg=arg):
            return f"{show(arg, columns)}::{expr.type.name}"
        case e.And(args=args):
            return "(" + " AND ".join(show(x, columns) for x in args) + ")"
        case e.Or(args=args):
            return "(" + " OR ".join(show(x, columns) for x in args) + ")"
        case e.Not(arg=arg):
            return f"(NOT {show(arg, columns)})"
        case e.IsNull(arg=arg, negated=negated):
            return f"({show(arg, columns)} IS {'NOT ' if negated else ''}NULL)"
        case e.IsBool(arg=arg, value=value, negated=negated):
            return f"({show(arg, columns)} IS {'NOT ' if negated else ''}{str(value).upper()})"
        case e.Case(whens=whens, default=default):
            parts = " ".join(f"WHEN {show(a, columns)} THEN {show(b, columns)}" for a, b in whens)
            return f"CASE {parts} ELSE {show(default, columns)} END"
        case e.Coalesce(args=args):
            return f"COALESCE({each(args)})"
        case e.InList(arg=arg, items=items):
            return f"({show(arg, columns)} IN ({each(items)}))"
        case e.ScalarSubquery():
            return "(SubPlan)"
        case e.InSubquery(args=args, negated=negated):
            left = show(args[0], columns) if len(args) == 1 else f"({each(args)})"
            return f"({left} {'NOT ' if negated else ''}IN (SubPlan))"
        case e.Applied(args=args):
            return f"(subquery for each {', '.join(show(a, columns) for a in args)})"
        case e.OuterValue(number=number):
            return f"outer {number}"
        case e.Exists():
            return "EXISTS(SubPlan)"
        case e.Aggregate():
            return _aggregate(expr, columns)
        case _:
            return type(expr).__name__


def _aggregate(call: e.Aggregate, columns: Sequence[p.OutputColumn]) -> str:
    args = [show(x, columns) for x in call.args]
    inner = "*" if call.name == "count_star" else ", ".join(args[: len(args) - len(call.order)])
    if call.order:
        keys = zip(call.args[-len(call.order) :], call.order, strict=True)
        inner += f" ORDER BY {', '.join(_sort_key(p.SortKey(x, *way), columns) for x, way in keys)}"
    name = "count" if call.name == "count_star" else call.name
    text = f"{name}({'DISTINCT ' if call.distinct else ''}{inner})"
    return text if call.filter is None else f"{text} FILTER (WHERE {show(call.filter, columns)})"


def _constant(expr: e.Const) -> str:
    value = expr.value
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if expr.type.kind in (Kind.INT2, Kind.INT4, Kind.INT8, Kind.OID) or isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    from filestore.query.literals import format_literal

    return f"'{format_literal(expr.type, value)}'::{expr.type.name}"


# --- nodes ----------------------------------------------------------------------------------------


def describe(plan: Plan) -> tuple[str, list[tuple[str, str]]]:
    """(name of the node, its details as label and text)."""
    columns = plan.columns
    match plan:
        case p.Scan() | p.IndexLookup() | p.IndexRange():
            return _describe_scan(plan)
        case p.Join():
            return _describe_join(plan)
        case p.OneRow():
            return "Result", []
        case p.VirtualScan(schema=schema, name=name):
            return f"System Scan on {schema}.{name}", []
        case p.FunctionScan(function=name, args=args):
            return f"Function Scan on {name}", [("Function Call", f"{name}({', '.join(show(a, ()) for a in args)})")]
        case p.Values(rows=rows):
            return "Values Scan", [("Rows", str(len(rows)))]
        case p.CteScan(name=name):
            return f"CTE Scan on {name}", []
        case p.With(ctes=ctes):
            return "With", [("CTEs", ", ".join(n for n, _ in ctes))]
        case p.Filter(input=below, predicate=predicate):
            return "Filter", [("Filter", show(predicate, below.columns))]
        case p.Project(input=below, exprs=exprs):
            return "Project", [("Output", ", ".join(show(x, below.columns) for x in exprs))]
        case p.Aggregate(input=below, keys=keys, calls=calls):
            details = [("Group Key", ", ".join(show(k, below.columns) for k in keys))] if keys else []
            details += [("Aggregates", ", ".join(show(c, below.columns) for c in calls))] if calls else []
            return ("HashAggregate" if keys else "Aggregate"), details
        case p.Sort(input=below):
            name = "Top-N Sort" if plan.limit is not None else "Sort"
            details = [("Sort Key", ", ".join(_sort_key(k, below.columns) for k in plan.keys))]
            return name, details + ([("Keep", show(plan.limit, ()))] if plan.limit is not None else [])
        case p.Limit(limit=limit, offset=offset):
            details = [("Limit", show(limit, ()))] if limit is not None else []
            return "Limit", details + ([("Offset", show(offset, ()))] if offset is not None else [])
        case p.Distinct(keys=keys):
            return ("Unique" if keys else "Distinct"), (
                [("Key", ", ".join(show(k, columns) for k in keys))] if keys else []
            )
        case p.SetOp(kind=kind, all=everything):
            return f"{kind.value.capitalize()}{' All' if everything else ''}", []
        case p.Insert() | p.Update() | p.Delete():
            return _describe_write(plan)
        case p.Explain():
            return "Explain", []
        case _:
            return type(plan).__name__, []


def _describe_scan(plan: p.Scan | p.IndexLookup | p.IndexRange) -> tuple[str, list[tuple[str, str]]]:
    name, details = plan.table.name, []
    match plan:
        case p.IndexLookup(key=key, keys=keys):
            title = f"Index Lookup using {key.name} on {name}"
            labels = [plan.table.columns[i].name for i in key.columns]
            if len(keys) == 1:
                pairs = zip(map(quote_ident, labels), keys[0], strict=True)
                shown = " AND ".join(f"({label} = {show(v, ())})" for label, v in pairs)
            else:
                rows = ", ".join("(" + ", ".join(show(v, ()) for v in k) + ")" for k in keys[:8])
                shown = f"({', '.join(map(quote_ident, labels))}) IN ({rows}{', ...' if len(keys) > 8 else ''})"
            details.append(("Index Cond", shown))
        case p.IndexRange():
            title = f"Index Range{' Backward' if plan.reverse else ''} using {plan.key.name} on {name}"
            condition = _range_condition(plan)
            if condition:
                details.append(("Index Cond", condition))
        case _:
            title = f"Seq Scan on {name}"
    details.insert(0, ("Output", ", ".join(quote_ident(c.name) if c.name else "address" for c in plan.columns)))
    if plan.predicate is not None:
        details.append(("Filter", show(plan.predicate, plan.columns)))
    if isinstance(plan, p.Scan) and plan.keys:
        uses = [f"({quote_ident(plan.columns[k.column].name)} = ANY {k.source})" for k in plan.keys]
        details.append(("Hashed Keys", " AND ".join(uses)))
    return title, details


def _range_condition(plan: p.IndexRange) -> str:
    labels = [quote_ident(plan.table.columns[i].name) for i in plan.key.columns]
    parts = [f"({c} = {show(v, ())})" for c, v in zip(labels, plan.prefix, strict=False)]
    if plan.low is not None:
        parts.append(f"({labels[len(plan.prefix)]} {'>=' if plan.low_inclusive else '>'} {show(plan.low, ())})")
    if plan.high is not None:
        parts.append(f"({labels[len(plan.prefix)]} {'<=' if plan.high_inclusive else '<'} {show(plan.high, ())})")
    return " AND ".join(parts)


def _describe_join(plan: p.Join) -> tuple[str, list[tuple[str, str]]]:
    word = "" if plan.kind in (p.JoinKind.INNER, p.JoinKind.CROSS) else f" {plan.kind.value.title()}"
    details: list[tuple[str, str]] = []
    if plan.left_keys:
        pairs = zip(plan.left_keys, plan.right_keys, strict=True)
        shown = [f"({show(a, plan.left.columns)} = {show(b, plan.right.columns)})" for a, b in pairs]
        details.append(("Hash Cond", " AND ".join(shown)))
    if plan.residual is not None:
        details.append(("Join Filter", show(plan.residual, plan.left.columns + plan.right.columns)))
    return (f"Hash{word} Join" if plan.left_keys else f"Nested Loop{word}"), details


def _describe_write(plan: p.Insert | p.Update | p.Delete) -> tuple[str, list[tuple[str, str]]]:
    details: list[tuple[str, str]] = []
    if isinstance(plan, p.Update):
        row = tuple(p.OutputColumn(c.name, c.type) for c in plan.table.columns) + plan.source.columns[1:]
        shown = [f"{quote_ident(plan.table.columns[i].name)} = {show(x, row)}" for i, x in plan.assignments]
        details.append(("Set", ", ".join(shown)))
    return f"{type(plan).__name__} on {plan.table.name}", details


def _sort_key(key: p.SortKey, columns: Sequence[p.OutputColumn]) -> str:
    text = show(key.expr, columns) + (" DESC" if key.descending else "")
    if key.nulls_first != key.descending:
        text += " NULLS FIRST" if key.nulls_first else " NULLS LAST"
    return text


def _below(plan: Plan) -> list[tuple[str, Plan]]:
    """(label, plan) of everything under a node: inputs, CTEs by name, subqueries of its expressions."""
    found: list[tuple[str, Plan]] = []
    names = [f"CTE {n}" for n, _ in plan.ctes] if isinstance(plan, p.With) else []
    for i, below in enumerate(inputs(plan)):
        found.append((names[i] if i < len(names) else "", below))
    for expr in exprs_of(plan):
        found += [("SubPlan", sub) for sub in subplans(expr)]
    return found


# --- text and JSON --------------------------------------------------------------------------------


def plan_lines(plan: Plan, measured: Measured | None = None) -> list[str]:
    """The plan as indented text."""
    lines: list[str] = []
    _write(plan, lines, 0, "", measured)
    return lines


def _write(plan: Plan, lines: list[str], depth: int, label: str, measured: Measured | None) -> None:
    indent = "" if depth == 0 else "  " + " " * (6 * (depth - 1))
    name, details = describe(plan)
    if label:
        lines.append(f"{indent}{label}")
    arrow = "->  " if depth else ""
    lines.append(f"{indent}{arrow}{name}{_actual(plan, measured)}")
    inner = indent + (" " * len(arrow)) + "  "
    lines += [f"{inner}{key}: {text}" for key, text in details]
    for tag, below in _below(plan):
        _write(below, lines, depth + 1, tag, measured)


def _actual(plan: Plan, measured: Measured | None) -> str:
    if measured is None:
        return ""
    found = measured.get(id(plan))
    if found is None:
        return " (never executed)"
    rows, milliseconds = found
    return f" (actual time={milliseconds:.3f} rows={rows})"


def plan_json(plan: Plan, measured: Measured | None = None) -> dict[str, Any]:
    """The plan as PostgreSQL's JSON: Node Type, details, Plans."""
    name, details = describe(plan)
    kind, _, relation = name.partition(" on ")
    kind, _, index = kind.partition(" using ")
    node: dict[str, Any] = {"Node Type": kind}
    if relation:
        node["Relation Name"] = relation
    if index:
        node["Index Name"] = index
    for key, text in details:
        node[key] = text.split(", ") if key in ("Output", "Sort Key", "Group Key") else text
    if measured is not None:
        rows, milliseconds = measured.get(id(plan), (0, 0.0))
        node |= {
            "Actual Rows": rows,
            "Actual Total Time": round(milliseconds, 3),
            "Actual Loops": int(id(plan) in measured),
        }
    below = [{**plan_json(x, measured), **({"Subplan Name": tag} if tag else {})} for tag, x in _below(plan)]
    if below:
        node["Plans"] = below
    return node


def explain_lines(
    bound: Bound,
    options: Mapping[str, object],
    measured: Measured | None = None,
    planning_ms: float | None = None,
    execution_ms: float | None = None,
) -> list[str]:
    """The rows of EXPLAIN's answer: lines of text, or one row of JSON with FORMAT JSON."""
    plan = bound.plan.statement.plan if isinstance(bound.plan, p.Explain) else bound.plan
    summary = bool(options.get("summary", options.get("analyze", False)))
    if str(options.get("format", "text")).lower() == "json":
        whole: dict[str, Any] = {"Plan": plan_json(plan, measured)}
        if summary and planning_ms is not None:
            whole["Planning Time"] = round(planning_ms, 3)
        if summary and execution_ms is not None:
            whole["Execution Time"] = round(execution_ms, 3)
        return [json.dumps([whole], indent=2, ensure_ascii=False)]
    lines = plan_lines(plan, measured)
    if summary and planning_ms is not None:
        lines.append(f"Planning Time: {planning_ms:.3f} ms")
    if summary and execution_ms is not None:
        lines.append(f"Execution Time: {execution_ms:.3f} ms")
    return lines


def rows_read(plan: Plan, rows: Callable[[TableDef], float]) -> float:
    """About how many stored rows running a plan touches: whole tables for scans, the looked-up keys for
    lookups."""
    total = 0.0
    match plan:
        case p.Scan(table=table):
            total = float(rows(table))
        case p.IndexLookup(keys=keys):
            total = float(len(keys))
        case p.IndexRange(table=table):
            total = max(float(rows(table)) * 0.05, 1.0)
        case p.FunctionScan(args=args):
            total = _series_rows(args)
        case p.Values(rows=listed):
            total = float(len(listed))
        case p.VirtualScan():
            total = 1000.0
    return total + sum(rows_read(x, rows) for _, x in _below(plan))


def _series_rows(args: tuple[e.Expr, ...]) -> float:
    bounds = [a.value for a in args[:2] if isinstance(a, e.Const) and isinstance(a.value, int | decimal.Decimal)]
    return float(bounds[1] - bounds[0] + 1) if len(bounds) == 2 else 1e6
