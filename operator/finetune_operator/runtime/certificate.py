"""The progress endpoint's certificate: read from files, or made here once and kept.

An authority is made, signs one serving certificate and its key is thrown away. Where the files come
from (a mounted Secret, a state directory) is the caller's matter.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=3650)
FILES = ("ca.crt", "tls.crt", "tls.key")


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts; `authority` is what clients verify with."""

    authority: str
    chain: str
    key: str

    def files(self) -> dict[str, str]:
        return dict(zip(FILES, (self.authority, self.chain, self.key), strict=True))


def read(directory: Path) -> Certificate | None:
    """What this directory holds, None if nothing yet. Without ca.crt, tls.crt is trusted."""
    authority, chain, key = (directory / name for name in FILES)
    if not (chain.exists() and key.exists()):
        return None
    trusted = authority if authority.exists() else chain
    return Certificate(trusted.read_text(), chain.read_text(), key.read_text())


def write(certificate: Certificate, directory: Path) -> None:
    """Keep the certificate for the next start, readable by this user only."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in certificate.files().items():
        path = directory / name
        path.touch(mode=0o600)
        path.write_text(text)


def context(certificate: Certificate, directory: Path) -> ssl.SSLContext:
    """A server's TLS context. OpenSSL reads files only, so they are put into `directory`."""
    write(certificate, directory)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    return made


def make(hosts: Sequence[str], now: datetime | None = None) -> Certificate:
    """A new authority and a serving certificate for these host names and addresses."""
    now = now or datetime.now(UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("finetune-operator authority")
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = (
        _builder(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    serving = (
        _builder(_name("finetune-operator"), ca_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Certificate(
        authority=authority.public_bytes(Encoding.PEM).decode(),
        chain=serving.public_bytes(Encoding.PEM).decode(),
        key=pem.decode(),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of nodes differ
        .not_valid_after(now + VALID)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
