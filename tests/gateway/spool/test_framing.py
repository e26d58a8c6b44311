"""Records in a segment: what was written whole is read back, and nothing else ever is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spool.framing import HEADER_BYTES, MAX_PAYLOAD_BYTES, frame, frames, wanted

PAYLOADS = st.lists(st.binary(min_size=1, max_size=60), max_size=8)


@given(PAYLOADS, st.binary(max_size=20))
def test_what_was_written_is_read_back(payloads: list[bytes], before: bytes) -> None:
    """In order, from any offset on, each with the offset of its end."""
    data = before + b"".join(map(frame, payloads))
    read = list(frames(data, len(before)))
    assert [each.payload for each in read] == payloads
    assert [each.end for each in read] == [
        len(before) + sum(HEADER_BYTES + len(payload) for payload in payloads[: index + 1])
        for index in range(len(payloads))
    ]


@given(PAYLOADS, st.data())
def test_a_torn_write_leaves_the_records_before_it(payloads: list[bytes], data: st.DataObject) -> None:
    """Cut at any byte, the whole records are there and the torn one is not."""
    written = b"".join(map(frame, payloads))
    cut = data.draw(st.integers(0, len(written)))
    whole = [each.payload for each in frames(written) if each.end <= cut]
    assert [each.payload for each in frames(written[:cut])] == whole == payloads[: len(whole)]


@given(PAYLOADS.filter(bool), st.data())
def test_a_changed_byte_ends_the_reading(payloads: list[bytes], data: st.DataObject) -> None:
    """Whichever it is, of a length, a checksum or a payload: no record is read that was not written."""
    written = bytearray(b"".join(map(frame, payloads)))
    place = data.draw(st.integers(0, len(written) - 1))
    before = [each.payload for each in frames(bytes(written)) if each.end <= place]
    written[place] ^= data.draw(st.integers(1, 255))
    assert [each.payload for each in frames(bytes(written))] == before


@given(st.integers(0, 100))
def test_a_file_of_zeros_holds_nothing(count: int) -> None:
    """Some file systems leave zeros where data was on its way at a crash."""
    assert list(frames(bytes(count))) == []


@given(st.binary(min_size=1, max_size=60), st.integers(0, 60))
def test_a_record_says_how_long_it_is(payload: bytes, cut: int) -> None:
    """So that a reader that got only its beginning knows how much to read."""
    data = frame(payload)
    assert wanted(data[:cut]) == (0 if cut < HEADER_BYTES else len(data))


@pytest.mark.parametrize("size", [0, MAX_PAYLOAD_BYTES + 1])
def test_an_empty_record_and_an_endless_one_are_refused(size: int) -> None:
    """They would be taken for damage when they are read."""
    with pytest.raises(ValueError, match="a record has 1 to"):
        frame(bytes(size))
