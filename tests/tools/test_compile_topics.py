"""What may stand in proto/topics.toml: topics whose values and keys the contracts have."""

from dataclasses import replace

import pytest

from mesh.topics.declaration import DeclarationError
from tools.compile_topics import declared_topics, value_of

EVENTS = declared_topics().topics[0]


def test_a_value_is_the_first_message_of_its_file() -> None:
    """So that six bytes stand before every record's message, and readers in any language can rely on it."""
    assert value_of(EVENTS).full_name == EVENTS.value
    with pytest.raises(DeclarationError, match=r"Barrier is not the first message of clew/identity/v1/profile_changed"):
        value_of(replace(EVENTS, value="clew.identity.v1.Barrier"))
    with pytest.raises(DeclarationError, match=r"the contracts have no message clew\.event\.v1\.Nothing"):
        value_of(replace(EVENTS, value="clew.event.v1.Nothing"))


def test_a_key_is_a_field_of_the_value() -> None:
    """Whoever reads a record finds its key in the value, too."""
    with pytest.raises(DeclarationError, match=r"nobody is no field of clew\.event\.v1\.EnrichedEvent"):
        value_of(replace(EVENTS, key="nobody"))
