"""Certificates for tests: authorities, and what they issue to services and callers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

LOCAL: Sequence[x509.GeneralName] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ip_address("127.0.0.1")),
)
"""The names of a service on this machine."""


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def dns(text: str) -> x509.GeneralName:
    return x509.DNSName(text)


def ip(text: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(text))


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM."""

    chain: bytes
    private: ec.EllipticCurvePrivateKey

    @property
    def key(self) -> bytes:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def encrypted_key(self, password: bytes) -> bytes:
        encryption = BestAvailableEncryption(password)
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.pem and NAME.key, each in the place of one before; return both."""
        return written(directory / f"{name}.pem", self.chain), written(
            directory / f"{name}.key", self.key
        )


def written(path: Path, content: bytes) -> Path:
    """Write a file for the user alone, in the place of one before."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.chmod(0o600)
    new.replace(path)
    return path


@dataclass(frozen=True)
class Authority:
    """Issues certificates. name: of its own, which is the same for no two of a test."""

    name: str
    private: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def certificate(self) -> bytes:
        """Its own certificate, in PEM."""
        basic = x509.BasicConstraints(ca=True, path_length=None)
        built = self._builder(self._name, self.private, timedelta(days=30))
        signed = built.add_extension(basic, critical=True).sign(self.private, SHA256())
        return signed.public_bytes(Encoding.PEM)

    def issue(
        self,
        *names: x509.GeneralName,
        common_name: str = "",
        lifetime: timedelta = timedelta(days=30),
    ) -> Issued:
        """Return a certificate with these names; one that has expired if its life is negative."""
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or "anything")])
        built = self._builder(subject, private, lifetime)
        if names:
            built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued(built.sign(self.private, SHA256()).public_bytes(Encoding.PEM), private)

    @property
    def _name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])

    def _builder(
        self, subject: x509.Name, private: ec.EllipticCurvePrivateKey, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + lifetime)
        )


@dataclass
class Files:
    """Certificates as they would be in files. It is its own keeper: see `rpc.tls.Keeper`."""

    issued: Issued
    client_ca: bytes | None = None

    def __post_init__(self) -> None:
        self.current = self

    @property
    def chain(self) -> bytes:
        return self.issued.chain

    @property
    def key(self) -> bytes:
        return self.issued.key
