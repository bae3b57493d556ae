"""The registry: names, overlays, operations as the one serial form."""

from __future__ import annotations

import json
import random

from filestore.storage import registry as ops
from filestore.storage.registry import Registry
from filestore.storage.schema import FIRST_USER_OID, ColumnDef, TableDef
from filestore.types import INT8, numeric


def table(registry, name, schema="public"):
    columns = (ColumnDef("id", INT8, True), ColumnDef("n", numeric(10, 2), default="1.5"))
    return TableDef(registry.new_oid(), schema, name, columns, storage_id=registry.new_storage_id())


def test_system_schemas_and_numbers():
    registry = Registry()
    assert registry.schemas() == {"pg_catalog": 11, "public": 2200, "information_schema": 13183}
    assert registry.new_oid() == FIRST_USER_OID
    assert registry.new_storage_id() == FIRST_USER_OID + 1


def test_an_overlay_changes_only_itself_until_applied():
    registry = Registry()
    a, b = table(registry, "a"), table(registry, "b")
    registry.apply(ops.put_table(a))
    registry.apply(ops.put_table(b))
    overlay = registry.fork()
    overlay.apply(ops.drop_table(a.oid))
    overlay.apply(ops.put_table(b.changed(name="c")))
    overlay.apply(ops.put_schema("s", overlay.new_oid()))
    assert overlay.table("public", "a") is None and overlay.by_oid(a.oid) is None
    assert overlay.table("public", "b") is None and overlay.table("public", "c").oid == b.oid
    assert [t.name for t in overlay.tables()] == ["c"]
    assert [t.name for t in registry.tables()] == ["a", "b"]
    assert registry.resolve("a", ["s", "public"]) == a and overlay.resolve("a", ["s", "public"]) is None
    version = registry.version
    registry.apply_all(overlay.operations)
    assert registry.version > version
    assert [t.name for t in registry.tables()] == ["c"]
    assert registry.schema_oid("s") is not None


def test_a_name_may_be_used_again():
    registry = Registry()
    a = table(registry, "a")
    again = table(registry, "a")
    operations = [ops.put_table(a), ops.drop_table(a.oid), ops.put_table(again)]
    registry.apply_all(operations)
    registry.apply_all(operations)
    assert registry.table("public", "a") == again
    registry.apply_all(operations[1:])
    assert registry.table("public", "a") == again


def test_json_and_operations_say_the_same(seed):
    rng = random.Random(seed)
    registry, replayed = Registry(), Registry()
    log = []
    for _ in range(200):
        tables = list(registry.tables())
        kind = rng.random()
        if kind < 0.5 or not tables:
            name = rng.choice("abcdefgh")
            if registry.table("public", name) is not None:
                continue
            operation = ops.put_table(table(registry, name))
        elif kind < 0.7:
            operation = ops.drop_table(rng.choice(tables).oid)
        elif kind < 0.9:
            operation = ops.put_table(rng.choice(tables).changed(storage_id=registry.new_storage_id()))
        else:
            operation = ops.put_schema(rng.choice("stu"), registry.new_oid())
        overlay = registry.fork()
        overlay.apply(operation)
        assert overlay.operations == [operation]
        registry.apply_all(overlay.operations)
        log.append(json.loads(json.dumps(operation)))
    replayed.apply_all(log)
    copy = Registry.from_json(json.loads(json.dumps(registry.to_json())))
    for other in (replayed, copy):
        assert list(other.tables()) == list(registry.tables())
        assert other.schemas() == registry.schemas()
        for name in "abcdefgh":
            assert other.table("public", name) == registry.table("public", name)
    assert copy.new_oid() == registry.new_oid()
    start = rng.randrange(len(log))
    replayed.apply_all(log[start:])
    assert list(replayed.tables()) == list(copy.tables())
