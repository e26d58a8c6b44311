"""Offsets as stores keep them: JSON text."""

import msgspec

from mesh.bus.port import Offsets

_DECODER = msgspec.json.Decoder(list[tuple[str, int, int]])


def offsets_to_json(offsets: Offsets) -> str:
    """A list of [topic, partition, offset]."""
    rows = [(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    return msgspec.json.encode(rows).decode()


def offsets_from_json(text: str) -> Offsets:
    """What `offsets_to_json` wrote."""
    return {(topic, partition): offset for topic, partition, offset in _DECODER.decode(text)}
