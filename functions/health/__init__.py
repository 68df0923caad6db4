"""GET /api/health, without a key: whether the lake can be reached, and which version runs."""

import azure.functions as func

from luxor_pipelines import hosting


def main(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 200 or 503."""
    return hosting.get_health(req)
