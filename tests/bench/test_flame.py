"""The flame graph: samples read, put into stages, drawn."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.flame import NoSampler, boxes, by_stage, parse, sample, svg, tree
from tests.support.requirements import missing

_RAW = """\
main (gateway/main.py:10);run (asyncio/runners.py:1);data_received (gateway/http/connection.py:80) 6
main (gateway/main.py:10);run (asyncio/runners.py:1);decode (gateway/decode/request.py:9);loads (json/decoder.py:3) 3
main (gateway/main.py:10);run (asyncio/runners.py:1) 1
py-spy says something else
"""


def test_samples_are_read() -> None:
    """Each line is a stack and how often it was seen; what is no such line is left out."""
    stacks = parse(_RAW)
    assert sorted(stacks.values()) == [1, 3, 6]
    assert stacks.total() == 10


def test_a_sample_belongs_to_the_innermost_stage() -> None:
    """What a stage calls counts for the stage; what none called is the rest; the shares add up to one."""
    shares = by_stage(parse(_RAW))
    assert shares == {"edge: HTTP in and out": 0.6, "decode": 0.3, "event loop and the rest": 0.1}
    assert by_stage({}) == {}


def test_stacks_that_begin_alike_are_joined() -> None:
    """One box for what they have in common, over boxes as wide as what was seen of each."""
    found = {box.name: box for box in boxes(tree(parse(_RAW)))}
    assert found["run (asyncio/runners.py)"].count == 10
    assert found["data_received (gateway/http/connection.py)"].width == pytest.approx(600)
    assert found["data_received (gateway/http/connection.py)"].depth == 2


@given(
    st.dictionaries(
        st.lists(st.text(min_size=1), min_size=1, max_size=6).map(tuple), st.integers(1, 100), min_size=1, max_size=20
    )
)
def test_any_stacks_make_a_picture(stacks: dict[tuple[str, ...], int]) -> None:
    """Whatever the frames are called, boxes lie within their callers and the picture is whole XML where it can be."""
    total = sum(stacks.values())
    assert sum(box.count for box in boxes(tree(stacks)) if box.depth == 0) <= total
    assert all(box.left + box.width <= 1000.001 for box in boxes(tree(stacks)))
    drawn = svg(stacks, "any")
    assert drawn.count("<g>") == drawn.count("</g>") == len(list(boxes(tree(stacks))))


def test_the_picture_is_xml() -> None:
    """Names are escaped."""
    drawn = svg({("<module> (a&b.py:1)", "f (c.py:2)"): 5}, "a < b")
    assert [node.text for node in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}title")] == [
        "<module> (a&b.py) 100.0%",
        "f (c.py) 100.0%",
    ]


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does one thing."""
    script = "def spin():\n    while True: sum(range(1000))\nspin()"
    process = subprocess.Popen([sys.executable, "-c", script])
    yield process
    process.kill()
    process.wait()


def test_a_running_process_is_sampled(busy: subprocess.Popen[bytes]) -> None:
    """Most of what is seen of a process that spins is the function that spins."""
    try:
        stacks = sample(busy.pid, 2)
    except NoSampler as error:
        missing(f"this system does not let processes be looked into: {error}")
    assert stacks.total() > 10
    assert sum(count for stack, count in stacks.items() if "spin" in stack[-1]) > stacks.total() * 0.8


def test_no_process_is_told() -> None:
    """What cannot be looked at is an error that says so."""
    with pytest.raises(NoSampler):
        sample(2**22 + 1, 1)
