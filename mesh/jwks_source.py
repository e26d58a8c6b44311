"""Where an issuer's keys come from: given once, or fetched off the event loop, kept, and renewed when they change."""

import asyncio
import contextvars
import time
import urllib.request
from collections.abc import Awaitable, Callable
from http.client import HTTPResponse
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import structlog

from mesh.jwks import JwksDocument, KeySet, parse_jwks
from mesh.no_redirects import NoRedirects

Fetch = Callable[[], Awaitable[JwksDocument]]

_MAX_DOCUMENT_BYTES: Final = 256 * 1024
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_FETCH_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 16 * 1024

_log = structlog.get_logger()


class JwksSource:
    """An issuer's current keys.

    Fails towards the keys it has: when a fetch fails, the last good set stays. An unknown key id makes it fetch, but at
    most once in `min_interval_seconds`, so that made-up key ids cannot turn into load on the issuer. Belongs to one
    event loop.

    Args:
        fetch: Gets the key set document; None when the keys never change.
        keys: The keys to begin with.
        name: What the log calls the issuer.
        min_interval_seconds: The least time between two fetches.
        max_age_seconds: Keys older than this are fetched again in the background when the next token comes: how long a
            withdrawn key lives on.
    """

    def __init__(
        self,
        fetch: Fetch | None,
        *,
        keys: KeySet | None = None,
        name: str = "issuer",
        min_interval_seconds: float = 10.0,
        max_age_seconds: float = 300.0,
    ) -> None:
        self._fetch = fetch
        self._keys = keys or KeySet()
        self._name = name
        self._min_interval = min_interval_seconds
        self._max_age = max_age_seconds
        self._attempted = float("-inf")
        self._succeeded = float("-inf")
        self._failing = False
        self._running: asyncio.Task[bool] | None = None

    @classmethod
    def fixed(cls, document: JwksDocument) -> "JwksSource":
        """A source of keys that never change; JwksError when the document holds none."""
        return cls(None, keys=parse_jwks(document))

    @classmethod
    def from_url(cls, url: str, *, min_interval_seconds: float = 10.0, max_age_seconds: float = 300.0) -> "JwksSource":
        """A source that fetches a URL in a thread; ValueError when the URL is neither https nor on this machine."""
        fetch = fetch_url(url)
        return cls(fetch, name=url, min_interval_seconds=min_interval_seconds, max_age_seconds=max_age_seconds)

    @property
    def keys(self) -> KeySet:
        """The last good keys; empty when none could be had yet. A new object whenever they changed."""
        return self._keys

    @property
    def failing(self) -> bool:
        """Whether the last fetch failed: which keys the issuer has published by now is unknown."""
        return self._failing

    async def refresh(self) -> bool:
        """Fetch the keys, once for all who ask meanwhile, unless that was tried just now. Whether they were fetched."""
        if self._running is None:
            if self._fetch is None or time.monotonic() - self._attempted < self._min_interval:
                return False
            self._running = self._start(self._fetch)
        # A caller that gives up must not stop the fetch that others wait for.
        return await asyncio.shield(self._running)

    def refresh_if_old(self) -> None:
        """Start a fetch in the background when the keys are older than their maximum age. Needs a running loop."""
        now = time.monotonic()
        due = now - self._succeeded >= self._max_age and now - self._attempted >= self._min_interval
        if self._fetch is not None and self._running is None and due:
            self._running = self._start(self._fetch)

    def _start(self, fetch: Fetch) -> "asyncio.Task[bool]":
        # All who wait share the fetch: it must have neither the deadline nor the trace of the request that came first.
        return asyncio.create_task(self._renew(fetch), context=contextvars.Context())

    async def _renew(self, fetch: Fetch) -> bool:
        self._attempted = time.monotonic()
        try:
            fetched = parse_jwks(await fetch())
        except Exception as error:  # noqa: BLE001 - whatever a fetch fails with, the keys at hand stay good
            _log.warning("keys could not be fetched", issuer=self._name, kept=len(self._keys.keys), error=str(error))
            self._failing = True
            return False
        finally:
            self._running = None
        self._succeeded = time.monotonic()
        self._failing = False
        if fetched != self._keys:
            self._keys = fetched
        return True


def fetch_url(url: str, *, seconds: float = _FETCH_SECONDS) -> Fetch:
    """A fetch of a URL, in a thread, of at most 256 KiB within a time, without redirects.

    The configured URLs are all that the process fetches: what a token or a client says only chooses among them. An
    https URL may lead to a private address, for an issuer may stand in the same network.

    Raises:
        ValueError: The URL is neither https nor http to this machine: whoever can change the answer can forge tokens.
            Or it holds a password, which would stand in logs.
    """
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise ValueError(f"key set URL {url!r} must be https, or http on this machine")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"key set URL of {parts.hostname} must be https without a user name or password")

    async def fetch() -> JwksDocument:
        # Twice the time, for what `_get` cannot bound by itself: names that resolve slowly, a head that drips.
        return await asyncio.wait_for(asyncio.to_thread(_get, url, seconds), 2 * seconds)

    return fetch


def _get(url: str, seconds: float) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310
    deadline = time.monotonic() + seconds
    # Through a proxy https stays sealed; plain http is for this machine, which a proxy's "localhost" is not.
    direct = [urllib.request.ProxyHandler({})] if request.type == "http" else []
    try:
        with urllib.request.build_opener(NoRedirects, *direct).open(request, timeout=seconds) as response:
            return _read(response, deadline)
    except HTTPError as error:
        # It holds the connection open for as long as it lives.
        error.close()
        raise URLError(f"key set came with status {error.code}") from None


def _read(response: HTTPResponse, deadline: float) -> bytes:
    """Piece by piece: the timeout of a socket begins anew with every byte, and a server may drip."""
    document = bytearray()
    while piece := response.read1(_CHUNK_BYTES):
        document += piece
        if len(document) > _MAX_DOCUMENT_BYTES:
            raise URLError(f"key set is larger than {_MAX_DOCUMENT_BYTES} bytes")
        if time.monotonic() > deadline:
            raise URLError("key set did not come in time")
    return bytes(document)
