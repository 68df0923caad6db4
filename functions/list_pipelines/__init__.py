"""GET /api/pipelines: every pipeline with its last run."""

import azure.functions as func

from luxor_pipelines import hosting


def main(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the list."""
    return hosting.get_pipelines(req)
