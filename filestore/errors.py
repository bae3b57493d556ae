"""One tree of errors, each class carrying its SQLSTATE and whether a retry can succeed.

The tree is the contract between the rooms and the ports: a port translates an `Error` into an ErrorResponse, a gRPC
status or a PEP 249 exception by its fields alone and never by its text. Bugs are `InternalError` (XX000) or a plain
Python exception that the session turns into one; a failed store is `StorageFailed`, after which nothing is
acknowledged.

Source of the codes: PostgreSQL 15, Appendix A. Only 40001 and 40P01 are retryable (RELIABILITY R45).
"""

from __future__ import annotations

from typing import ClassVar


class Error(Exception):
    """Base of every error that a user may see. Fields follow the PostgreSQL protocol's error fields.

    `position` is a 1-based character index into the statement's text.
    """

    sqlstate: ClassVar[str] = "XX000"
    retryable: ClassVar[bool] = False
    row: int | None = None  # 0-based row of a batch whose value is at fault, for COPY's line number

    def __init__(
        self,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        position: int | None = None,
        context: str | None = None,
        schema: str | None = None,
        table: str | None = None,
        column: str | None = None,
        datatype: str | None = None,
        constraint: str | None = None,
        severity: str = "ERROR",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.position = position
        self.context = context
        self.schema = schema
        self.table = table
        self.column = column
        self.datatype = datatype
        self.constraint = constraint
        self.severity = severity


# Class 08, 0A: connection and protocol, features
class ProtocolViolation(Error):
    sqlstate = "08P01"


class ConnectionDoesNotExist(Error):
    """The connection or the store behind it has been closed."""

    sqlstate = "08003"


class FeatureNotSupported(Error):
    """Named refusal of something PostgreSQL has and FileStore has not built."""

    sqlstate = "0A000"


# Class 22: data
class DataError(Error):
    sqlstate = "22000"


class StringTooLong(DataError):
    sqlstate = "22001"


class NumericOutOfRange(DataError):
    sqlstate = "22003"


class NullValueNotAllowed(DataError):
    sqlstate = "22004"


class InvalidDatetimeFormat(DataError):
    sqlstate = "22007"


class DatetimeOverflow(DataError):
    sqlstate = "22008"


class InvalidTimeZone(DataError):
    sqlstate = "22009"


class SubstringError(DataError):
    sqlstate = "22011"


class DivisionByZero(DataError):
    sqlstate = "22012"


class IntervalOverflow(DataError):
    sqlstate = "22015"


class InvalidEscape(DataError):
    sqlstate = "22025"


class InvalidRegularExpression(DataError):
    sqlstate = "2201B"


class InvalidLogarithmArgument(DataError):
    sqlstate = "2201E"


class InvalidPowerArgument(DataError):
    sqlstate = "2201F"


class InvalidRowCountInLimit(DataError):
    sqlstate = "2201W"


class InvalidRowCountInOffset(DataError):
    sqlstate = "2201X"


class CharacterNotInRepertoire(DataError):
    sqlstate = "22021"


class InvalidParameterValue(DataError):
    sqlstate = "22023"


class InvalidTextRepresentation(DataError):
    sqlstate = "22P02"


class InvalidBinaryRepresentation(DataError):
    sqlstate = "22P03"


class BadCopyFileFormat(DataError):
    sqlstate = "22P04"


# Class 21, 23: cardinality, integrity
class CardinalityViolation(Error):
    sqlstate = "21000"


class IntegrityError(Error):
    sqlstate = "23000"


class NotNullViolation(IntegrityError):
    sqlstate = "23502"


class ForeignKeyViolation(IntegrityError):
    sqlstate = "23503"


class UniqueViolation(IntegrityError):
    sqlstate = "23505"


class CheckViolation(IntegrityError):
    sqlstate = "23514"


# Class 25: transaction state
class InvalidTransactionState(Error):
    sqlstate = "25000"


class ActiveTransaction(InvalidTransactionState):
    sqlstate = "25001"


class NoActiveTransaction(InvalidTransactionState):
    sqlstate = "25P01"


class ReadOnlyTransaction(InvalidTransactionState):
    sqlstate = "25006"


class InFailedTransaction(InvalidTransactionState):
    sqlstate = "25P02"


class IdleInTransactionTimeout(InvalidTransactionState):
    sqlstate = "25P03"


# Class 26, 34: prepared statements and portals
class InvalidStatementName(Error):
    sqlstate = "26000"


class InvalidCursorName(Error):
    sqlstate = "34000"


class InvalidSavepoint(Error):
    sqlstate = "3B001"


# Class 28: authorization
class InvalidAuthorization(Error):
    sqlstate = "28000"


class InvalidPassword(InvalidAuthorization):
    sqlstate = "28P01"


class InsufficientPrivilege(Error):
    sqlstate = "42501"


class DependentObjectsExist(Error):
    sqlstate = "2BP01"


class InvalidCatalogName(Error):
    sqlstate = "3D000"


class InvalidSchemaName(Error):
    sqlstate = "3F000"


# Class 40: rollback
class SerializationFailure(Error):
    sqlstate = "40001"
    retryable = True


class DeadlockDetected(Error):
    sqlstate = "40P01"
    retryable = True


# Class 42: syntax and names
class SqlSyntaxError(Error):
    sqlstate = "42601"


class UndefinedTable(Error):
    sqlstate = "42P01"


class UndefinedColumn(Error):
    sqlstate = "42703"


class UndefinedFunction(Error):
    sqlstate = "42883"


class UndefinedObject(Error):
    sqlstate = "42704"


class UndefinedParameter(Error):
    sqlstate = "42P02"


class AmbiguousColumn(Error):
    sqlstate = "42702"


class AmbiguousParameter(Error):
    """A parameter that is used as two types."""

    sqlstate = "42P08"


class AmbiguousFunction(Error):
    sqlstate = "42725"


class DuplicateColumn(Error):
    sqlstate = "42701"


class DuplicateTable(Error):
    sqlstate = "42P07"


class DuplicateSchema(Error):
    sqlstate = "42P06"


class DuplicateObject(Error):
    sqlstate = "42710"


class DuplicateAlias(Error):
    sqlstate = "42712"


class DuplicatePreparedStatement(Error):
    sqlstate = "42P05"


class DuplicateCursor(Error):
    sqlstate = "42P03"


class GroupingError(Error):
    sqlstate = "42803"


class DatatypeMismatch(Error):
    sqlstate = "42804"


class WrongObjectType(Error):
    sqlstate = "42809"


class CannotCoerce(Error):
    sqlstate = "42846"


class InvalidColumnReference(Error):
    sqlstate = "42P10"


class InvalidTableDefinition(Error):
    sqlstate = "42P16"


class InvalidObjectDefinition(Error):
    sqlstate = "42P17"


class IndeterminateDatatype(Error):
    sqlstate = "42P18"


class InvalidParameterName(Error):
    sqlstate = "42602"


class NameTooLong(Error):
    sqlstate = "42622"


# Class 53, 54, 55, 57: resources, limits, state, intervention
class DiskFull(Error):
    sqlstate = "53100"


class OutOfMemory(Error):
    sqlstate = "53200"


class TooManyConnections(Error):
    sqlstate = "53300"


class ProgramLimitExceeded(Error):
    sqlstate = "54000"


class StatementTooComplex(ProgramLimitExceeded):
    sqlstate = "54001"


class ObjectNotInPrerequisiteState(Error):
    sqlstate = "55000"


class ObjectInUse(Error):
    sqlstate = "55006"


class DirectoryInUse(ObjectInUse):
    """Another process has the store's directory open."""


class CannotChangeNow(Error):
    """A setting that only another context may change."""

    sqlstate = "55P02"


class LockNotAvailable(Error):
    sqlstate = "55P03"


class QueryCanceled(Error):
    sqlstate = "57014"


class AdminShutdown(Error):
    sqlstate = "57P01"


class CannotConnectNow(Error):
    sqlstate = "57P03"


# Class 58, XX: the store itself
class StorageFailed(Error):
    """A write or fsync failed. Final: the store acknowledges nothing more until it is reopened (RELIABILITY R31)."""

    sqlstate = "58030"


class UndefinedFile(Error):
    sqlstate = "58P01"


class InternalError(Error):
    sqlstate = "XX000"


class DataCorrupted(Error):
    """Bytes on disk that do not pass their checksum or break an invariant; names file and offset."""

    sqlstate = "XX001"


class IndexCorrupted(DataCorrupted):
    sqlstate = "XX002"


class IncompatibleFormat(Error):
    """The directory was written by a format this version does not know."""

    sqlstate = "58P01"


def all_classes() -> list[type[Error]]:
    """Every class of the tree, the base first; read by the tests and by the ports' status mappings."""
    found: list[type[Error]] = []
    pending: list[type[Error]] = [Error]
    while pending:
        cls = pending.pop(0)
        found.append(cls)
        pending.extend(cls.__subclasses__())
    return found
