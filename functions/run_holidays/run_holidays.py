"""The steps of this function, in order: a step runs when the one above it is done."""

import luxor_pipelines


def run() -> list[luxor_pipelines.RunReport]:
    """Run the steps; a further one is a further line."""
    return [
        luxor_pipelines.run("holidays", if_running="wait"),
    ]
