"""The private key that tokens are signed with: made on the first start, kept in a file that only its owner can read."""

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mesh.settings import SettingsError

_OWNER_ONLY = 0o600


def load_or_create_key(path: Path | None) -> EllipticCurvePrivateKey:
    """Return the key in the file, which is made when it does not exist; None: a key that lives as long as the process.

    The caller owns the folder: two processes must not do this at once.

    Raises:
        SettingsError: The file cannot be used, holds another kind of key, or others can read it.
    """
    if path is None:
        return generate_private_key(SECP256R1())
    try:
        return _load(path) if path.exists() else _create(path)
    except OSError as error:
        raise SettingsError([f"CLEW_DATA_DIR: {path}: {error.strerror}"]) from error


def _load(path: Path) -> EllipticCurvePrivateKey:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SettingsError([f"CLEW_DATA_DIR: {path} can be read by others. Replace the key, or run chmod 600 on it"])
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError([f"CLEW_DATA_DIR: {path} holds no private key in PEM. Restore or remove it"]) from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise SettingsError([f"CLEW_DATA_DIR: {path} holds no P-256 key, which ES256 needs. Restore or remove it"])
    return key


def _create(path: Path) -> EllipticCurvePrivateKey:
    """Make a key; a crash on the way leaves no half-written file under its name."""
    key = generate_private_key(SECP256R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return key
