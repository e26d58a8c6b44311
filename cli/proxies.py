"""This machine's own addresses, which no proxy of the environment is to be asked for."""

from collections.abc import MutableMapping

_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_EVERYTHING = "*"


def spare_this_machine(environ: MutableMapping[str, str]) -> None:
    """Let this process, those that it starts, and the SDKs in them reach this machine without a proxy.

    What `http_proxy` and its kin name is meant for the internet, and 127.0.0.1 is itself there. gRPC, `urllib` and
    `requests` would ask it all the same.
    """
    known = environ.get("no_proxy") or environ.get("NO_PROXY", "")
    # gRPC has a list of its own, and does not know the star.
    own = environ.get("no_grpc_proxy") or known.replace(_EVERYTHING, "")
    environ["no_grpc_proxy"] = _with_this_machine(own)
    if known.strip() != _EVERYTHING:
        environ["no_proxy"] = _with_this_machine(known)


def _with_this_machine(known: str) -> str:
    names = [name.strip() for name in known.split(",") if name.strip()]
    return ",".join([*names, *(name for name in _THIS_MACHINE if name not in names)])
