"""A registry that is not ours: Apicurio Registry, which speaks Confluent's API, from Java archives through Maven."""

import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.requirements import missing, require
from tools.kafka.archives import KafkaUnavailableError, java_command

# The last line that runs on Java 17; the one that keeps everything in memory.
ARTIFACT: Final = "io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all"
_CACHE: Final = Path(__file__).parents[2] / ".cache" / "apicurio" / "2.6.13.Final"
_UNPACK: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"
_RESOLVE_SECONDS: Final = 600
_START_SECONDS: Final = 90
_JVM_OPTIONS: Final = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Apicurio:
    """One registry on a port of its own, which forgets everything when it is stopped."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The root of Confluent's API."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def start(self, log: Path) -> None:
        """Start it and wait until it answers."""
        try:
            java = java_command()
        except KafkaUnavailableError as error:
            missing(str(error))
        (jar,) = _archives().glob("*-runner.jar")
        where = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self.port}"]
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [java, *_JVM_OPTIONS, *where, "-jar", str(jar)], cwd=jar.parent, stdout=sink, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"Apicurio did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2):
                return True
        except OSError:
            return False


@contextmanager
def running_apicurio() -> Iterator[Apicurio]:
    """A registry that is stopped at the end."""
    registry = Apicurio()
    with tempfile.TemporaryDirectory() as folder:
        try:
            registry.start(Path(folder) / "apicurio.log")
            yield registry
        finally:
            registry.stop()


def _archives() -> Path:
    """Its archives, from the project's cache; resolved when they are not there yet (140 MB)."""
    if not _CACHE.is_dir():
        maven = require("mvn")
        _CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE.parent) as folder:
            unpacked = Path(folder) / "unpacked"
            command = [str(maven), "-B", "-q", "--strict-checksums", _UNPACK, f"-Dartifact={ARTIFACT}"]
            done = subprocess.run(
                [*command, f"-DoutputDirectory={unpacked}"],
                cwd=folder, capture_output=True, text=True, timeout=_RESOLVE_SECONDS, check=False,
            )  # fmt: skip
            if done.returncode or not any(unpacked.glob("*-runner.jar")):
                missing(f"Maven could not resolve Apicurio Registry: {(done.stdout + done.stderr)[-1000:]}")
            # Another process may have been faster; its copy is as good.
            if not _CACHE.is_dir():
                shutil.move(unpacked, _CACHE)
    return _CACHE
