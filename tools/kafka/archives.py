"""Apache Kafka's Java archives: resolved once through Maven, then taken from the project's cache."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
POM: Final = HERE / "pom.xml"
CACHE: Final = HERE.parent.parent / ".cache" / "kafka"
OLDEST_JAVA: Final = 17
RESOLVE_SECONDS: Final = 900


class KafkaUnavailableError(RuntimeError):
    """A local Kafka cannot be had on this machine; the message says what is missing and what to do."""


def kafka_version() -> str:
    """The version of Kafka that the pom names."""
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)</version>", POM.read_text("utf-8"))
    if found is None:
        raise KafkaUnavailableError(f"{POM} names no kafka_2.13")
    return found.group(1)


def java_command() -> str:
    """The Java launcher, of JAVA_HOME or of the path.

    Raises:
        KafkaUnavailableError: There is none, or it is older than Kafka's brokers need.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise KafkaUnavailableError(f"no java found: install Java {OLDEST_JAVA} or newer, or set JAVA_HOME")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found.group(1)) < OLDEST_JAVA:
        first = told.splitlines()[0] if told else "nothing"
        raise KafkaUnavailableError(f"Java {OLDEST_JAVA} or newer is needed; {java} says {first}")
    return java


def class_path() -> str:
    """A class path for Java with all of Kafka's archives; resolved through Maven when the cache does not have them.

    Raises:
        KafkaUnavailableError: Maven is missing or cannot resolve them.
    """
    key = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    archives = CACHE / f"{kafka_version()}-{key}"
    if not archives.is_dir():
        _resolve(archives)
    return str(archives / "*")


def _resolve(archives: Path) -> None:
    """Copy the archives beside the cache and rename them into it, so that it never holds half of them."""
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailableError("no mvn found: install Maven, or use `docker compose up kafka`")
    sys.stderr.write(f"kafka: resolving Apache Kafka {kafka_version()} through Maven (about 45 MB, once)\n")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="resolving-") as folder:
        libs = Path(folder) / "libs"
        # Strict checksums: what was damaged on the way is refused.
        copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={libs}"]
        done = subprocess.run(
            [maven, "-B", "-q", "--strict-checksums", "-f", str(POM), *copy],
            capture_output=True,
            text=True,
            check=False,
            timeout=RESOLVE_SECONDS,
        )
        if done.returncode or not any(libs.glob("kafka_2.13-*.jar")):
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise KafkaUnavailableError(f"Maven could not resolve Apache Kafka:\n{tail}")
        try:
            libs.rename(archives)
        except OSError:
            # Another process was faster; its copy is as good.
            if not archives.is_dir():
                raise
