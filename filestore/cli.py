"""The command line: `filestore serve | shell | import | export | check | warm | demo | bench | version`.

Everything heavy is imported by the command that needs it. Results go to standard output, everything else to
standard error; an error is shown with its SQLSTATE, the place in the statement, detail and hint. Exit codes: 0
done, 1 refused or failed (or nobody reads standard output any more), 2 wrong usage, 130 interrupted. What only reads
makes no directory.

Thread rule: the main thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from filestore import __version__
from filestore.server.options import ServeOptions

if TYPE_CHECKING:
    from filestore.dbapi import Connection, Cursor
    from filestore.query.statements import Name

OK: Final = 0
FAILED: Final = 1
DEFAULTS: Final = ServeOptions()

app = typer.Typer(
    name="filestore",
    help="One store for transactions and analytics: SQL tables in a directory, embedded or served.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Directory = Annotated[str, typer.Argument(metavar="DIR", help="The directory of the tables; made when it is missing.")]
ExistingDirectory = Annotated[str, typer.Argument(metavar="DIR", help="The directory of the tables.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    code = OK
    try:
        app(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else FAILED
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # as `| head` does; typer has looked after all that was written before
        from filestore.hal import process

        process.discard_output()
        code = code or FAILED
    return code


# --- servers ----------------------------------------


@app.command()
def serve(
    directory: Directory,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs a password.")] = DEFAULTS.host,
    port: Annotated[int, typer.Option(help="PostgreSQL protocol; 0 takes a free port.")] = DEFAULTS.port,
    flight_port: Annotated[
        int, typer.Option(help="Arrow Flight; 0 takes a free port, -1 leaves it out.")
    ] = DEFAULTS.flight_port,
    grpc_port: Annotated[int, typer.Option(help="gRPC; 0 takes a free port, -1 leaves it out.")] = DEFAULTS.grpc_port,
    tls_cert: Annotated[str | None, typer.Option(metavar="FILE", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    password_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Password of the user postgres; or set FILESTORE_PASSWORD.")
    ] = None,
    connections: Annotated[
        int, typer.Option(help="Sessions at a time on the PostgreSQL port.")
    ] = DEFAULTS.connections,
    grace: Annotated[
        float, typer.Option(help="Seconds that running statements get after SIGTERM.")
    ] = DEFAULTS.grace_seconds,
) -> None:
    """Serves a directory over the PostgreSQL protocol, Arrow Flight and gRPC until SIGTERM."""
    from filestore.server.serve import serve as run

    options = ServeOptions(host, port, flight_port, grpc_port, tls_cert, tls_key, password_file, connections, grace)
    raise typer.Exit(run(directory, options))


@app.command()
def warm() -> None:
    """Compiles the kernels into the cache, so that the first start is a fast one."""
    from filestore.warm import warm as compile_kernels

    began = time.monotonic()

    def progress(done: int, of: int, name: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{done}/{of} {name}")
            sys.stderr.flush()

    compile_kernels(progress)
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    print(f"kernels ready in {time.monotonic() - began:.1f} s")


@app.command()
def demo(keep: Annotated[bool, typer.Option("--keep", help="Leave the data directory behind.")] = False) -> None:
    """Real flights, six questions, a kill -9, and nothing lost."""
    try:
        from filestore.demo import main as show

        code = show(["--keep"] if keep else [])
    except ModuleNotFoundError as error:
        fail(f"the demo needs {error.name}", hint="pip install 'filestore[demo]'")
    raise typer.Exit(code)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(context: typer.Context) -> None:
    """Figures beside PostgreSQL, DuckDB and SQLite; runs in a checkout."""
    import importlib

    try:
        run = importlib.import_module("bench.__main__")
    except ModuleNotFoundError as error:
        if error.name not in ("bench", "bench.__main__"):
            fail(f"the benchmark needs {error.name}", hint="make bench installs what it needs")
        fail("the benchmark is not part of the installed package", hint="Run `make bench` in a checkout of FileStore.")
    sys.argv[1:] = context.args
    raise typer.Exit(run.main())


@app.command()
def version() -> None:
    """Shows the version."""
    print(f"filestore {__version__}")


# --- data in and out ----------------------------------------


@app.command("import")
def import_files(
    directory: Directory,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Parquet or CSV files, the latter with a header.")
    ],
    table: Annotated[str, typer.Option(help="The table; made from the first file's columns when it is missing.")],
    null: Annotated[str, typer.Option(help="What stands for null in CSV files.")] = "",
) -> None:
    """Loads Parquet and CSV files into a table, all of them or none."""
    from filestore.identifiers import quote_literal

    name = table_name(table)
    if name is None:
        fail(f"{table}: not the name of a table", hint="""A name with blanks or dots in it is quoted: '"my table"'.""")
    for file in files:
        if not file.is_file():
            fail(f"{file}: there is no such file")
        parquet(file)
    with session(directory) as connection:
        make_table(connection, name, files[0], null)
        rows = 0
        for file in files:
            options = "FORMAT parquet" if parquet(file) else f"FORMAT csv, HEADER true, NULL {quote_literal(null)}"
            source = quote_literal(str(file.resolve()))
            cursor = connection.execute(f"COPY {written(name)} FROM {source} ({options})")
            rows += cursor.rowcount
        connection.commit()
        print(f"{rows} rows into {written(name)}")


@app.command()
def export(
    directory: ExistingDirectory,
    source: Annotated[str, typer.Argument(metavar="TABLE|QUERY", help="A table, or a query in quotes.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .parquet or .csv.")],
) -> None:
    """Writes a table or the rows of a query into a Parquet or CSV file."""
    from filestore.identifiers import quote_literal

    name = table_name(source)
    what = f"({source.strip().rstrip(';')})" if name is None else written(name)
    options = "FORMAT parquet" if parquet(file) else "FORMAT csv, HEADER true"
    demand_store(directory)
    with session(directory) as connection:
        cursor = connection.execute(f"COPY {what} TO {quote_literal(str(file.resolve()))} ({options})")
        print(f"{cursor.rowcount} rows into {file}")


@app.command()
def check(directory: ExistingDirectory) -> None:
    """Verifies every checksum, table and index of a directory; exit code 1 when something is wrong.

    The files are verified first, as they are; only when they are sound is the directory opened, which recovers it.
    """
    from filestore import errors
    from filestore.hal import open_filesystem
    from filestore.storage.verify import verify_directory

    demand_store(directory)
    files = open_filesystem(str(directory))
    try:
        lock = files.lock()
    except errors.DirectoryInUse as error:
        fail(f"{error.sqlstate}: {error.message}", hint=error.hint)
    try:
        findings = verify_directory(files)
    finally:
        lock.release()
    if not findings:
        with session(directory) as connection:
            findings = connection.session.database.engine.check()
    for finding in findings:
        print(f"{finding.file}: {finding.problem}")
    if findings:
        fail(
            f"{len(findings)} {'finding' if len(findings) == 1 else 'findings'} in {directory}",
            hint="Copy the directory away before anything else is done to it.",
        )
    print(f"{directory} is sound")


def demand_store(directory: str) -> None:
    """Ends the command when a directory holds no tables: opening it would make an empty store in the wrong place."""
    from filestore.storage.layout import LOG_DIR, MANIFEST_FILE

    place = Path(directory)
    if not place.is_dir():
        fail(f"{directory}: there is no such directory")
    if not any((place / name).exists() for name in (MANIFEST_FILE, LOG_DIR)):
        fail(f"{directory}: there are no tables here", hint="`import`, `shell` and `serve` make a directory.")


def parquet(file: Path) -> bool:
    """Whether a file is Parquet by its name; the command ends when it is neither Parquet nor CSV."""
    kind = file.suffix.lower()
    if kind not in (".parquet", ".pq", ".csv", ".tsv", ".txt"):
        fail(f"{file}: neither Parquet nor CSV by its name", hint="Name it .parquet or .csv.")
    return kind in (".parquet", ".pq")


def table_name(text: str) -> Name | None:
    """The table that a text names as SQL would: folded or quoted, with a schema or without. None when it is no name."""
    from filestore import errors
    from filestore.query.lexer import tokens
    from filestore.query.names import unquote
    from filestore.query.statements import Name

    try:
        found = tokens(text)
    except errors.SqlSyntaxError:
        return None
    names = [unquote(token.text) for token in found if token.kind in ("word", "quoted")]
    if [token.text for token in found if token.kind not in ("word", "quoted")] != ["."] * (len(names) - 1):
        return None
    if len(found) == 1:
        return Name(None, names[0])
    return Name(names[0], names[1]) if len(found) == 3 and found[1].text == "." else None


def written(name: Name) -> str:
    """A table's name as SQL."""
    from filestore.identifiers import quote_ident

    return ".".join(quote_ident(part) for part in (name.schema, name.name) if part is not None)


def make_table(connection: Connection, name: Name, file: Path, null: str) -> None:
    """Makes the table from a file's columns, unless it is there."""
    import pyarrow.csv
    import pyarrow.parquet

    from filestore.identifiers import quote_ident
    from filestore.query.arrow import sql_type

    with connection.session.database.lock:
        if connection.session.catalog().table(name.schema, name.name) is not None:
            return
    if parquet(file):
        columns = pyarrow.parquet.read_schema(file)
    else:
        convert = pyarrow.csv.ConvertOptions(null_values=[null], strings_can_be_null=True)
        with pyarrow.csv.open_csv(file, convert_options=convert) as reader:
            columns = reader.schema
    listed = ", ".join(f"{quote_ident(field.name)} {sql_type(field.type)}" for field in columns)
    connection.execute(f"CREATE TABLE {written(name)} ({listed})")
    sys.stderr.write(f"CREATE TABLE {written(name)} ({listed})\n")


# --- the shell ----------------------------------------


@app.command()
def shell(
    directory: Directory,
    command: Annotated[list[str] | None, typer.Option("-c", metavar="SQL", help="Runs this and ends.")] = None,
    file: Annotated[list[Path] | None, typer.Option("-f", metavar="FILE", help="Runs a file and ends.")] = None,
) -> None:
    r"""A small psql over a directory: SQL that ends in a semicolon, \? for the rest. Reads standard input when that
    is no terminal.
    """
    with session(directory) as connection:
        connection.autocommit = True
        loop = Shell(connection, timing=False)
        if command or file:
            for text in command or ():
                loop.run_all(text if text.lstrip().startswith("\\") else text + "\n;")
            for path in file or ():
                loop.include(str(path))
        elif sys.stdin.isatty():
            loop.interactive = True
            loop.talk()
        else:
            loop.run_all(sys.stdin.read() + "\n;")
        code = FAILED if loop.failed else OK
    raise typer.Exit(code)


class Shell:
    """The loop of `filestore shell`. `failed` says whether a statement failed."""

    HELP = r"""\d [TABLE]  tables, or one table's columns    \dt     tables
\i FILE     runs a file                        \timing shows how long statements take
\q          ends                               \?      this"""

    def __init__(self, connection: Connection, *, timing: bool) -> None:
        self.connection = connection
        self.timing = timing
        self.interactive = False
        self.failed = False
        self.ended = False

    def talk(self) -> None:
        """Reads from the terminal until \\q or the end of input."""
        with_history()
        print(f"filestore {__version__}: \\? for help, \\q to end")
        text = ""
        while not self.ended:
            try:
                line = input("filestore=> " if not text else "filestore-> ")
            except KeyboardInterrupt:
                print()
                text = ""
                continue
            except EOFError:
                print()
                return
            text = self.take(text + line + "\n")

    def run_all(self, text: str) -> None:
        """Runs every statement and command of a text; stops at the first that fails."""
        waiting = ""
        for line in text.splitlines(keepends=True):
            waiting = self.take(waiting + line)
            if self.failed or self.ended:
                return

    def take(self, text: str) -> str:
        """Runs what is complete in a text and returns the rest."""
        if text.lstrip().startswith("\\"):
            self.command(text.strip())
            return ""
        complete, rest = split_complete(text)
        for statement in complete:
            self.statement(statement)
            if self.failed and not self.interactive:
                return ""
        return rest

    def command(self, line: str) -> None:
        """Runs a backslash command."""
        name, _, argument = line.partition(" ")
        argument = argument.strip().rstrip(";")
        match name:
            case "\\q":
                self.ended = True
            case "\\?":
                print(self.HELP)
            case "\\timing":
                self.timing = not self.timing
                print(f"Timing is {'on' if self.timing else 'off'}.")
            case "\\i":
                self.include(argument)
            case "\\d" if argument:
                self.describe(argument)
            case "\\d" | "\\dt":
                self.tables()
            case _:
                self.complain(f"unknown command {name}", "\\? shows what there is.")

    def include(self, path: str) -> None:
        """Runs a file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.complain(f"{path}: {getattr(error, 'strerror', None) or error}")
            return
        self.run_all(text + "\n;")

    def complain(self, message: str, hint: str | None = None) -> None:
        sys.stderr.write(f"ERROR:  {message}\n" + (f"HINT:  {hint}\n" if hint else ""))
        self.failed = True

    def statement(self, sql: str) -> None:
        """Runs one statement and shows its rows or its tag."""
        from filestore.dbapi import Error

        began = time.monotonic()
        try:
            cursor = self.connection.executescript(sql)
            if cursor.description is not None:
                show(cursor)
            elif cursor.statusmessage:
                print(cursor.statusmessage)
        except Error as error:
            sys.stderr.write(explained(error, sql))
            self.failed = True
        except KeyboardInterrupt:
            sys.stderr.write("ERROR:  57014: canceling statement due to user request\n")
            self.failed = True
        for notice in self.connection.notices:
            sys.stderr.write(notice + "\n")
        if self.timing:
            print(f"Time: {(time.monotonic() - began) * 1000:.3f} ms")

    def tables(self) -> None:
        """\\dt: every table with its rows."""
        database = self.connection.session.database
        with database.lock:
            found = sorted(database.engine.registry.tables(), key=lambda t: (t.schema, t.name))
            stored = database.engine.tables
            rows = [
                (t.schema, t.name, str(stored[t.storage_id].live_rows) if t.storage_id in stored else "damaged")
                for t in found
            ]
        boxed(("Schema", "Name", "Rows"), rows)

    def describe(self, name: str) -> None:
        """\\d TABLE: its columns, keys and checks."""
        named = table_name(name)
        with self.connection.session.database.lock:
            table = None if named is None else self.connection.session.catalog().table(named.schema, named.name)
        if table is None:
            self.complain(f'42P01: relation "{name}" does not exist')
            return
        print(f'Table "{table.qualified_name}"')
        boxed(
            ("Column", "Type", "Nullable", "Default"),
            [(c.name, str(c.type), "not null" if c.not_null else "", c.default or "") for c in table.columns],
        )
        for key in table.keys:
            columns = ", ".join(table.columns[i].name for i in key.columns)
            print(f'    "{key.name}" {"PRIMARY KEY" if key.primary else "UNIQUE"} ({columns})')
        for constraint in table.checks:
            print(f'    "{constraint.name}" CHECK ({constraint.expression})')


def with_history() -> None:
    """Line editing, where Python has it."""
    try:
        import readline
    except ImportError:
        return
    readline.parse_and_bind("tab: self-insert")


def split_complete(text: str) -> tuple[list[str], str]:
    """(statements that a semicolon ends, the rest). A quote or comment that is still open belongs to the rest."""
    from filestore import errors
    from filestore.query.lexer import tokens

    try:
        found = tokens(text)
    except errors.SqlSyntaxError as error:
        if "unterminated" in error.message:
            return [], text
        return [text], ""
    complete, low = [], 0
    for token in found:
        if token.kind == "punct" and token.text == ";":
            statement = text[low : token.end]
            if statement.strip(" \t\n;"):
                complete.append(statement.strip())
            low = token.end
    rest = text[low:]
    return complete, rest if rest.strip() else ""


def show(cursor: Cursor) -> None:
    """Prints a result as a table; values as PostgreSQL writes them, null as nothing."""
    from filestore.query.literals import format_literal
    from filestore.query.render import canonical

    assert cursor.description is not None
    names = [column[0] for column in cursor.description]
    settings = cursor.connection.session.settings
    rows: list[tuple[str, ...]] = []
    for batch in cursor.batches():
        columns = [
            ["" if value is None else format_literal(column.type, value, settings) for value in canonical(column)]
            for column in batch.columns
        ]
        rows.extend(zip(*columns, strict=True) if columns else [()] * batch.length)
    boxed(names, rows)
    print(f"({len(rows)} row{'' if len(rows) == 1 else 's'})")


def boxed(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows in a box. Control characters are shown escaped, so that a value cannot steer the terminal."""
    shown = [[clean(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in shown), 1) for i, name in enumerate(names)]
    numeric = [bool(shown) and all(number(row[i]) for row in shown) for i in range(len(names))]

    def line(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + right

    def row_of(values: Sequence[str], right: Sequence[bool]) -> str:
        cells = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "│ " + " │ ".join(cells) + " │"

    print(line("┌", "┬", "┐"))
    print(row_of(names, [False] * len(names)))
    print(line("├", "┼", "┤"))
    for row in shown:
        print(row_of(row, numeric))
    print(line("└", "┴", "┘"))


def clean(value: str) -> str:
    """A value without control characters."""
    return value if value.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)


def number(value: str) -> bool:
    return not value or value.lstrip("-").replace(".", "", 1).isdigit()


# --- errors ----------------------------------------


@contextmanager
def session(directory: str) -> Iterator[Connection]:
    """An embedded connection; an error ends the command with exit code 1."""
    from filestore.dbapi import Error, connect

    try:
        with connect(directory, application_name="filestore") as connection:
            yield connection
    except Error as error:
        sys.stderr.write(explained(error))
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"{directory}: {error.strerror or error}")


def explained(error: Any, sql: str = "") -> str:
    """An error as psql shows it, with its SQLSTATE and the place in the statement."""
    message = error.args[0] if error.args else type(error).__name__
    lines = [f"ERROR:  {error.sqlstate}: {message}" if error.sqlstate else f"ERROR:  {message}"]
    if sql and error.position:
        start = sql.rfind("\n", 0, error.position - 1) + 1
        end = sql.find("\n", start)
        head = f"LINE {sql.count(chr(10), 0, start) + 1}: "
        lines += [head + sql[start : end if end >= 0 else None], " " * (len(head) + error.position - 1 - start) + "^"]
    lines += [f"DETAIL:  {error.detail}"] if error.detail else []
    lines += [f"HINT:  {error.hint}"] if error.hint else []
    lines += [f"CONTEXT:  {error.context}"] if error.context else []
    return "\n".join(lines) + "\n"


def fail(message: str, *, hint: str | None = None) -> NoReturn:
    """Says what is wrong on standard error and ends the command with exit code 1."""
    sys.stderr.write(f"filestore: {message}\n" + (f"hint: {hint}\n" if hint else ""))
    raise typer.Exit(FAILED)


if __name__ == "__main__":
    sys.exit(main())
