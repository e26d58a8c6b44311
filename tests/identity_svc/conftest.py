"""Fixtures of the identity tests."""

import pytest

# The contract suite's asserts stand in no test module: ask for their values to be shown all the same.
pytest.register_assert_rewrite("tests.contract.identity_store", "tests.contract.identity_machine")

from tests.support.grpc_fixtures import grpc_addr, grpc_loop, grpc_server  # noqa: E402

__all__ = ["grpc_addr", "grpc_loop", "grpc_server"]
