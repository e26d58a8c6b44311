"""Sources: found by write key, kept hashed, refused clearly when the file is wrong."""

import json
from pathlib import Path

import pytest

from clew.options.v1.privacy_pb2 import Purpose
from gateway.http.cors import ANY_ORIGIN
from gateway.sources import Source, SourceLimits, Sources, hash_key
from mesh.clock import FixedClock
from mesh.settings import SettingsError

_NO_RATE = {"events_per_second": 0, "burst": 1}


def _file(folder: Path, content: object) -> Path:
    path = folder / "sources.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_source_is_found_by_its_write_key_and_collects_for_every_purpose_unless_told(tmp_path: Path) -> None:
    """The key in clear finds the entry that holds its hash; an entry without purposes collects for all of them."""
    path = _file(tmp_path, [{"workspace": "shop", "name": "web", "write_key_sha256": hash_key("k1")}])
    source = Sources.load(path).find("k1")
    assert source is not None
    assert (source.workspace, source.name) == ("shop", "web")
    assert source.purposes == frozenset(number for number in Purpose.values() if number)


def test_an_unknown_key_finds_nothing_however_often_it_is_asked(tmp_path: Path) -> None:
    """A key of no source is never remembered as one."""
    sources = Sources.load(_file(tmp_path, [{"workspace": "shop", "name": "web", "write_key_sha256": hash_key("k1")}]))
    assert sources.find("k2") is None
    assert sources.find("k2") is None
    assert sources.find("") is None


def test_a_source_may_collect_for_some_purposes_only(tmp_path: Path) -> None:
    """The purposes of an entry limit what its events may be kept for."""
    entry = {"workspace": "shop", "name": "ads", "write_key_sha256": hash_key("k"), "purposes": ["advertising"]}
    source = Sources.load(_file(tmp_path, [entry])).find("k")
    assert source is not None
    assert source.purposes == {Purpose.PURPOSE_ADVERTISING}


def test_a_source_of_the_file_may_have_limits_and_origins(tmp_path: Path) -> None:
    """Where the entry does not say, the defaults hold: the server's limits, and pages of any origin."""
    entry = {"workspace": "shop", "name": "web", "write_key_sha256": hash_key("k")}
    source = Sources.load(_file(tmp_path, [entry])).find("k")
    assert source is not None
    assert (source.limits, source.allowed_origins) == (None, ANY_ORIGIN)
    entry_with = {**entry, "limits": {"events_per_second": 0.5, "burst": 2}, "allowed_origins": []}
    source = Sources.load(_file(tmp_path, [entry_with])).find("k")
    assert source is not None
    assert (source.limits, source.allowed_origins) == (SourceLimits(0.5, 2), ())


def test_without_a_file_there_are_no_sources() -> None:
    """All of them are then kept in the store."""
    assert len(Sources.load(None)) == 0


def test_other_keys_hold_from_the_next_look_up_on() -> None:
    """A key that was remembered is not found any more, and one that was refused may be."""
    first, second = Source("w", "first", frozenset({1})), Source("w", "second", frozenset({1}))
    sources = Sources({hash_key("k1"): first})
    assert (sources.find("k1"), sources.find("k2")) == (first, None)
    sources.replace({hash_key("k2"): second})
    assert (sources.find("k1"), sources.find("k2")) == (None, second)


def test_a_use_is_noted_once_until_it_is_taken() -> None:
    """With the time of the first; a key that is unknown is none, and as many keys as there are may be in use."""
    clock = FixedClock(1_000)
    sources = Sources({hash_key(f"k{number}"): Source("w", "n", frozenset({1})) for number in range(5_000)}, clock)
    sources.find("k1")
    clock.advance(1)
    sources.find("k1")
    sources.find("unknown")
    assert sources.uses == {hash_key("k1"): 1_000}
    assert sources.take_uses() == {hash_key("k1"): 1_000}
    assert sources.take_uses() == {}
    for number in range(5_000):
        assert sources.find(f"k{number}")
    assert sources.take_uses() == {hash_key(f"k{number}"): clock.now_ns() for number in range(5_000)}


def test_a_source_may_have_limits_of_its_own(tmp_path: Path) -> None:
    """A rate and a burst; without them those hold that are configured for all sources."""
    entries = [
        {"workspace": "w", "name": "a", "write_key_sha256": hash_key("a")},
        {
            "workspace": "w",
            "name": "b",
            "write_key_sha256": hash_key("b"),
            "limits": {"events_per_second": 2.5, "burst": 10},
        },
    ]
    sources = Sources.load(_file(tmp_path, entries))
    assert [source and source.limits for source in map(sources.find, "ab")] == [None, SourceLimits(2.5, 10)]


def _with_limits(limits: object) -> list[dict[str, object]]:
    return [{"workspace": "w", "name": "n", "write_key_sha256": "0" * 64, "limits": limits}]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("not json", "cannot be used"),
        ([{"workspace": "w", "name": "n"}], "write_key_sha256"),
        ([{"workspace": "w", "name": "n", "write_key_sha256": "the key in clear"}], "write_key_sha256"),
        ([{"workspace": "", "name": "n", "write_key_sha256": "0" * 64}], "workspace"),
        ([{"workspace": "w" * 65, "name": "n", "write_key_sha256": "0" * 64}], "workspace"),
        ([{"workspace": "w", "name": "n", "write_key_sha256": "0" * 64, "colour": 1}], "colour"),
        ([{"workspace": "w", "name": "n", "write_key_sha256": "0" * 64, "purposes": ["fun"]}], "fun"),
        ([{"workspace": "w", "name": "n", "write_key_sha256": "0" * 64, "purposes": []}], "none"),
        (_with_limits({"events_per_second": 0, "burst": 1}), "limits of source 'n'"),
        (_with_limits({"events_per_second": 1, "burst": 0}), "limits of source 'n'"),
        (_with_limits({"events_per_second": 1}), "burst"),
        (_with_limits(5), "limits"),
        ([{"workspace": "w", "name": n, "write_key_sha256": "0" * 64} for n in ("a", "b")], "'b'"),
        ([{"workspace": "w", "name": "n", "write_key_sha256": "0" * 64, "allowed_origins": ["shop.example"]}], "shop"),
        ([{"workspace": "w", "name": "n", "write_key_sha256": "0" * 64, "limits": {"burst": 1}}], "events_per_second"),
        ([{"workspace": "w", "name": "n", "write_key_sha256": "0" * 64, "limits": _NO_RATE}], "limits"),
        (
            [
                {
                    "workspace": "w",
                    "name": "n",
                    "write_key_sha256": "0" * 64,
                    "limits": {"events_per_second": 0, "burst": 1},
                }
            ],
            "limits",
        ),
    ],
)
def test_a_wrong_file_is_refused_and_the_message_names_what_is_wrong(
    tmp_path: Path, content: object, named: str
) -> None:
    """The gateway does not start on a sources file that it would misread, and says which entry to mend."""
    with pytest.raises(SettingsError, match=named):
        Sources.load(_file(tmp_path, content))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A file in another encoding than UTF-8 is told like any other wrong one."""
    path = tmp_path / "sources.json"
    path.write_bytes(b'[{"workspace": "caf\xe9"}]')
    with pytest.raises(SettingsError, match="CLEW_SOURCES_FILE"):
        Sources.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The message names the variable and the path."""
    with pytest.raises(SettingsError, match="CLEW_SOURCES_FILE"):
        Sources.load(tmp_path / "absent.json")
