"""The application of the command line: its options for every command, and how a lake is opened."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from inspect import Signature, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luxor_pipelines import __version__
from luxor_pipelines.cli.output import Form, configure_logging, counted, emit
from luxor_pipelines.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    UnreachableError,
    UsageError,
)
from luxor_pipelines.settings import Settings
from luxor_pipelines.telemetry import configure_azure_monitor, triggered_by

if TYPE_CHECKING:
    from luxor_pipelines.lake.lake import Lake as OpenLake
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = [
    "Json",
    "Lake",
    "Wide",
    "Yes",
    "app",
    "checked_lake",
    "complete_pipelines",
    "complete_tables",
    "confirmed",
    "exit_code",
    "files",
    "open_lake",
    "open_query",
    "prints_table",
]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, and a quarter of the time
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        # Without it newer versions of typer import pydantic to read --help, as long again as `list` takes.
        "default_map": dict.fromkeys(("help", "install_completion", "show_completion"), False)
        | {"list": {"help": False}},
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
Wide = Annotated[bool, typer.Option("--wide", help="Show all columns and whole values, on a terminal too.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _version(show: bool) -> None:
    if show:
        emit(f"luxor-pipelines {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything; show tracebacks.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is being done.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell nothing but data and errors.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The pipelines of the data lake, and its tables.

    Data is printed on stdout, logs on stderr. Exit codes: 0 done, 1 the run or check failed, 2 usage,
    3 configuration or credentials, 4 conflict (try again), 130 interrupted.
    """
    configure_logging(debug=debug, verbose=verbose, quiet=quiet)
    context.with_resource(triggered_by("cli"))
    if Settings.read("telemetry") == "azure":
        configure_azure_monitor()


def open_lake(lake: str | None) -> OpenLake:
    """Return the lake that ``--lake`` names, else the environment."""
    from luxor_pipelines.operations.records import opened

    return opened(checked_lake(lake))


def open_query(lake: str | None) -> LuxorQuery:
    """Return a query of the lake that ``--lake`` names, else the environment."""
    from luxor_pipelines.query.luxor_query import LuxorQuery  # brings pandas

    return LuxorQuery(lake=checked_lake(lake))


def checked_lake(lake: str | None) -> str | None:
    """Return the value of ``--lake``; refuse an empty one, in whose place the environment's lake would be used."""
    if lake is not None and not lake.strip():
        raise ConfigurationError(
            "--lake is empty.", hint="Give a URL or a folder; was it meant to come from a variable that is not set?"
        )
    return lake


def _form(
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print csv.")] = False,
    xlsx: Annotated[str | None, typer.Option("--xlsx", metavar="FILE", help="Write an Excel workbook instead.")] = None,
    wide: Wide = False,
    sep: Annotated[str, typer.Option("--sep", metavar="CHARACTER", help="The separator of cells in csv.")] = ",",
    decimal: Annotated[str, typer.Option("--decimal", metavar="CHARACTER", help="The decimal sign in csv.")] = ".",
    bom: Annotated[bool, typer.Option("--bom", help="Begin csv with a byte-order mark, as Excel likes it.")] = False,
) -> Form:
    # A tab is hard to type in a shell.
    return Form(json=json, csv=csv, xlsx=xlsx, wide=wide, sep=sep.replace("\\t", "\t"), decimal=decimal, bom=bom)


def prints_table(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the form that a table is printed in; it gets them as ``form``."""
    own = [option for option in signature(command, eval_str=True).parameters.values() if option.name != "form"]
    common = list(signature(_form, eval_str=True).parameters.values())

    def run(**options: Any) -> None:
        form = _form(**{option.name: options.pop(option.name) for option in common})
        command(**options, form=form)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    parameters = [option.replace(kind=option.KEYWORD_ONLY) for option in (*own, *common)]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in parameters}
    return run


def complete_pipelines(incomplete: str) -> list[str]:
    """Return the pipelines whose names begin so, for the shell."""
    from luxor_pipelines.operations.discovery import find_pipelines

    return _completions(find_pipelines, incomplete)


def complete_tables(context: typer.Context, incomplete: str) -> list[str]:
    """Return the tables whose names begin so, for the shell: of ``--lake`` if given, else of the environment's lake."""
    return _completions(lambda: open_lake(context.params.get("lake")).tables(), incomplete)


def _completions(names: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    logging.disable()  # what goes wrong would be written into the line that somebody is typing
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - nothing is then completed
        return []
    finally:
        logging.disable(logging.NOTSET)


def confirmed(question: str, *, yes: bool, action: str) -> bool:
    """Return whether ``--yes`` is given, or the person at the terminal confirms.

    Raises
    ------
    UsageError
        There is neither.
    """
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{action} needs a yes, and there is no one to ask.", hint="Add --yes.")
    return typer.confirm(question, err=True)


def files(count: int) -> str:
    """Return a number of files in words."""
    return counted(count, "file")


def exit_code(error: Exception) -> int:
    """Return the exit code of the command that ends in an error."""
    if isinstance(error, UsageError):
        return 2
    if isinstance(error, ConfigurationError | AccessError | UnreachableError):
        return 3
    return 4 if isinstance(error, ConflictError) else 1
