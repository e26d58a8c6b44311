"""Where a process spends its time: py-spy's samples as shares of stages, and as a flame graph in a small SVG."""

import html
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

STAGES: Final = {
    "gateway/http/": "edge: HTTP in and out",
    "gateway/decode/": "decode",
    "gateway/limits/": "limits",
    "gateway/claims/": "claims",
    "gateway/ledger/": "ledger",
    "gateway/encode": "encode",
    "gateway/upstreams": "calls to the services",
    "mesh/streams": "calls to the services",
    "mesh/interceptors": "calls to the services",
    "grpc/": "calls to the services",
    "mesh/bus/": "Kafka",
    "confluent_kafka/": "Kafka",
    "mesh/telemetry": "spans and metrics",
    "mesh/metrics": "spans and metrics",
    "opentelemetry/": "spans and metrics",
    "gateway/coalesce": "coalescing",
    "gateway/collect": "collecting",
    "gateway/pipeline": "pipeline",
}
"""A sample belongs to the stage of the innermost frame whose file contains one of these."""
_OTHER: Final = "event loop and the rest"

# The picture, in pixels.
_WIDTH: Final = 1000
_ROW: Final = 16
_LETTER: Final = 6.6
_SMALLEST: Final = 3.0

Stacks = Mapping[tuple[str, ...], int]
"""Samples by stack, the outermost frame first; a frame is `function (file:line)`."""


class NoSampler(RuntimeError):
    """py-spy is not installed, or the system does not let it look into another process."""


def sample(pid: int, seconds: float, *, rate: int = 200) -> Counter[tuple[str, ...]]:
    """Look at a process so often a second, only while it works; nothing is changed in it.

    Raises:
        NoSampler: It cannot be looked at.
    """
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise NoSampler("py-spy is not installed")
    command = [str(program), "record", "--pid", str(pid), "--duration", str(round(seconds)), "--rate", str(rate)]
    command += ["--format", "raw", "--nonblocking", "--output", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode:
        raise NoSampler(f"py-spy: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
    return parse(done.stdout)


def parse(text: str) -> Counter[tuple[str, ...]]:
    """Read collapsed stacks, `frame;frame;frame COUNT` a line; what is no such line is left out."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        if frames and count.isdecimal():
            stacks[tuple(frames.split(";"))] += int(count)
    return stacks


def by_stage(stacks: Stacks) -> dict[str, float]:
    """The share of each stage, the largest first; the shares add up to 1."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[_stage(stack)] += count
    total = found.total() or 1
    return {stage: count / total for stage, count in found.most_common()}


def _stage(stack: tuple[str, ...]) -> str:
    for frame in reversed(stack):
        for part, stage in STAGES.items():
            if part in frame:
                return stage
    return _OTHER


@dataclass(slots=True)
class Node:
    """A frame and what it called."""

    count: int = 0
    below: dict[str, "Node"] = field(default_factory=dict)


def tree(stacks: Stacks) -> Node:
    """Join stacks that begin alike; lines within a function are one."""
    root = Node()
    for stack, count in stacks.items():
        node = root
        node.count += count
        for frame in stack:
            node = node.below.setdefault(_without_line(frame), Node())
            node.count += count
    return root


def _without_line(frame: str) -> str:
    return frame.rpartition(":")[0] + ")" if frame.endswith(")") and ":" in frame else frame


@dataclass(frozen=True, slots=True)
class Box:
    """A frame's place in the picture."""

    name: str
    count: int
    depth: int
    left: float
    width: float


def boxes(root: Node) -> Iterator[Box]:
    """Every frame that is wide enough to be seen, callers above callees, sorted by name as flame graphs are."""
    stack = [(root, 0, 0.0)]
    while stack:
        node, depth, left = stack.pop()
        for name, child in sorted(node.below.items()):
            width = _WIDTH * child.count / root.count
            if width >= _SMALLEST:
                yield Box(name, child.count, depth, left, width)
                stack.append((child, depth + 1, left))
            left += width


def svg(stacks: Stacks, title: str) -> str:
    """The flame graph as SVG without script: some tens of kilobytes. A pointer over a frame shows its name."""
    root = tree(stacks)
    found = list(boxes(root)) if root.count else []
    height = _ROW * (max((box.depth for box in found), default=0) + 3)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" style="font:11px monospace">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="4" y="{_ROW - 4}">{html.escape(title)}</text>',
        *(_drawn(box, root.count) for box in found),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _drawn(box: Box, total: int) -> str:
    top = _ROW * (box.depth + 1.5)
    label = html.escape(f"{box.name} {box.count / total:.1%}")
    letters = int((box.width - 4) / _LETTER)
    text = html.escape(box.name[:letters]) if letters > 3 else ""
    # Warm colours, the same for the same file in every picture.
    hue = sum(box.name.encode()) % 50
    shown = f'<text x="{box.left + 2:.1f}" y="{top + _ROW - 4:.1f}">{text}</text>' if text else ""
    return (
        f'<g><title>{label}</title><rect x="{box.left:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{_ROW - 1}" '
        f'fill="hsl({hue},80%,70%)"/>{shown}</g>'
    )
