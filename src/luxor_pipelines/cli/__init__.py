"""The command line, ``luxor``: thin over runs, query and ingest.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the run or check failed,
2 usage, 3 configuration or credentials, 4 conflict (try again), 130 interrupted.

Nothing heavy is imported here or beside the commands: each command imports what it needs, so that
``luxor --help`` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.models import CommandInfo

from luxor_pipelines.cli import doctor, files, pipelines, show, upkeep  # noqa: F401 - which puts them into the app
from luxor_pipelines.cli.app import app, exit_code
from luxor_pipelines.cli.output import prepare_streams, print_json, tell_error
from luxor_pipelines.errors import LuxorError, UsageError, redact

__all__ = ["app", "main"]

_ORDER = (
    *("run", "list", "runs", "status", "retry", "backfill", "unlock"),
    *("tables", "show", "returns", "find", "sql", "describe"),
    *("init", "put", "inspect", "load"),
    *("check", "optimize", "add-column", "drop-column", "archive", "restore", "doctor", "demo"),
)
"""The commands as ``luxor --help`` lists them: pipelines, what tables hold, files, upkeep."""


def _place(command: CommandInfo) -> int:
    name = command.name or getattr(command.callback, "__name__", "")
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


app.registered_commands.sort(key=_place)

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130
_GLOBAL = ("--debug", "--verbose", "-v", "--quiet", "-q")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``luxor`` with these arguments (default: the process's) and return the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    # "run it with --debug" is what the error message says, and at the end is where one adds it.
    args = [arg for arg in args if arg in _GLOBAL] + [arg for arg in args if arg not in _GLOBAL]
    prepare_streams()
    try:
        code = app(args=args, prog_name="luxor", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except SystemExit as end:  # the process was told to end while a run was under way
        if end.code == 0:  # or the shell has its completions
            return 0
        tell_error(f"Error: {end}")
        return end.code if isinstance(end.code, int) else _FAILED
    except Exception as error:  # noqa: BLE001 - the one place where all errors end, with their exit code
        if isinstance(error, ValueError) and "null byte" in str(error):  # older parsers ask the disk for such a file
            error = UsageError("An argument holds a null byte.", hint="No file's name may; leave it out.")
        return _fail(error, as_json="--json" in args, debug="--debug" in args)
    if code == _INTERRUPTED:  # older versions of typer raise, newer ones return it
        tell_error("Interrupted.")
    return code if isinstance(code, int) else 0


def _fail(error: Exception, *, as_json: bool, debug: bool) -> int:
    """Tell what went wrong, on stderr and with ``--json`` on stdout too; return the exit code."""
    if debug:
        tell_error(redact("".join(traceback.format_exception(error)).rstrip()))
    code, hint = _FAILED, ""
    if isinstance(error, LuxorError):
        code, message, hint = exit_code(error), error.message, error.hint
        tell_error(f"Error: {message}" + (f"\n{hint}" if hint else ""))
    elif hasattr(error, "show") and hasattr(error, "format_message"):  # typer's own, of its command-line parser
        refused: Any = error
        if isinstance(getattr(error, "message", None), str):
            refused.message = refused.message.removeprefix("Value error, ")  # pydantic's, in newer versions of typer
        code, message = int(getattr(error, "exit_code", _USAGE)), error.format_message()
        error.show()
    else:
        message = redact(f"{type(error).__name__}: {' '.join(str(error).split())}")
        tell_error(f"Unexpected {message}" + ("" if debug else " (run with --debug for the traceback)"))
    if as_json:
        print_json({"error": {"class": type(error).__name__, "message": message, "hint": hint}})
    return code
