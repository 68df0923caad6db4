"""GET /api/runs/{pipeline}/{run}: how a run is going, or how it ended."""

import azure.functions as func

from luxor_pipelines import hosting


def main(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the run's record."""
    return hosting.get_run(req)
