"""Hostile input against a running gateway: refused, its sockets freed, its memory kept, and good events go on.

The times that a head and a body may take are set to a second, so that the test is quick; the peer's view counts.
"""

import asyncio
import gzip
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.mesh import RunningMesh, running_mesh

MIB = 1 << 20
FREED_SECONDS = 15.0
"""Within this time the peer must see the connection end."""
GROWTH_MIB = 50.0
PEERS = 40
"""Connections of each attack, all at the same time."""

BOMB = gzip.compress(bytes(100 * MIB), 9)
HIDDEN = b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


def _post(*fields: str, body: bytes = b"", line: str = "POST /v1/batch HTTP/1.1") -> bytes:
    return "\r\n".join([line, "Host: clew.test", *fields, "", ""]).encode("latin-1") + body


SMUGGLING = {
    "CL.TE: a length beside chunks": _post("Content-Length: 6", "Transfer-Encoding: chunked", body=b"0\r\n\r\nG"),
    "TE.CL: chunks beside a length": _post("Transfer-Encoding: chunked", "Content-Length: 4", body=b"0\r\n\r\n"),
    "TE.TE: two codings": _post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "TE.TE: a coding that only looks like chunked": _post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "CL.CL: two lengths that differ": _post("Content-Length: 0", "Content-Length: 61"),
    "a length in a list": _post("Content-Length: 0, 61"),
    "a length with a sign": _post("Content-Length: +2", body=b"{}"),
    "a space before the colon": _post("Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "a folded field": _post("Transfer-Encoding:", " chunked", body=b"0\r\n\r\n"),
    "a bare line feed in a value": _post("X: a\nContent-Length: 61"),
    "chunks in HTTP/1.0": _post("Transfer-Encoding: chunked", line="POST / HTTP/1.0", body=b"0\r\n\r\n"),
    "a chunk's size with a prefix": _post("Transfer-Encoding: chunked", body=b"0x0\r\n\r\n"),
    "two hosts": _post("Host: other.test", "Content-Length: 2", body=b"{}"),
}


@dataclass(slots=True)
class Seen:
    """What a peer saw: all bytes until the connection ended, and how long that took."""

    received: bytes
    seconds: float

    @property
    def statuses(self) -> list[int]:
        """The status of each answer."""
        return [int(part[:3]) for part in self.received.split(b"HTTP/1.1 ")[1:]]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh of its own, for nothing else shall weigh on its memory."""
    quick = {"CLEW_HTTP_HEAD_SECONDS": "1", "CLEW_HTTP_BODY_SECONDS": "1"}
    with running_mesh(tmp_path_factory.mktemp("hostile") / "data", env=quick) as running:
        _good(running)
        yield running


def _good(mesh: RunningMesh) -> None:
    """A good event is accepted."""
    answer = mesh.edge.post({"type": "track", "event": "Seen", "anonymousId": "good"})
    assert (answer.status, answer.verdicts) == (200, ["accepted"])


async def _attack(mesh: RunningMesh, data: bytes, drip: bytes = b"") -> Seen:
    """Send bytes, then drip others one by one for as long as the gateway takes them; wait for the end."""
    host, _, port = mesh.endpoints.http.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    began = time.monotonic()
    dripping = asyncio.create_task(_drip(writer, data, drip))
    received = bytearray()
    try:
        async with asyncio.timeout(FREED_SECONDS):
            while piece := await reader.read(65536):
                received += piece
    except ConnectionResetError:
        pass  # an end as well: what still dripped met a closed socket
    finally:
        dripping.cancel()
        writer.close()
    return Seen(bytes(received), time.monotonic() - began)


async def _drip(writer: asyncio.StreamWriter, data: bytes, drip: bytes) -> None:
    writer.write(data)
    for byte in drip:
        await asyncio.sleep(0.05)
        writer.write(bytes([byte]))


async def _attacks(mesh: RunningMesh, *attacks: tuple[bytes, bytes]) -> list[Seen]:
    return await asyncio.gather(*(_attack(mesh, data, drip) for data, drip in attacks))


def _status(mesh: RunningMesh, field: str) -> float:
    """A line of the gateway's /proc status, MiB."""
    status = Path(f"/proc/{mesh.pid('gateway')}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def _memory(mesh: RunningMesh) -> float:
    """What the gateway occupies now, MiB; from now on its peak is counted anew, where the kernel does that."""
    with suppress(OSError):
        Path(f"/proc/{mesh.pid('gateway')}/clear_refs").write_text("5")
    return _status(mesh, "VmRSS")


def _sockets(mesh: RunningMesh) -> int:
    """Sockets that the gateway has open."""
    return sum("socket:" in target for target in map(_target, _descriptors(mesh)))


def _target(descriptor: Path) -> str:
    """What a descriptor leads to; nothing where it was closed since it was listed."""
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


def _await_freed(mesh: RunningMesh, before: int) -> None:
    """Wait until no more sockets are open than before the attack, for as long as they may take to be freed."""
    until = time.monotonic() + FREED_SECONDS
    while (now := _sockets(mesh)) > before + 1:
        assert time.monotonic() < until, f"{now} sockets are open, {before} were"
        time.sleep(0.1)


def _descriptors(mesh: RunningMesh) -> Iterator[Path]:
    return Path(f"/proc/{mesh.pid('gateway')}/fd").iterdir()


@pytest.mark.parametrize("shape", SMUGGLING.values(), ids=SMUGGLING)
def test_a_smuggled_request_is_refused_and_nothing_behind_it_is_read(mesh: RunningMesh, shape: bytes) -> None:
    """One 400, then the end: what a second server might have taken for a request is none here."""
    (seen,) = asyncio.run(_attacks(mesh, (shape + HIDDEN, b"")))
    assert seen.statuses == [400]
    assert b'"code":"MALFORMED_HTTP"' in seen.received
    assert seen.seconds < FREED_SECONDS


def test_there_are_thirteen_shapes() -> None:
    """As many as were promised."""
    assert len(SMUGGLING) == 13


HEAD = b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nX: "
SLOW = {
    "a head that drips": (HEAD, b"x" * 10_000, [408]),
    "a head that stops": (HEAD, b"", [408]),
    "a body that drips": (_post("Content-Length: 10000"), b"x" * 10_000, [408]),
    "a body in chunks that drips": (_post("Transfer-Encoding: chunked"), b"1\r\nx\r\n" * 2_000, [408]),
    "a body that never begins": (_post("Content-Length: 10", "Expect: 100-continue"), b"", [100, 408]),
    "a connection that says nothing": (b"", b"", []),
    "a connection of blank lines": (b"", b"\r\n" * 5_000, []),
}


@pytest.mark.parametrize(("data", "drip", "statuses"), SLOW.values(), ids=SLOW)
def test_a_slow_client_is_cut_off(mesh: RunningMesh, data: bytes, drip: bytes, statuses: list[int]) -> None:
    """Many at once: each gets its 408, or nothing where nothing was asked, and the end; sockets are free again."""
    before = _sockets(mesh)
    seen = asyncio.run(_attacks(mesh, *[(data, drip)] * PEERS))
    # A reset, which a peer that still sends may get, can overtake the answer.
    assert all(one.statuses in (statuses, []) for one in seen)
    assert max(one.seconds for one in seen) < FREED_SECONDS
    assert sum(one.statuses == statuses for one in seen) >= PEERS // 2
    _good(mesh)
    _await_freed(mesh, before)


LARGE = {
    "an inflate bomb of 100 MB": (
        _post(f"Content-Length: {len(BOMB)}", "Content-Encoding: gzip", "Connection: close", body=BOMB), 413
    ),
    "the same in chunks": (
        _post("Transfer-Encoding: chunked", "Connection: close", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BOMB), BOMB)),
        413,
    ),
    "one header of 64 KB": (_post("X: " + "x" * 65_536), 400),
    "headers of 64 KB together": (_post(*[f"X-{number}: {'x' * 1000}" for number in range(64)]), 400),
    "a thousand headers": (_post(*[f"X-{number}: y" for number in range(1000)]), 400),
    "a target of 64 KB": (_post(line=f"POST /{'x' * 65_536} HTTP/1.1"), 400),
    "a declared body of 1 TB": (_post("Content-Length: 1099511627776"), 413),
    "a chunk of 4 GB": (_post("Transfer-Encoding: chunked", body=b"ffffffff\r\n"), 413),
}  # fmt: skip


@pytest.mark.parametrize(("data", "status"), LARGE.values(), ids=LARGE)
def test_what_is_too_large_is_refused_within_bounded_memory(mesh: RunningMesh, data: bytes, status: int) -> None:
    """Many at once, and never 50 MB more than before, not even at the peak; the clients see the refusal."""
    before = _memory(mesh)
    seen = asyncio.run(_attacks(mesh, *[(data, b"")] * PEERS))
    assert all(one.statuses[:1] in ([status], []) for one in seen)
    assert sum(one.statuses[:1] == [status] for one in seen) >= PEERS // 2
    assert _status(mesh, "VmHWM") - before < GROWTH_MIB
    _good(mesh)


def test_good_events_go_on_during_all_of_it(mesh: RunningMesh) -> None:
    """While every attack runs at once, each good batch is accepted whole, and none of the attacks left anything."""

    async def main() -> list[int]:
        attacks = [(shape, b"") for shape in SMUGGLING.values()]
        attacks += [(data, drip) for data, drip, _ in SLOW.values()] * 3
        attacks += [(data, b"") for data, _ in LARGE.values()]
        running = asyncio.gather(*(_attack(mesh, data, drip) for data, drip in attacks))
        statuses = []
        while not running.done():
            body = json.dumps({"batch": [{"type": "track", "event": "Seen", "anonymousId": f"a{n}"} for n in range(5)]})
            answer = await asyncio.to_thread(mesh.edge.post_raw, body.encode())
            statuses.append(answer.status)
            assert answer.verdicts == ["accepted"] * 5
        await running
        return statuses

    before = _memory(mesh)
    assert set(asyncio.run(main())) == {200}
    assert _status(mesh, "VmHWM") - before < GROWTH_MIB
    assert not [line for line in mesh.log("gateway") if line.get("level") == "error"]
