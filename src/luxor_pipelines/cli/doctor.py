"""`luxor doctor`: what is set, and whether the lake can be used from here."""

from __future__ import annotations

import platform
from dataclasses import asdict

import typer

from luxor_pipelines.cli.app import Lake, app, open_lake, prints_table
from luxor_pipelines.cli.output import Form, Grid, emit, note, print_grid, print_json, working
from luxor_pipelines.settings import Settings

__all__ = ["doctor"]


@app.command()
@prints_table
def doctor(form: Form, lake: Lake = None) -> None:
    """Check the settings, the lake and what a run needs of it.

    Lists the tables, then creates, reads, overwrites on condition and deletes a small file under system/doctor/.
    Exit code 1 when a check fails. Csv and workbooks have the checks.
    """
    from luxor_pipelines.operations.doctor import check_lake, versions

    origins = Settings.origins()
    packages = {"Python": platform.python_version(), **versions()}
    if not (form.json or form.one_table):
        chosen = [origin for origin in origins if origin.origin != "default"]
        emit("Versions: " + ", ".join(f"{name} {number}" for name, number in packages.items()))
        emit(f"System: {platform.platform()}\n")
        if chosen:
            rows = [(origin.variable, str(origin.value), origin.origin) for origin in chosen]
            print_grid(Grid(("Setting", "Value", "From"), rows), form)
        emit(f"{len(origins) - len(chosen)} of {len(origins)} settings have their defaults.\n")
    opened = open_lake(lake)
    with working("Checking the lake"):
        checks = list(check_lake(opened))
    failed = sum(check.outcome == "failed" for check in checks)
    if form.json:
        print_json(
            {
                "versions": packages,
                "system": platform.platform(),
                "settings": [origin._asdict() for origin in origins],
                "lake": opened.url,
                "identity": opened.storage.identity,
                "checks": [asdict(check) for check in checks],
            }
        )
    else:
        if not form.one_table:
            emit(f"Lake: {opened.url}\nIdentity: {opened.storage.identity}\n")
        results = [(check.name, check.outcome, check.detail or None) for check in checks]
        status, folded = frozenset({"Outcome"}), frozenset({"Detail"})
        print_grid(Grid(("Check", "Outcome", "Detail"), results, status=status, folded=folded), form)
        for hint in dict.fromkeys(check.hint for check in checks if check.hint):
            note(hint)
    if failed:
        raise typer.Exit(1)
