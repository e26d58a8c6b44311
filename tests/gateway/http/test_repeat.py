"""A head that comes again is what a strict reader would make of it; any other one is left to that."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http.head import Head, HeadReader
from gateway.http.limits import HttpLimits
from gateway.http.repeat import MOST_BYTES, RepeatedHead
from mesh.errors import ClewError
from tests.gateway.http.raw import get, post, serve

_LIMITS = HttpLimits()
_FIELDS = st.lists(
    st.sampled_from(["Accept: */*", "X-A: content-length: 7", "User-Agent:  b ", "Connection: close", "expect: no"]),
    max_size=4,
    unique=True,
)


def _strictly(data: bytes) -> tuple[Head, bytes, bytes] | None:
    reader = HeadReader(_LIMITS)
    try:
        head = reader.feed(data)
    except ClewError:
        return None
    return None if head is None else (head, reader.rest, reader.raw)


def _told(head: Head) -> tuple[object, ...]:
    fields = (getattr(head, name) for name in Head.__struct_fields__ if name != "headers")
    return (*fields, head.headers.raw, head.headers.get("content-length"))


def _remembered(data: bytes) -> RepeatedHead:
    read = _strictly(data)
    assert read is not None
    repeated = RepeatedHead.of(read[2], read[0])
    assert repeated is not None
    return repeated


@given(_FIELDS, st.binary(max_size=30), st.binary(max_size=30), st.integers(0, 10**16), st.integers(0), st.binary())
@example(["Accept: */*"], b"a", b"b", 10**15, 0, b"")
@example([], b"", b"", 3, 10**6, b"0")
def test_what_is_remembered_says_what_a_strict_reader_says(  # noqa: PLR0917 - the parts of two requests
    fields: list[str], first: bytes, rest: bytes, length: int, place: int, put: bytes
) -> None:
    """With other digits, or with bytes put in or taken out anywhere, the answer is the strict one or none at all."""
    repeated = _remembered(post(first, *fields))
    again = post(rest, *fields).replace(b"Content-Length: %d" % len(rest), b"Content-Length: %d" % length) + put
    changed = bytearray(again)
    place %= len(again)
    changed[place : place + 1] = put
    for data in (again, bytes(changed), post(first, *fields)):
        found = repeated.read(data)
        strict = _strictly(data)
        if found is not None:
            assert strict is not None
            assert (_told(found[0]), found[1]) == (_told(strict[0]), strict[1])


def test_digits_may_differ_and_nothing_else() -> None:
    """The usual case is found: the next event of a client library, a little longer than the last one."""
    repeated = _remembered(post(b"{}", "Authorization: Basic a2V5Og=="))
    found = repeated.read(post(b'{"a":1}', "Authorization: Basic a2V5Og=="))
    assert found is not None
    assert (found[0].length, found[0].headers.get("content-length"), found[1]) == (7, "7", b'{"a":1}')
    assert repeated.read(post(b"{}", "Authorization: Basic a2V5Oh==")) is None
    assert repeated.read(post(b"{}", "Authorization: Basic a2V5Og==")[:-3]) is None


@pytest.mark.parametrize(
    "data",
    [
        get("/"),
        post(b"", f"X: {'x' * MOST_BYTES}"),
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_has_no_length_or_is_long_is_not_remembered(data: bytes) -> None:
    """Every connection remembers one head, so that it is a short one; without a length there is nothing to vary."""
    read = _strictly(data)
    assert read is not None
    assert RepeatedHead.of(read[2], read[0]) is None


async def test_heads_that_change_on_one_connection_are_read_anew() -> None:
    """The memory of a connection is of its last head, and never of the one before."""
    async with serve() as site, site.client() as client:
        for body, key in ((b"1", "a"), (b"22", "a"), (b"333", "b"), (b"1", "a")):
            reply = await client.ask(post(body, f"X-Key: {key}"))
            assert reply.json["body"] == body.decode()
            assert ["x-key", key] in reply.json["headers"]  # type: ignore[operator]
