# SPDX-License-Identifier: Apache-2.0
"""What discovery.d holds, and random changes of it. Nothing here touches a file."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from lightos.discovery.entries import DiscoveryEntry, format_file

DISCOVERY_PORT = 8009
_SLIP = "-t tcp -a 192.168.75.11 -s 8009 -q\n"
"""A bad line, in a file that never was without one."""


@dataclass(frozen=True)
class Volume:
    """A volume, and the discovery services of its cluster."""

    uuid: str
    subsystem_nqn: str
    services: tuple[str, ...]

    @property
    def file_name(self) -> str:
        return f"{self.uuid}.conf"


@dataclass(frozen=True)
class Change:
    """What to do to the folder. `whole`: a file is renamed into place, else written in pieces."""

    write: dict[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    move: tuple[tuple[str, str], ...] = ()
    whole: bool = True

    def as_arguments(self) -> dict[str, Any]:
        return asdict(self)


class Folder:
    """The files of a host that has some of `volumes` attached, and changes at random."""

    def __init__(self, volumes: Iterable[Volume], host_nqn: str, dice: random.Random) -> None:
        self._volumes = {volume.file_name: volume for volume in volumes}
        self._host_nqn = host_nqn
        self._dice = dice
        self._present: dict[str, Volume] = {}
        self._slip = ""

    @property
    def wanted(self) -> frozenset[str]:
        """NQNs of the subsystems that a file names."""
        return frozenset(volume.subsystem_nqn for volume in self._present.values())

    def step(self) -> tuple[str, Change]:
        """One random change that is possible now, and its name."""
        kinds: list[tuple[int, Callable[[], Change]]] = [
            (30, self._attach),
            (30, self._detach),
            (15, self._rewrite),
            (15, self._rename),
            (5, self._slip_of_the_pen),
            (4, self._detach_a_cluster),
            (4, self._attach_a_cluster),
        ]
        weights, makers = zip(*kinds, strict=True)
        while True:
            (make,) = self._dice.choices(makers, weights)
            change = make()
            if change != Change():
                return make.__name__.strip("_").replace("_", " "), change

    def tidied(self) -> Change:
        """The change that leaves no bad file."""
        slip, self._slip = self._slip, ""
        return Change(remove=(slip,)) if slip else Change()

    def filled(self) -> Change:
        """The change after which there is one good file for every volume and no other."""
        removed = tuple(self._present.keys() - self._volumes.keys())
        self._present = dict(self._volumes)
        contents = {name: self._content(volume) for name, volume in self._volumes.items()}
        return Change(write=contents, remove=removed + self.tidied().remove)

    def _content(self, volume: Volume) -> str:
        services = self._dice.sample(volume.services, self._dice.randint(1, len(volume.services)))
        return format_file(
            [
                DiscoveryEntry(address, DISCOVERY_PORT, self._host_nqn, volume.subsystem_nqn)
                for address in services
            ]
        )

    def _write(self, names: Iterable[str]) -> Change:
        contents = {}
        for name in names:
            volume = self._present.setdefault(name, self._volumes.get(name) or self._present[name])
            contents[name] = self._content(volume)
        return Change(write=contents, whole=self._dice.random() < 0.5)

    def _remove(self, names: Iterable[str]) -> Change:
        removed = tuple(names)
        for name in removed:
            del self._present[name]
        return Change(remove=removed)

    def _attach(self) -> Change:
        attached = {volume.uuid for volume in self._present.values()}
        absent = [name for name, each in self._volumes.items() if each.uuid not in attached]
        return self._write(self._dice.sample(absent, min(len(absent), 1)))

    def _detach(self) -> Change:
        return self._remove(self._dice.sample(list(self._present), min(len(self._present), 1)))

    def _rewrite(self) -> Change:
        return self._write(self._dice.sample(list(self._present), min(len(self._present), 1)))

    def _rename(self) -> Change:
        if not self._present:
            return Change()
        old = self._dice.choice(list(self._present))
        volume = self._present.pop(old)
        new = f"moved-{old}" if old == volume.file_name else volume.file_name
        self._present[new] = volume
        return Change(move=((old, new),))

    def _slip_of_the_pen(self) -> Change:
        if self._slip:
            return self.tidied()
        self._slip = "slip.conf"
        return Change(write={self._slip: _SLIP})

    def _of_a_cluster(self) -> list[str]:
        nqns = sorted({volume.subsystem_nqn for volume in self._volumes.values()})
        nqn = self._dice.choice(nqns)
        return [name for name, each in self._volumes.items() if each.subsystem_nqn == nqn]

    def _attach_a_cluster(self) -> Change:
        attached = {volume.uuid for volume in self._present.values()}
        names = self._of_a_cluster()
        return self._write(name for name in names if self._volumes[name].uuid not in attached)

    def _detach_a_cluster(self) -> Change:
        nqns = {self._volumes[name].subsystem_nqn for name in self._of_a_cluster()}
        return self._remove(
            [name for name, volume in self._present.items() if volume.subsystem_nqn in nqns]
        )
