"""When two ways to write a protobuf schema are the same schema."""

import base64
import binascii
import re

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

# A comment that nobody ends takes the rest with it: looking for the end of each anew would take a hostile text hours.
_COMMENT = re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_SPACE = re.compile(r"\s+")


def fingerprint(schema: str) -> bytes:
    """What equal schemas have in common.

    Args:
        schema: A serialized file descriptor in base64, as Python and JavaScript clients send it, or a proto file's
            text, of which comments and white space do not count. Text and descriptor of one schema have different
            fingerprints.
    """
    try:
        return canonical_descriptor(base64.b64decode(schema, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return _SPACE.sub("", _COMMENT.sub("", schema)).encode("utf-8", "surrogatepass")


def canonical_descriptor(serialized: bytes) -> bytes:
    """A file descriptor without what does not change its meaning: name, source, derived JSON names, order of imports.

    Raises:
        DecodeError: The bytes are no file descriptor.
    """
    file = FileDescriptorProto.FromString(serialized)
    file.ClearField("name")
    file.ClearField("source_code_info")
    # Public and weak imports are told by their position, so their order says something.
    if not file.public_dependency and not file.weak_dependency:
        file.dependency.sort()
    for extension in file.extension:
        extension.ClearField("json_name")
    for message in file.message_type:
        _clear_json_names(message)
    return file.SerializeToString(deterministic=True)


def _clear_json_names(message: DescriptorProto) -> None:
    for field in (*message.field, *message.extension):
        field.ClearField("json_name")
    for nested in message.nested_type:
        _clear_json_names(nested)
