# SPDX-License-Identifier: Apache-2.0
"""The lab's own certificate authority, and the server certificate of its node addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lightos.lab.errors import LabError
from lightos.lab.faults.rules import CertificateFault
from lightos.lab.files import write_file, write_secret

CA_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
BACKDATED = timedelta(hours=1)
"""Clients whose clock is a little behind accept a new certificate, too."""
ELSEWHERE = "192.0.2.1"
"""An address for documentation (RFC 5737): no node has it."""


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files of one lab; the key files are readable by their owner only."""

    ca: Path
    ca_key: Path
    server: Path
    server_key: Path

    @classmethod
    def in_directory(cls, directory: Path) -> CertificateFiles:
        return cls(
            directory / "ca.pem",
            directory / "ca-key.pem",
            directory / "server.pem",
            directory / "server-key.pem",
        )


def ensure_certificates(
    directory: Path, addresses: Sequence[str], now: datetime
) -> CertificateFiles:
    """Make what is missing; renew the server certificate for new addresses or when it is old.

    Raises LabError for files that cannot be read as what they should be.
    """
    files = CertificateFiles.in_directory(directory)
    if not files.ca.exists() or not files.ca_key.exists():
        _make_ca(files, now)
    elif files.server.exists() and files.server_key.exists():
        try:
            server = x509.load_pem_x509_certificate(files.server.read_bytes())
            ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
        except ValueError as cause:
            raise LabError(
                f"{files.ca} or {files.server} is not a certificate; remove both to have new ones"
            ) from cause
        fresh = server.not_valid_after_utc - now > RENEW_BEFORE
        if fresh and server.issuer == ca.subject and _addresses(server) == set(addresses):
            return files
    _make_server(files, addresses, now)
    return files


def _addresses(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _make_ca(files: CertificateFiles, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own keeps two labs' authorities apart in a client's trust store.
    name = _name(f"LightOS lab CA {x509.random_serial_number():x}"[:48])
    certificate = (
        _builder(name, name, key.public_key(), now)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_secret(files.ca_key, _key_pem(key))
    write_file(files.ca, certificate.public_bytes(serialization.Encoding.PEM))


def _make_server(files: CertificateFiles, addresses: Sequence[str], now: datetime) -> None:
    issuer = _read_ca(files)
    expires = min(now + SERVER_LIFETIME, issuer.certificate.not_valid_after_utc)
    _issue(files, issuer, addresses, now, expires)


@dataclass(frozen=True)
class _Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _read_ca(files: CertificateFiles) -> _Issuer:
    try:
        certificate = x509.load_pem_x509_certificate(files.ca.read_bytes())
        key = serialization.load_pem_private_key(files.ca_key.read_bytes(), password=None)
    except (ValueError, TypeError) as cause:
        raise LabError(
            f"{files.ca} or {files.ca_key} cannot be read; remove both to have a new authority made"
        ) from cause
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LabError(f"{files.ca_key} is not the lab's key; remove it to have a new one made")
    return _Issuer(certificate, key)


def _issue(
    files: CertificateFiles,
    issuer: _Issuer,
    addresses: Sequence[str],
    now: datetime,
    expires: datetime,
) -> None:
    """Write a server certificate and its key; one that expires before `now` began before that."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        _builder(
            _name("LightOS lab API"),
            issuer.certificate.subject,
            key.public_key(),
            min(now, expires),
        )
        .not_valid_after(expires)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
        .sign(issuer.key, hashes.SHA256())
    )
    write_secret(files.server_key, _key_pem(key))
    write_file(files.server, certificate.public_bytes(serialization.Encoding.PEM))


def bad_certificate(
    files: CertificateFiles, fault: CertificateFault, address: str, directory: Path, now: datetime
) -> CertificateFiles:
    """Make, in `directory`, a server certificate that clients of this lab must refuse."""
    bad = CertificateFiles.in_directory(directory)
    if fault is CertificateFault.UNTRUSTED:
        _make_ca(bad, now)
        _issue(bad, _read_ca(bad), [address], now, now + SERVER_LIFETIME)
    else:
        expired = fault is CertificateFault.EXPIRED
        names = [address] if expired else [ELSEWHERE]
        expires = now - BACKDATED if expired else now + BACKDATED
        _issue(bad, _read_ca(files), names, now, expires)
    return bad
