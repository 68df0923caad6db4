"""The application of the command line: its options for every command, and how a lake is opened."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from luxor_pipelines import __version__
from luxor_pipelines.cli.output import configure_logging, emit
from luxor_pipelines.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    LuxorError,
    UnreachableError,
    UsageError,
)
from luxor_pipelines.settings import Settings
from luxor_pipelines.telemetry import configure_azure_monitor, triggered_by

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = [
    "Csv",
    "Json",
    "Lake",
    "Yes",
    "app",
    "checked_lake",
    "confirmed",
    "exit_code",
    "files",
    "one_of",
    "open_lake",
]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, and a quarter of the time
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        # Without it newer versions of typer import pydantic to read --help, as long again as `list` takes.
        "default_map": {"help": False, "list": {"help": False}},
    },
)

Lake = Annotated[
    str | None,
    typer.Option(
        "--lake",
        metavar="URL",
        help="The lake: abfss://container@account.dfs.core.windows.net, file:///folder or a folder. "
        "Default: LUXOR_LAKE_URL, else AZURE_STORAGE_CONNECTION_STRING.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print csv.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _version(wanted: bool) -> None:
    if wanted:
        emit(f"luxor-pipelines {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything; show tracebacks.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is being done.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The pipelines of the data lake, and its tables.

    Data is printed on stdout, logs on stderr. Exit codes: 0 done, 1 the run or check failed, 2 usage,
    3 configuration or credentials, 4 conflict (try again), 130 interrupted.
    """
    configure_logging(debug=debug, verbose=verbose)
    context.with_resource(triggered_by("cli"))
    if Settings.read("telemetry") == "azure":
        configure_azure_monitor()


def open_lake(lake: str | None) -> LuxorQuery:
    """The lake that ``--lake`` names, else the environment."""
    from luxor_pipelines.query.luxor_query import LuxorQuery

    return LuxorQuery(lake=checked_lake(lake))


def checked_lake(lake: str | None) -> str | None:
    """What ``--lake`` says; an empty one is refused, since the environment would be taken for it."""
    if lake is not None and not lake.strip():
        raise ConfigurationError(
            "--lake is empty.", hint="Give a URL or a folder; was it meant to come from a variable that is not set?"
        )
    return lake


def one_of(json: bool, csv: bool) -> None:
    """Refuse two ways of printing at once."""
    if json and csv:
        raise UsageError("Both --json and --csv are given.", hint="Give one of them.")


def confirmed(question: str, *, yes: bool, what: str) -> bool:
    """Whether ``--yes`` is given or the person at the terminal says so; without either, a `UsageError`."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{what} needs a yes, and there is no one to ask.", hint="Add --yes.")
    return typer.confirm(question, err=True)


def files(count: int) -> str:
    """So many files, in words."""
    return "1 file" if count == 1 else f"{count} files"


def exit_code(error: LuxorError) -> int:
    """The exit code of the command that ends in an error."""
    if isinstance(error, UsageError):
        return 2
    if isinstance(error, ConfigurationError | AccessError | UnreachableError):
        return 3
    return 4 if isinstance(error, ConflictError) else 1
