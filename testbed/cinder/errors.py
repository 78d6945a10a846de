# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the Cinder of the testbed."""


class CinderFailed(RuntimeError):
    """A Cinder service or command ended, or a backend did not initialise; ``log`` says why."""

    def __init__(self, what: str, log: str) -> None:
        super().__init__(f"{what} failed:\n{log}")


class CinderTimeout(RuntimeError):
    """Cinder did not reach the wanted state in time."""


class ResourceFailed(RuntimeError):
    """A volume, snapshot or attachment ended in an error state."""
