"""What may be declared of topics, and how an operator's own file changes it."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.topics.declaration import DeclarationError, config_value, read_declaration, read_overlay, readable

TABLE: dict[str, Any] = {
    "defaults": {"replicas": 3, "config": {"min.insync.replicas": 2}},
    "topics": {
        "a": {
            "summary": "As",
            "value": "x.A",
            "key": "id",
            "headers": ["only-a"],
            "partitions": 6,
            "config": {"retention.ms": "7d", "min.insync.replicas": 1},
        },
        "b": {
            "summary": "Bs",
            "value": "x.B",
            "key": "id",
            "headers": [],
            "partitions": 1,
            "outlives": "a",
            "config": {"cleanup.policy": "compact", "min.compaction.lag.ms": "14d"},
        },
    },
    "headers": {"everywhere": "On all.", "only-a": "On a."},
}


def table(**changes: Any) -> dict[str, Any]:
    """The table with changes of topic a; None takes a key away."""
    changed = copy.deepcopy(TABLE)
    changed["topics"]["a"] |= changes
    changed["topics"]["a"] = {name: value for name, value in changed["topics"]["a"].items() if value is not None}
    return changed


def test_defaults_complete_a_topic_and_do_not_overrule_it() -> None:
    """Replicas and configuration are the defaults' where the topic says nothing; values are as brokers write them."""
    first, second = read_declaration(TABLE).topics

    assert (first.partitions, first.replicas) == (6, 3)
    assert first.config == {"min.insync.replicas": "1", "retention.ms": "604800000"}
    assert second.config["min.insync.replicas"] == "2"


def test_a_header_that_no_topic_names_is_on_all() -> None:
    """In the order in which they are described."""
    first, second = read_declaration(TABLE).topics
    assert (first.headers, second.headers) == (("everywhere", "only-a"), ("everywhere",))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (table(partitions=0), "a: partitions is 0; use 1 to 10000"),
        (table(partitions=None), "a: partitions is None"),
        (table(partitions=True), "a: partitions is True"),
        (table(summary=None), "a: summary is missing"),
        (table(config={"retention.ms": "7 days"}), "a: retention.ms: '7 days' is none"),
        (table(config={"retention.bytes": "1GB"}), "a: retention.bytes: '1GB' is none"),
        (table(headers=["nobody-knows"]), "nobody-knows is not described"),
        (table(retention="7d"), "a: retention cannot be said here"),
        ({**TABLE, "topic": {}}, "topic cannot be said here"),
        ({**TABLE, "defaults": 1}, "defaults: 1 is no table"),
    ],
)
def test_what_cannot_be_used_is_named(changed: dict[str, Any], message: str) -> None:
    """With the topic and what to write."""
    with pytest.raises(DeclarationError) as refused:
        read_declaration(changed)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("retention", "fits"), [("7d", True), ("169h", False), ("-1", False), ("6d", True), ("2592000000", False)]
)
def test_barriers_outlive_the_events_that_need_them(retention: str, *, fits: bool) -> None:
    """Whoever keeps events longer has to keep merges longer: half a change is refused."""
    changed = table(config={"retention.ms": retention})
    if fits:
        read_declaration(changed)
    else:
        with pytest.raises(DeclarationError, match=r"b: records of a may need its own; set min\.compaction\.lag\.ms"):
            read_declaration(changed)


def test_a_topic_that_is_deleted_by_age_is_kept_as_long_as_what_needs_it() -> None:
    """The other way to keep merges: `delete`, with the events' retention or a longer one."""
    changed = copy.deepcopy(TABLE)
    changed["topics"]["b"]["config"] = {"cleanup.policy": "delete", "retention.ms": "7d"}
    read_declaration(changed)
    changed["topics"]["b"]["config"]["retention.ms"] = "6d"
    with pytest.raises(DeclarationError, match=r"set retention\.ms to 7d or more"):
        read_declaration(changed)


def test_an_operators_file_changes_numbers(tmp_path: Path) -> None:
    """Partitions, replicas and configuration, for one topic or all; what it does not name stays."""
    file = tmp_path / "ours.toml"
    file.write_text('[defaults]\nreplicas = 2\n[topics.a]\npartitions = 48\n[topics.a.config]\n"retention.ms" = "3d"\n')

    first, second = read_declaration(read_overlay(file, TABLE)).topics

    assert (first.partitions, first.replicas, second.replicas, second.partitions) == (48, 2, 2, 1)
    assert first.config == {"min.insync.replicas": "1", "retention.ms": "259200000"}
    assert read_declaration(TABLE).topics[0].partitions == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[topics."no.such"]\npartitions = 1', "there is no topic no.such; there are: a, b"),
        ('[topics.a]\nvalue = "x.B"', "a: value cannot be said here"),
        ("[headers]\nx = 'y'", "headers cannot be said here"),
        ("partitions = = 1", "cannot be read"),
        ("defaults = 1", "defaults: 1 is no table"),
        ("[defaults]\nconfig = 1", "defaults.config: 1 is no table"),
        ("[topics.a]\nconfig = 1", "config: 1 is no table"),
        ("[defaults]\npartitions = 2", "defaults: partitions: a, b would keep their own; write it for each of them"),
        ('[defaults.config]\n"retention.ms" = "1d"', "retention.ms: a would keep their own"),
        ('[defaults.config]\n"retention.ms" = "1d"\n[topics.b.config]\n"retention.ms" = "1d"', "retention.ms: a would"),
    ],
)
def test_an_operators_file_changes_nothing_else(tmp_path: Path, text: str, message: str) -> None:
    """What a topic holds is the contract's; and what would change nothing is refused, for it is not what was meant."""
    file = tmp_path / "ours.toml"
    file.write_text(text)
    with pytest.raises(DeclarationError) as refused:
        read_overlay(file, TABLE)
    assert message in str(refused.value)


def test_a_default_beside_a_topics_own_word_in_the_same_file_is_meant(tmp_path: Path) -> None:
    """It holds for the others."""
    file = tmp_path / "ours.toml"
    file.write_text('[defaults.config]\n"retention.ms" = "3d"\n[topics.a.config]\n"retention.ms" = "2d"\n')
    first, second = read_declaration(read_overlay(file, TABLE)).topics
    assert (first.config["retention.ms"], second.config["retention.ms"]) == ("172800000", "259200000")


def test_a_list_is_written_as_brokers_do() -> None:
    """Blanks and brackets mean nothing: a plan would find a difference for ever, and `outlives` see no `delete`."""
    for written in ("compact,delete", "compact, delete", ["compact", "delete"]):
        assert config_value("cleanup.policy", written) == "compact,delete"
    changed = copy.deepcopy(TABLE)
    changed["topics"]["b"]["config"] |= {"cleanup.policy": "compact, delete", "retention.ms": "1h"}
    with pytest.raises(DeclarationError, match=r"set retention\.ms to 7d or more"):
        read_declaration(changed)
    with pytest.raises(DeclarationError, match="put quotes around a name that has dots"):
        read_declaration(table(config={"retention": {"ms": "1d"}}))


@given(st.sampled_from(["retention.ms", "retention.bytes", "segment.bytes", "partitions"]), st.integers(0, 10**15))
def test_what_is_shown_can_be_written_again(name: str, value: int) -> None:
    """A readable value means the same number."""
    assert config_value(name, readable(name, str(value))) == str(value)
