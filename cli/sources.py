"""`clew source`: what its commands ask the gateway, and how the answers are shown."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from clew.admin.v1 import source_pb2 as nouns
from clew.admin.v1 import source_service_pb2 as messages
from clew.options.v1.privacy_pb2 import Purpose
from cli.endpoints import NotRunning
from cli.gateway_rpc import Gateway, Refused, connected, every_source
from cli.records import printable
from cli.source_view import print_changes, print_json, print_secret, print_source, print_sources, say, time_text

_PAGE = 1_000
_PURPOSES = {name.removeprefix("PURPOSE_").lower(): number for name, number in Purpose.items() if number}
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
# Of a number in a duration: more is longer than any key may hold, and no number that a message has room for.
_MOST_DIGITS = 9


class BadOption(Exception):
    """Raised when an option cannot be what was meant; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which source: its workspace and name, and how the answer is shown."""

    data_dir: Path
    workspace: str
    name: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class Values:
    """What is to be set; None: it was not named, an empty tuple of origins: no page, a rate of 0: the default."""

    purposes: tuple[str, ...] | None = None
    rate: float | None = None
    burst: int | None = None
    origins: tuple[str, ...] | None = None
    disabled: bool | None = None

    def paths(self) -> list[str]:
        """The fields that are set."""
        named = (
            ("purposes", self.purposes), ("limits", self.rate), ("allowed_origins", self.origins),
            ("disabled", self.disabled),
        )  # fmt: skip
        return [path for path, value in named if value is not None]

    def message(self, place: Place) -> nouns.Source:
        """The source with these values.

        Raises:
            BadOption: A purpose is none.
        """
        source = nouns.Source(workspace=place.workspace, name=place.name, disabled=bool(self.disabled))
        source.purposes.extend(_purpose(name) for name in self.purposes or ())
        if self.rate:
            source.limits.events_per_second = self.rate
            # Whoever names no burst means a second's worth, and never none.
            source.limits.burst = max(1, int(self.rate)) if self.burst is None else self.burst
        if self.origins is not None and self.origins != ("*",):
            source.allowed_origins.SetInParent()
            source.allowed_origins.origins.extend(self.origins)
        return source


def create(place: Place, values: Values, *, with_key: bool) -> int:
    """Make a source, and a key unless none is wanted."""

    def work(gateway: Gateway) -> None:
        source = gateway.call("CreateSource", messages.CreateSourceRequest(source=values.message(place))).source
        if not with_key:
            _show(place, source)
            return
        request = messages.CreateWriteKeyRequest(workspace=place.workspace, source=place.name)
        secret = gateway.call("CreateWriteKey", request).secret
        source = _get(gateway, place)
        if place.as_json:
            print_json(source=source, secret=secret)
        else:
            print_source(source)
            print_secret(secret)

    return _run(place, work)


def list_all(place: Place) -> int:
    """Show the sources of a workspace, or of all."""

    def work(gateway: Gateway) -> None:
        sources = list(every_source(gateway, place.workspace))
        if place.as_json:
            print_json(sources=sources)
        else:
            print_sources(sources)

    return _run(place, work)


def show(place: Place) -> int:
    """Show a source with its keys."""

    def work(gateway: Gateway) -> None:
        _show(place, _get(gateway, place))

    return _run(place, work)


def update(place: Place, values: Values) -> int:
    """Change what is named."""

    def work(gateway: Gateway) -> None:
        if not values.paths():
            raise BadOption("name what to change; `clew source update --help` has the options")
        mask = FieldMask(paths=values.paths())
        request = messages.UpdateSourceRequest(source=values.message(place), update_mask=mask)
        _show(place, gateway.call("UpdateSource", request).source)

    return _run(place, work)


def delete(place: Place) -> int:
    """Remove a source with its keys."""

    def work(gateway: Gateway) -> None:
        gateway.call("DeleteSource", messages.DeleteSourceRequest(workspace=place.workspace, source=place.name))
        if place.as_json:
            print_json(deleted={"workspace": place.workspace, "source": place.name})
        else:
            say(f"deleted {place.workspace}/{place.name} and its keys")

    return _run(place, work)


def history(place: Place, limit: int) -> int:
    """Show what was done to a source, the newest first."""

    def work(gateway: Gateway) -> None:
        request = messages.ListSourceChangesRequest(
            workspace=place.workspace, source=place.name, page_size=min(limit, _PAGE)
        )
        changes = list(gateway.call("ListSourceChanges", request).changes)
        if place.as_json:
            print_json(changes=changes)
        else:
            print_changes(changes)

    return _run(place, work)


def create_key(place: Place, lifetime: str) -> int:
    """Make a key and show it, this once."""

    def work(gateway: Gateway) -> None:
        request = messages.CreateWriteKeyRequest(workspace=place.workspace, source=place.name)
        if lifetime:
            request.lifetime.CopyFrom(duration(lifetime))
        made = gateway.call("CreateWriteKey", request)
        if place.as_json:
            print_json(write_key=made.write_key, secret=made.secret)
        else:
            say(f"key        {made.write_key.id}")
            print_secret(made.secret)

    return _run(place, work)


def rotate_key(place: Place, key: str, overlap: str) -> int:
    """Make a key in place of another and show it, this once."""

    def work(gateway: Gateway) -> None:
        request = messages.RotateWriteKeyRequest(
            workspace=place.workspace,
            source=place.name,
            write_key_id=_key_id(gateway, place, key),
            overlap=duration(overlap),
        )
        made = gateway.call("RotateWriteKey", request)
        if place.as_json:
            print_json(write_key=made.write_key, secret=made.secret, replaced=made.replaced)
            return
        ended = made.replaced.HasField("revoke_time")
        end = "ended now" if ended else f"holds until {time_text(made.replaced.expire_time)} UTC"
        say(f"key        {made.write_key.id}")
        print_secret(made.secret)
        say(f"the old one, {made.replaced.id}, {end}")

    return _run(place, work)


def revoke_key(place: Place, key: str) -> int:
    """End a key at once."""

    def work(gateway: Gateway) -> None:
        request = messages.RevokeWriteKeyRequest(
            workspace=place.workspace, source=place.name, write_key_id=_key_id(gateway, place, key)
        )
        revoked = gateway.call("RevokeWriteKey", request).write_key
        if place.as_json:
            print_json(write_key=revoked)
        else:
            say(f"revoked {revoked.id}, which begins with {revoked.prefix}")

    return _run(place, work)


def duration(text: str) -> Duration:
    """`90s`, `15m`, `24h` or `7d`.

    Raises:
        BadOption: It is none of these.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS):
        raise BadOption(f"{text!r} is no duration; write it like 90s, 15m, 24h or 7d")
    return Duration(seconds=int(number) * _UNITS[unit])


def _run(place: Place, work: Callable[[Gateway], None]) -> int:
    """The exit status: 0, 1 when it was refused or nothing runs, 2 when an option was wrong."""
    try:
        with connected(place.data_dir) as gateway:
            work(gateway)
    except (Refused, NotRunning) as error:
        sys.stderr.write(f"clew source: {printable(str(error))}\n")
        return 1
    except BadOption as error:
        sys.stderr.write(f"clew source: {error}\n")
        return 2
    return 0


def _get(gateway: Gateway, place: Place) -> nouns.Source:
    request = messages.GetSourceRequest(workspace=place.workspace, source=place.name)
    source: nouns.Source = gateway.call("GetSource", request).source
    return source


def _key_id(gateway: Gateway, place: Place, key: str) -> str:
    """The id of the key that is meant: by its id, or by what it begins with."""
    found = [one.id for one in _get(gateway, place).write_keys if one.id == key or (one.prefix and key == one.prefix)]
    if len(found) > 1:
        raise BadOption(f"{len(found)} keys begin with {key!r}; name the one that is meant by its id")
    return found[0] if found else key


def _show(place: Place, source: nouns.Source) -> None:
    if place.as_json:
        print_json(source=source)
    else:
        print_source(source)


def _purpose(name: str) -> Purpose.ValueType:
    number = _PURPOSES.get(name.lower())
    if number is None:
        raise BadOption(f"{name!r} is no purpose; the purposes are {', '.join(_PURPOSES)}")
    return number
