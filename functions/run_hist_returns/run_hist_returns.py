"""The steps of this function, in order: a step runs when the one above it is done."""

import luxor_pipelines


def run() -> list[luxor_pipelines.RunReport]:
    """Run the months after the last stored one; a further step is added to the list."""
    return [
        *luxor_pipelines.catch_up("hist_returns", if_running="wait"),
    ]
