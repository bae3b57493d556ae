"""Sessions of the gRPC port: a call borrows one, so that a statement is prepared once and not once a call.

Thread rule: the event loop's thread, which runs statements as far as they go without waiting; long reads run on a
worker.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from filestore import errors
from filestore.query.parse import parse
from filestore.query.plan import OutputColumn
from filestore.query.python_values import vector
from filestore.query.statements import Name
from filestore.storage.schema import TableDef
from filestore.storage.vector import Batch
from filestore.txn.drive import Steps, drive_async

if TYPE_CHECKING:
    from filestore.database import Database
    from filestore.session import Prepared

# Statements are a handful a table.
PREPARED_MAX: Final = 256
IDLE_MAX: Final = 16

_BEGIN, _COMMIT, _ROLLBACK = parse("BEGIN ISOLATION LEVEL REPEATABLE READ; COMMIT; ROLLBACK")


class Call:
    """A session while one call uses it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.session = database.session(application_name="grpc")
        self._prepared: OrderedDict[tuple[str, int], Prepared] = OrderedDict()

    def table(self, schema: str, name: str) -> TableDef:
        """The definition of a table. Raises 42P01 with a suggestion."""
        with self.database.lock:
            return self.session.catalog().required(Name(schema, name))

    async def begin(self) -> None:
        """Begins a transaction whose statements see one snapshot and never overwrite what changed since (40001)."""
        await self._run(self.session.execute(_BEGIN))

    async def execute(self, text: str, values: Sequence[Any]) -> tuple[tuple[OutputColumn, ...], list[Batch], str]:
        """Runs one statement with bound values; its columns, rows and tag. The transaction stays open until
        `finish`.
        """
        session = self.session
        with self.database.lock:
            prepared = self._prepare(text)
        vectors = [vector(t, (v,), session.settings) for t, v in zip(prepared.parameters, values, strict=True)]
        result = await self._run(session.execute_prepared(prepared, vectors))
        if result.inline:
            batches = list(result.batches)
        else:
            loop = asyncio.get_running_loop()
            batches = await loop.run_in_executor(self.database.workers, list, result.batches)
        return result.columns or (), batches, result.tag

    def _prepare(self, text: str) -> Prepared:
        key = (text, self.session.registry_version)
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self.session.prepare(text)
            if key[1] >= 0:
                self._prepared[key] = prepared
                if len(self._prepared) > PREPARED_MAX:
                    self._prepared.popitem(last=False)
        return prepared

    async def finish(self) -> None:
        """Commits, and returns when that is durable."""
        if self.session.explicit:
            await self._run(self.session.execute(_COMMIT))
        await self._run(self.session.finish())

    async def catch_up(self) -> None:
        """Returns when all that is committed is durable, and so visible to what begins now."""
        await self._run(_until_durable(self.database))

    async def undo(self) -> None:
        """Rolls back what the call has done."""
        self.session.fail()
        if self.session.explicit:
            await self._run(self.session.execute(_ROLLBACK))

    async def _run(self, steps: Steps[Any]) -> Any:
        try:
            return await drive_async(steps, self.database.lock, self.session.poll)
        except asyncio.CancelledError:
            # The client is gone or its deadline has passed: work on other threads ends at its next morsel.
            self.session.cancel.set("user request")
            with self.database.lock:
                steps.close()
            raise


def _until_durable(database: Database) -> Steps[None]:
    log = database.engine.log
    wait = log.when_durable(log.end_lsn)
    if not wait.done:
        yield wait
    if wait.error is not None:
        raise wait.error


class Sessions:
    """Idle sessions, to be used again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._idle: list[Call] = []

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Call]:
        """A session for one call: commits when the block ends well, rolls back when it raises."""
        if self._database.closed:
            raise errors.AdminShutdown("the database is closed")
        borrowed = self._idle.pop() if self._idle else Call(self._database)
        try:
            yield borrowed
            await borrowed.finish()
        except asyncio.CancelledError:
            borrowed.session.cancel.set("user request")  # a worker may still read for it
            borrowed.session.close()
            raise
        except BaseException:
            await borrowed.undo()
            self._give_back(borrowed)
            raise
        self._give_back(borrowed)

    def _give_back(self, borrowed: Call) -> None:
        if len(self._idle) < IDLE_MAX:
            self._idle.append(borrowed)
        else:
            borrowed.session.close()

    def close(self) -> None:
        """Closes the idle sessions."""
        while self._idle:
            self._idle.pop().session.close()
