"""The library service of `library.proto`, compiled when it is asked for."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import grpc_tools
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.duration_pb2 import DESCRIPTOR as DURATION
from google.protobuf.field_mask_pb2 import DESCRIPTOR as FIELD_MASK
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import DESCRIPTOR as STRUCT
from google.protobuf.timestamp_pb2 import DESCRIPTOR as TIMESTAMP
from google.protobuf.wrappers_pb2 import DESCRIPTOR as WRAPPERS
from grpc_tools import protoc

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# Whatever the library imports is known to the pool before the library is.
IMPORTED = (DURATION, FIELD_MASK, STRUCT, TIMESTAMP, WRAPPERS)


def compile_file(path: Path) -> Any:
    """The descriptor of a proto file, from protoc, in the pool of all generated code."""
    includes = (path.parent, ROOT / "proto", ROOT / "third_party/proto", Path(grpc_tools.__file__).parent / "_proto")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set.binpb")
        status = protoc.main(["protoc", *(f"-I{each}" for each in includes), f"-o{out}", str(path)])
        assert status == 0
        (file,) = FileDescriptorSet.FromString(out.read_bytes()).file
    return descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def compile_text(name: str, text: str, folder: Path) -> Any:
    """The descriptor of a proto file that a test writes; its name must be used by no other."""
    path = folder / name
    path.write_text(text)
    return compile_file(path)


@cache
def library() -> ServiceDescriptor:
    """The service."""
    compile_file(HERE / "library.proto")
    return descriptor_pool.Default().FindServiceByName("library.v1.Library")


def message(name: str) -> Any:
    """The class of one of its messages."""
    library()
    return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(f"library.v1.{name}"))
