"""Sources: found by write key, kept hashed, refused clearly when the file is wrong."""

import json
from pathlib import Path

import pytest

from clew.options.v1.privacy_pb2 import Purpose
from gateway.sources import SourceLimits, Sources, hash_key
from mesh.settings import SettingsError


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
    ],
)
def test_a_wrong_file_is_refused_and_the_message_names_what_is_wrong(
    tmp_path: Path, content: object, named: str
) -> None:
    """The gateway does not start on a sources file that it would misread, and says which entry to mend."""
    with pytest.raises(SettingsError, match=named):
        Sources.load(_file(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The message names the variable and the path."""
    with pytest.raises(SettingsError, match="CLEW_SOURCES_FILE"):
        Sources.load(tmp_path / "absent.json")
