"""Handlers without a task: the same answers, order, refusals and hang-ups as for any other one."""

import asyncio
import gzip

import pytest
from structlog.testing import capture_logs

from gateway.http.limits import KIB
from gateway.http.message import Abandon, DirectHandler, Reply, Request, Response, json_response
from mesh.errors import Overloaded
from tests.gateway.http.raw import post, serve


class Scripted(DirectHandler):
    """Does what the path says: replies `/now` or `/later`, refuses, fails, or leaves the client waiting."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.abandoned = 0

    def start(self, request: Request, reply: Reply) -> Abandon:
        """See `DirectHandler.start`."""
        self.started.append(request.path)
        response = json_response(200, {"body": request.body.decode()})
        match request.path:
            case "/now":
                reply(response)
            case "/later":
                asyncio.get_running_loop().call_later(0.01, reply, response)
            case "/refused":
                request.trace_id = "f" * 32
                raise Overloaded("no room")
            case "/broken":
                raise KeyError("secret")
            case "/split":
                reply(Response(200, headers=(("x", "a\r\nb"),)))
        return self._abandon

    def _abandon(self) -> None:
        self.abandoned += 1


@pytest.fixture
def handler() -> Scripted:
    """A handler that serves every request."""
    return Scripted()


async def _fails(_: Request) -> Response:
    raise AssertionError("a task was made")


async def test_replies_now_and_later_on_one_connection(handler: Scripted) -> None:
    """Answers come in the order of the requests, whenever each is there; the connection stays."""
    async with serve(_fails, find_direct=lambda _: handler) as site, site.client() as client:
        await client.send(post(b"1", path="/later") + post(b"2", path="/now") + post(b"3", path="/later"))
        assert [(await client.reply()).json["body"] for _ in range(3)] == ["1", "2", "3"]
        assert (site.server.in_flight, site.server.connections) == (0, 1)
    assert handler.abandoned == 0


async def test_hundreds_that_are_answered_at_once_are_no_recursion(handler: Scripted) -> None:
    """A client that pipelines as much as the edge holds gets each answer, and breaks nothing."""
    count = 60 * KIB // len(post(b"", path="/now"))
    async with serve(_fails, find_direct=lambda _: handler) as site, site.client() as client:
        await client.send(post(b"", path="/now") * count)
        assert [(await client.reply()).status for _ in range(count)] == [200] * count
    assert count > 500


async def test_refusals_and_faults_are_answered_like_any_others(handler: Scripted) -> None:
    """A refusal is a problem with its trace id; a fault is a 500 that says nothing; the next request is served."""
    async with serve(_fails, find_direct=lambda _: handler) as site, site.client() as client:
        reply = await client.ask(post(b"", path="/refused"))
        assert (reply.status, reply.json["trace_id"]) == (503, "f" * 32)
        with capture_logs() as logs:
            reply = await client.ask(post(b"", path="/broken"))
            assert reply.status == 500
            assert b"secret" not in reply.body
            assert (await client.ask(post(b"", path="/split"))).status == 500
        assert [entry["event"] for entry in logs] == ["the handler failed", "a response cannot be sent"]
        assert (await client.ask(post(b"{}", path="/now"))).status == 200
        assert site.server.in_flight == 0


async def test_a_hang_up_abandons_the_request(handler: Scripted) -> None:
    """The handler learns at once that nobody waits, and a reply that comes all the same goes nowhere."""
    async with serve(_fails, find_direct=lambda _: handler) as site:
        for path in ("/never", "/later"):
            async with site.client() as client:
                await client.send(post(b"", path=path))
                await site.until(in_flight=1)
            await site.until(in_flight=0, connections=0)
        assert handler.abandoned == 2
        await asyncio.sleep(0.02)


async def test_a_drain_answers_what_does_not_end(handler: Scripted) -> None:
    """When the time is up the request is abandoned, and its client is told to send again."""
    async with serve(_fails, find_direct=lambda _: handler) as site, site.client() as client:
        await client.send(post(b"", path="/never"))
        await site.until(in_flight=1)
        await site.server.drain(0.01)
        assert (await client.reply()).status == 503
    assert handler.abandoned == 1


async def test_a_compressed_body_has_a_task_first(handler: Scripted) -> None:
    """Inflating may take a thread; then the same handler answers, called like any other one."""
    async with serve(handler, find_direct=lambda _: handler) as site, site.client() as client:
        for path in ("/now", "/later"):
            reply = await client.ask(post(gzip.compress(b"{}"), "Content-Encoding: gzip", path=path))
            assert reply.json["body"] == "{}"
        assert (await client.ask(post(gzip.compress(b""), "Content-Encoding: br", path="/now"))).status in {200, 415}
