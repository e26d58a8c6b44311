"""HTTP requests that go where they were configured to go, and nowhere else."""

import urllib.request
from http.client import HTTPMessage
from typing import IO


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, for `urllib.request.build_opener`: one is an `HTTPError` with its status then.

    They could leave https, lead into the network that the process stands in, or take along what it logs in with.
    """

    def redirect_request(  # noqa: PLR0917 - the signature of urllib
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """See `urllib.request.HTTPRedirectHandler`; None makes the redirect an error."""
