"""Signing a bundle's manifest with Ed25519. The manifest has the digest of everything else, so this signs the whole file.

The signature has its public key beside it: without a key of one's own it shows only that nothing was damaged; with one it
shows who made the bundle. Keys are PEM files (PKCS8, SubjectPublicKeyInfo), as OpenSSL writes them too.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BundleError, ContractError
from schemas.plain import canonical_json
from streams.bundle.layout import SIGNATURE, sha256_of

_ALGORITHM = "Ed25519"
_DO = "make a pair with `hindsight bundle keygen`"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Where a new pair lies, and the public key's fingerprint."""

    private: Path
    public: Path
    fingerprint: str


def make_keys(path: Path) -> KeyPair:
    """Write a new private key to `path`, readable by its owner only, and the public one beside it.

    Raises:
        ContractError: one of the files is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = path.with_name(f"{path.name}.pub")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        for file, content, mode in ((path, pem, 0o600), (public, public_pem, 0o644)):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                out.write(content)
    except OSError as error:
        raise ContractError(f"{error.filename} cannot be written: {error.strerror}", do="name another file") from error
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return KeyPair(private=path, public=public, fingerprint=sha256_of(raw))


class Signer:
    """A private key.

    Raises:
        ContractError: the file holds no Ed25519 private key.
    """

    def __init__(self, path: Path) -> None:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ContractError(f"{path} is no private key that can be used: {error}", do=_DO) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ContractError(f"{path} is no Ed25519 private key", do=_DO)
        self._key = key

    def sign(self, manifest: bytes) -> bytes:
        """The content of `manifest.sig`."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return canonical_json(
            {"algorithm": _ALGORITHM, "public_key": public.hex(), "signature": self._key.sign(manifest).hex()},
        )


def public_key(path: Path) -> bytes:
    """The 32 bytes of a public key file.

    Raises:
        ContractError: it holds none.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ContractError(f"{path} is no public key that can be used: {error}", do=_DO) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ContractError(f"{path} is no Ed25519 public key", do=_DO)
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def signer_of(signature: bytes, manifest: bytes) -> bytes:
    """The public key whose owner signed the manifest.

    Raises:
        BundleError: the signature is none, or is of something else.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        plain = json.loads(signature)
        if plain.keys() != {"algorithm", "public_key", "signature"} or plain["algorithm"] != _ALGORITHM:
            raise BundleError("it is no Ed25519 signature", entry=SIGNATURE)
        public = bytes.fromhex(plain["public_key"])
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(plain["signature"]), manifest)
    except InvalidSignature as error:
        raise BundleError("the manifest is not what was signed", entry=SIGNATURE) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"it is no signature: {error}", entry=SIGNATURE) from error
    return public
