"""`GET /v1/admin/stats`: what became of all events since the gateway started, for holders of the scope `clew.admin`."""

from gateway.admission import ADMIN_SCOPE, Admission
from gateway.credentials import read_credentials
from gateway.http.message import Handler, Request, Response, json_response
from gateway.stats import Stats


def stats_handler(admission: Admission, stats: Stats) -> Handler:
    """The handler of the stats endpoint."""

    async def handle(request: Request) -> Response:
        await admission.administrator(read_credentials(request.headers.get("authorization"), None), ADMIN_SCOPE)
        return json_response(200, stats.snapshot())

    return handle
