"""What the fuzzer looks for holds for its seeds, for inputs that once broke something, and for some random ones."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import BODIES, TARGETS, body, decode, edge, head, inflate, neighbour, seeds

SEEDS = [(name, seed) for name in TARGETS for seed in seeds(name)]
BY_NAME = [path.read_bytes() for path in sorted(BODIES.iterdir())]


@pytest.mark.parametrize(("name", "seed"), SEEDS, ids=[f"{name}-{number}" for number, (name, _) in enumerate(SEEDS)])
def test_a_seed_holds(name: str, seed: bytes) -> None:
    """What real clients send breaks nothing; nor do its beginnings."""
    TARGETS[name](seed)
    for end in range(0, len(seed), 97):
        TARGETS[name](seed[:end])


# What was once wrong, and what easily could be.
KNOWN: list[tuple[Callable[[bytes], None], bytes]] = [
    (neighbour, b'{"a":1]}'),
    (neighbour, b'{"a":1}],"b":{"c":1}'),
    (decode, b'\xff{"batch":[{"a":NaN},[1,2],3]}'),
    (decode, b'\x00{"writeKey":"\\ud800","event":"x","userId":"u"}'),
    (body, b'\x00{"batch":[],"writeKey":"\\ud800"}'),
    (body, b"\x01\xef\xbb\xbf" + BY_NAME[0]),
    (body, b'\x01{"event":"Seen","anonymousId":"' + b"?" * 256 + b'"}'),
    (decode, b'\xff{"batch":[' + b'{"a":' * 60_000),
    (inflate, b""),
    (edge, b""),
    (head, b"\x01\x01\x01\x01\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
]


@pytest.mark.parametrize(("target", "data"), KNOWN)
def test_an_input_that_is_kept_holds(target: Callable[[bytes], None], data: bytes) -> None:
    """Stray brackets, non-finite numbers, half surrogates, marks and nothing at all."""
    target(data)


def mutated(original: bytes, seed: int, faults: int) -> bytes:
    """A real body with some bytes changed, taken out, doubled or cut off."""
    chance, data = random.Random(seed), bytearray(original)
    for _ in range(faults):
        place = chance.randrange(len(data) or 1)
        match chance.randrange(5):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[place : place + chance.randrange(1, 8)]
            case 2:
                data[place:place] = chance.choice(
                    [b"{", b"}", b"[", b"]", b'"', b",", b"\\u", b"NaN", b"1e999", b"\xff"]
                )
            case 3:
                data[place:place] = data[place : place + chance.randrange(200)]
            case _:
                del data[len(data) - chance.randrange(20) :]
    return bytes(data)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(BY_NAME), st.integers(0), st.integers(1, 6), st.binary(min_size=1, max_size=1))
def test_a_mutated_sdk_body_is_never_a_5xx(original: bytes, seed: int, faults: int, path: bytes) -> None:
    """Whatever has become of a real body on its way, no client reads the answer as an outage, and the next is fine."""
    body(path + mutated(original, seed, faults))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(BY_NAME), st.integers(0), st.integers(1, 6), st.binary(min_size=1, max_size=1))
def test_a_mutated_sdk_body_has_one_outcome_for_each_event(
    original: bytes, seed: int, faults: int, route: bytes
) -> None:
    """Accepted and refused together are all that was sent, and what is accepted can be written."""
    decode(route + mutated(original, seed, faults))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_arbitrary_bytes_are_never_a_5xx(data: bytes, text: bytes) -> None:
    """As a body and as a whole conversation."""
    body(data)
    edge(data + text)


_FIELD = st.tuples(
    st.sampled_from(
        ["Host", "Content-Length", "Transfer-Encoding", "Expect", "Connection", "Upgrade", "X-Y", "Cookie"]
    ),
    st.text(st.characters(min_codepoint=0x09, max_codepoint=0xFF), max_size=20),
)
_LINE = st.sampled_from([b"GET / HTTP/1.1", b"POST /v1/b?x HTTP/1.0", b"OPTIONS * HTTP/1.1", b"GET http://a/ HTTP/1.1"])


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=4, max_size=4), _LINE, st.lists(_FIELD, max_size=8), st.sampled_from([b"\r\n", b"\n"]))
def test_a_header_block_is_read_alike_however_it_is_cut(
    places: bytes, line: bytes, fields: list[tuple[str, str]], end: bytes
) -> None:
    """Any fields, in any segmentation: the same head, the same refusal, or the same wait."""
    block = end.join([line, b"Host: a", *(f"{name}: {value}".encode("latin-1") for name, value in fields), b"", b""])
    head(places + block)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2), st.binary(max_size=200), st.integers(0), st.integers(0, 3))
def test_a_damaged_stream_is_inflated_right_or_refused(kind: int, text: bytes, seed: int, faults: int) -> None:
    """Compressed bytes with some faults: what zlib says, or a refusal."""
    (stream,) = list(seeds("inflate"))[kind : kind + 1]
    inflate(stream[:1] + mutated(stream[1:], seed, faults) + text[: seed % 3])
