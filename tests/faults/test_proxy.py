"""The proxy that loses answers: what it does to a client, and that the edge behind it notices nothing."""

import asyncio
import http.client
import json
from collections.abc import Iterator

import pytest

from tests.support.edge import Answer, Edge
from tests.support.proxy import Close, Cut, Delay, Exchange, Fault, Hang, Proxy, running_proxy
from tests.support.recorder import Recorder, recording

_EVENT = {"type": "page", "anonymousId": "a", "messageId": "m"}
_PATIENCE_SECONDS = 0.5


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """An edge that accepts everything."""
    with recording() as running:
        yield running


@pytest.fixture
def proxy(recorder: Recorder) -> Iterator[Proxy]:
    """A proxy before it."""
    with running_proxy(recorder.endpoint) as running:
        yield running


def _post(proxy: Proxy) -> Answer:
    return Edge(proxy.url, "key").post(_EVENT)


def _post_hastily(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=_PATIENCE_SECONDS)
    try:
        connection.request("POST", "/v1/batch", json.dumps({"batch": [_EVENT]}))
        connection.getresponse().read()
    finally:
        connection.close()


def test_it_carries_what_it_is_given(proxy: Proxy, recorder: Recorder) -> None:
    """Without a fault, request and answer pass unchanged and are kept."""
    assert _post(proxy).status == 200
    (exchange,) = proxy.exchanges
    assert (exchange.status, exchange.lost) == (200, False)
    assert json.loads(exchange.body) == {"success": True}
    assert recorder.events() == [_EVENT]


@pytest.mark.parametrize("fault", [Close(), Hang(), Cut(0), Cut(5)])
def test_a_lost_answer_was_given(proxy: Proxy, recorder: Recorder, fault: Fault) -> None:
    """The edge took the events and answered; the client learns of an error only, and the next request passes."""
    proxy.next(fault)
    with pytest.raises((http.client.HTTPException, OSError)):
        _post_hastily(proxy)
    assert [(exchange.status, exchange.lost) for exchange in proxy.exchanges] == [(200, True)]
    assert recorder.events() == [_EVENT]
    assert _post(proxy).status == 200


def test_a_late_answer_is_whole(proxy: Proxy) -> None:
    """A delayed answer arrives as it was given."""
    proxy.next(Delay(0.01))
    assert _post(proxy).json == {"success": True}
    assert not proxy.exchanges[0].lost


def test_connections_are_spread_over_the_edges(recorder: Recorder) -> None:
    """Each new connection goes to the next edge in turn."""
    with recording() as other, running_proxy(recorder.endpoint, other.endpoint) as proxy:
        for _ in range(4):
            assert _post(proxy).status == 200
        assert len(recorder.events()) == len(other.events()) == 2


def test_an_edge_that_is_down_is_passed_over(recorder: Recorder) -> None:
    """While one edge takes no connections, the others serve every client."""
    with recording() as gone:
        address = gone.endpoint
    with running_proxy(address, recorder.endpoint) as proxy:
        assert [_post(proxy).status for _ in range(3)] == [200] * 3
        assert len(recorder.events()) == 3


async def test_an_error_in_the_watcher_is_not_lost(recorder: Recorder) -> None:
    """Who watches the exchanges and fails is told so when the proxy ends, and the client gets no answer."""

    def watch(exchange: Exchange) -> None:
        raise ValueError(f"status {exchange.status}")

    async def post() -> None:
        async with Proxy([recorder.endpoint], watch).listening() as proxy:
            with pytest.raises((http.client.HTTPException, OSError)):
                await asyncio.to_thread(_post, proxy)

    with pytest.raises(ValueError, match="status 200"):
        await post()
