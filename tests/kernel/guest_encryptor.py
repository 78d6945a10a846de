# SPDX-License-Identifier: Apache-2.0
"""os-brick's LUKS encryptor in a guest, as a service calls it; by `host.call`, JSON both ways."""

from __future__ import annotations

import os
from typing import Any

from castellan.common.objects.symmetric_key import SymmetricKey
from os_brick import encryptors
from os_brick.encryptors.luks import LuksEncryptor

CONTROL_LOCATION = "front-end"
PROVIDER = "luks"
KEY_BITS = 256


class KeyManager:
    """A key store with one key, which lives as long as the guest."""

    _key = SymmetricKey("AES", KEY_BITS, os.urandom(KEY_BITS // 8))

    def get(self, _context: object, _key_id: object) -> SymmetricKey:
        return self._key


def attach(connection_info: dict[str, Any]) -> None:
    """Open the volume, formatting it at first use; its `device_path` leads to what is decrypted."""
    _encryptor(connection_info).attach_volume(None)


def extend(connection_info: dict[str, Any]) -> int:
    """Size in bytes of what is decrypted, after the device has grown."""
    return int(_encryptor(connection_info).extend_volume(None))


def detach(connection_info: dict[str, Any]) -> None:
    _encryptor(connection_info).detach_volume()


def _encryptor(connection_info: dict[str, Any]) -> LuksEncryptor:
    return encryptors.get_volume_encryptor(
        "",
        connection_info,
        KeyManager(),
        provider=PROVIDER,
        control_location=CONTROL_LOCATION,
        encryption_key_id="the-key",
    )
