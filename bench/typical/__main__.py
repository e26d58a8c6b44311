"""`python -m bench.typical --kafka HOST:PORT`: start the typical mesh, say where it is, run until SIGTERM.

Prints one line of JSON when everything serves: `{"http": ..., "write_key": ..., "pids": {"gateway": ..., ...}}`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

START_SECONDS = 30
SERVICES = ("identity", "consent", "enrich")


def spawn(module: str, *arguments: str, environ: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
    """Start a process and read the port that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{module} did not start")
    return process, int(json.loads(line)["port"])


def wait_healthy(url: str) -> None:
    """Wait until the gateway answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def run(options: argparse.Namespace, folder: Path, processes: dict[str, subprocess.Popen[str]]) -> None:
    """Start everything, announce it, and wait for the end."""
    root = Path(__file__).resolve().parents[2]
    environ = os.environ | {"PYTHONPATH": f"{root / 'gen'}{os.pathsep}{root}"}
    for name in SERVICES:
        processes[name], port = spawn("bench.typical.services", name, str(folder), environ=environ)
        environ[f"TYPICAL_{name.upper()}"] = f"127.0.0.1:{port}"
    environ |= {
        "TYPICAL_KAFKA": options.kafka,
        "TYPICAL_TOPIC": options.topic,
        "TYPICAL_HTTP_PORT": str(options.http_port),
        "TYPICAL_WRITE_KEY": options.write_key,
    }
    processes["gateway"], port = spawn("bench.typical.gateway", environ=environ)
    url = f"http://127.0.0.1:{port}"
    wait_healthy(url)
    pids = {name: process.pid for name, process in processes.items()}
    print(json.dumps({"http": url, "write_key": options.write_key, "topic": options.topic, "pids": pids}), flush=True)
    processes["gateway"].wait()


def stop(processes: dict[str, subprocess.Popen[str]]) -> None:
    """End all, the gateway first."""
    for process in reversed(processes.values()):
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="bench.typical", description="The typical service mesh that clew is compared with."
    )
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap server")
    parser.add_argument("--http-port", type=int, default=0, help="port of the edge; 0: any free one")
    parser.add_argument("--topic", default="typical.events.v1", help="where events go")
    parser.add_argument("--write-key", default="typical-bench-key", help="the one key that is accepted")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    processes: dict[str, subprocess.Popen[str]] = {}
    with tempfile.TemporaryDirectory(prefix="typical-") as folder:
        try:
            run(options, Path(folder), processes)
        except KeyboardInterrupt:
            pass
        finally:
            stop(processes)


if __name__ == "__main__":
    main()
