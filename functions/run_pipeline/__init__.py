"""POST /api/pipelines/{name}/runs with {"ref_date": "2026-10-31"}: run a pipeline by hand, at once or queued."""

import azure.functions as func

from luxor_pipelines import hosting
from run_pipeline.run_pipeline import run


def main(req: func.HttpRequest, message: func.Out[str], context: func.Context) -> func.HttpResponse:
    """Answer with the run's record."""
    return hosting.post_run(req, message, run, context)
