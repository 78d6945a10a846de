# SPDX-License-Identifier: Apache-2.0
"""Messages about the credentials of projects."""

from __future__ import annotations

from dataclasses import dataclass

from lightos.api.wire import BYTES, STRING, Model, WireEnum, enumeration, many, message, wired


class CredentialType(WireEnum, schema="CredsType"):
    """What the payload of a credential is."""

    UNKNOWN = 0, "UnknownType"
    RS256_PUBLIC_KEY = 1, "RS256PubKey"
    TLS_CERTIFICATE_CHAIN_PEM = 2, "TlsCertChainPem"
    TLS_PRIVATE_KEY_PEM = 3, "TlsPrivKeyPem"


class CredentialKind(WireEnum, schema="CredsKind"):
    """Whose credential it is. There is no 1."""

    USER = 0, "UserCreds"
    BEACON = 2, "BeaconCreds"
    UNKNOWN = 127, "UnknownKind"


@dataclass(frozen=True, kw_only=True)
class Credential(Model, schema="Credential"):
    """A key that a project's tokens are checked with; `credential_id` is unique in it."""

    project: str = wired("projectName", STRING)
    credential_id: str = wired("ID", STRING)
    credential_type: CredentialType = wired(
        "type", enumeration(CredentialType, unknown=CredentialType.UNKNOWN)
    )
    payload: bytes = wired("payload", BYTES)
    kind: CredentialKind = wired(
        "kind", enumeration(CredentialKind, unknown=CredentialKind.UNKNOWN)
    )


@dataclass(frozen=True, kw_only=True)
class CreateCredential(Model, schema="CreateCredentialRequest"):
    """A credential to make."""

    project: str = wired("projectName", STRING, required=True)
    credential_id: str = wired("ID", STRING, required=True)
    credential_type: CredentialType = wired("type", enumeration(CredentialType), required=True)
    payload: bytes = wired("payload", BYTES, required=True)


@dataclass(frozen=True, kw_only=True)
class ListCredentials(Model, schema="ListCredentialsRequest"):
    """Names the project."""

    project: str = wired("projectName", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class CredentialList(Model, schema="ListCredentialsResponse"):
    """Reply of ListCredentials."""

    credentials: tuple[Credential, ...] = wired("credentials", many(message(Credential)))


@dataclass(frozen=True, kw_only=True)
class GetCredential(Model, schema="GetCredentialRequest"):
    """Names one credential."""

    project: str = wired("projectName", STRING, required=True)
    credential_id: str = wired("ID", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class DeleteCredential(Model, schema="DeleteCredentialRequest"):
    """Names the credential to delete; tokens of it are refused from then on."""

    project: str = wired("projectName", STRING, required=True)
    credential_id: str = wired("ID", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class CredentialDeleted(Model, schema="DeleteCredentialResponse"):
    """Empty: the credential was deleted."""
