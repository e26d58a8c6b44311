"""A protoc plugin around grpcio-tools, so that `buf generate` needs no compiler that pip cannot install.

buf hands a plugin one CodeGeneratorRequest on standard input and reads one CodeGeneratorResponse from standard output
(google/protobuf/compiler/plugin.proto). The one argument is the generator: `python`, `grpc_python` or `mypy_grpc`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def keep_services(request: CodeGeneratorRequest) -> None:
    """Drop the files without a service from what is to be generated: their stubs would be empty."""
    serving = {file.name for file in request.proto_file if file.service}
    kept = [name for name in request.file_to_generate if name in serving]
    del request.file_to_generate[:]
    request.file_to_generate.extend(kept)


def run_plugin(request: CodeGeneratorRequest, program: str) -> CodeGeneratorResponse:
    """Pass the request on to another plugin, without its chatter."""
    answer = subprocess.run([program], input=request.SerializeToString(), capture_output=True, check=True)
    return CodeGeneratorResponse.FromString(answer.stdout)


def run_protoc(request: CodeGeneratorRequest, generator: str) -> CodeGeneratorResponse:
    """Run one of protoc's built-in generators over the request's files."""
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        out.mkdir()
        descriptors = Path(folder, "set.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        status = protoc.main(
            ["protoc", f"--descriptor_set_in={descriptors}", f"--{generator}_out={out}", *request.file_to_generate]
        )
        if status != 0:
            response.error = f"protoc --{generator}_out exited with {status}; its message stands above"
            return response
        for path in sorted(out.rglob("*.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())
    return response


def generate(request: CodeGeneratorRequest, generator: str) -> CodeGeneratorResponse:
    """Run the generator that the command line names."""
    if generator != "python":
        keep_services(request)
        if not request.file_to_generate:
            return CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    if generator == "mypy_grpc":
        return run_plugin(request, "protoc-gen-mypy_grpc")
    return run_protoc(request, generator)


if __name__ == "__main__":
    answer = generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read()), sys.argv[1])
    sys.stdout.buffer.write(answer.SerializeToString())
