"""A small disk of a broker's own, which can be filled to the last byte: a tmpfs, mounted where its data goes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tools.kafka.node import Node

_MIB: Final = 512
_CHUNK: Final = bytes(1 << 16)
_FILLER: Final = "filler"


class CannotMount(Exception):
    """Who runs this may not mount a file system."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of one broker."""

    node: Node

    def fill(self) -> None:
        """Leave no byte free, as another program's files would."""
        with (self.node.data / _FILLER).open("wb", buffering=0) as file, suppress(OSError):
            while file.write(_CHUNK):
                pass

    def clear(self) -> None:
        """Make room again."""
        (self.node.data / _FILLER).unlink(missing_ok=True)


@contextmanager
def mounted(node: Node) -> Iterator[Disk]:
    """A disk for a broker that was not started yet; it goes with all that is on it.

    Raises:
        CannotMount: Only root may, or who may become root without a password.
    """
    node.data.mkdir(parents=True, exist_ok=True)
    options = f"size={_MIB}m,uid={os.getuid()},gid={os.getgid()},mode=0700"
    _as_root("mount", "-t", "tmpfs", "-o", options, "clew-weather", str(node.data))
    try:
        yield Disk(node)
    finally:
        # Lazily: it is gone for us at once, whoever still holds a file.
        _as_root("umount", "--lazy", str(node.data))


def _as_root(*command: str) -> None:
    full = command if os.getuid() == 0 else ("sudo", "-n", *command)
    try:
        done = subprocess.run(full, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CannotMount(f"no {error.filename} found") from error
    if done.returncode:
        raise CannotMount(f"{' '.join(full)}: {done.stderr.strip()}")
