# SPDX-License-Identifier: Apache-2.0
"""A Linux kernel to boot, from the distribution's own package, never installed.

`apt-get download` fetches the package of the running Debian or Ubuntu, `dpkg -x` unpacks it
into the project's cache folder, and a small initramfs carries the modules that are needed to
reach the root file system. Every other module is loaded later, by the guest, from the cache.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
BOOT_MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay", "virtio_net")
REQUIRED_MODULES = (*BOOT_MODULES, "nvme_tcp", "nvmet_tcp", "ext4", "brd", "loop")
_KERNEL_METAPACKAGE = {"debian": "linux-image-amd64", "ubuntu": "linux-image-generic"}
_KERNEL_PACKAGE = re.compile(r"linux-(?:image|modules|modules-extra)-\d.*")


class KernelImageError(Exception):
    """No kernel to boot; says what failed and what to do."""


@dataclass(frozen=True)
class KernelImage:
    """What QEMU boots: `release` is the kernel's `uname -r`."""

    release: str
    kernel: Path
    initramfs: Path
    modules: Path
    """Folder that belongs at /lib/modules."""


def cache_folder() -> Path:
    """`LIGHTOS_CACHE_DIR`, or `.cache` in the checkout."""
    return Path(os.environ.get("LIGHTOS_CACHE_DIR", CHECKOUT / ".cache")) / "kernel-host"


def kernel_image() -> KernelImage:
    """The kernel in the cache, fetched first where there is none.

    Raises `KernelImageError` on a machine that is neither Debian nor Ubuntu on x86-64, or
    where the package cannot be fetched or lacks a module.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _kernel_image(folder)


def _kernel_image(folder: Path) -> KernelImage:
    unpacked = folder / "kernel"
    if not unpacked.exists():
        _fetch(unpacked)
    kernels = sorted((unpacked / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise KernelImageError(f"no kernel in {unpacked}/boot: remove {unpacked} and try again")
    release = kernels[-1].name.removeprefix("vmlinuz-")
    merged = (unpacked / "usr/lib/modules" / release / "kernel").exists()
    base = unpacked / "usr" if merged else unpacked
    modules = base / "lib/modules" / release
    if not (modules / "modules.dep").exists():
        run_command(["depmod", "-b", str(base), release])
    initramfs = folder / f"initramfs-{release}.cpio"
    newest_source = max(Path(__file__).stat().st_mtime, _INIT.stat().st_mtime)
    if not initramfs.exists() or initramfs.stat().st_mtime < newest_source:
        _build_initramfs(modules, initramfs)
    return KernelImage(release, kernels[-1], initramfs, modules.parent)


# ------------------------------------------------------------------ fetching


def _fetch(target: Path) -> None:
    if platform.machine() != "x86_64":
        raise KernelImageError(f"no kernel package known for {platform.machine()}, only x86_64")
    distribution = platform.freedesktop_os_release()["ID"]
    if distribution not in _KERNEL_METAPACKAGE:
        raise KernelImageError(f"no kernel package known for {distribution}: use Debian or Ubuntu")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpack_package(_KERNEL_METAPACKAGE[distribution], _KERNEL_PACKAGE, unpacked)
        unpacked.rename(target)


def unpack_package(metapackage: str, name: re.Pattern[str], target: Path) -> None:
    """Fetch the packages behind `metapackage` whose names match, and unpack them into `target`.

    Raises `KernelImageError`.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        try:
            _download(metapackage, name, scratch)
        except KernelImageError:  # package lists are missing, or older than the archive
            run_command(["apt-get", "update", "-q"])
            _download(metapackage, name, scratch)
        for package in sorted(Path(scratch).glob("*.deb")):
            run_command(["dpkg", "-x", str(package), str(target)])


def _download(metapackage: str, name: re.Pattern[str], folder: str) -> None:
    packages = _dependencies([metapackage], name)
    if not packages:
        raise KernelImageError(f"apt knows no package behind {metapackage}")
    packages |= _dependencies(packages, name)
    run_command(["apt-get", "download", "-q", *sorted(packages)], cwd=folder)


def _dependencies(packages: Iterable[str], name: re.Pattern[str]) -> set[str]:
    shown = subprocess.run(
        ["apt-cache", "depends", "--important", *packages],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    names = re.findall(r"^\s*\|?Depends: (\S+)$", shown, re.MULTILINE)
    return {each for each in names if name.fullmatch(each)}


# ------------------------------------------------------------------ initramfs

_INIT = Path(__file__).with_name("guest_init.sh")


def load_order(modules_dep: str, wanted: Sequence[str]) -> list[str]:
    """Paths of the wanted modules and of all they depend on, dependencies first.

    `modules_dep` is depmod's file: `path: dependency dependency`, nearest dependency first.
    Modules that depmod does not list are built into the kernel, or missing: they are left out.
    """
    dependencies: dict[str, list[str]] = {}
    path_of: dict[str, str] = {}
    for line in modules_dep.splitlines():
        path, _, needs = line.partition(":")
        dependencies[path] = needs.split()
        path_of[module_name(path)] = path
    ordered: list[str] = []
    for name in wanted:
        if name in path_of:
            steps = [*reversed(dependencies[path_of[name]]), path_of[name]]
            ordered += [step for step in steps if step not in ordered]
    return ordered


def module_name(path: str) -> str:
    """The name the kernel gives to a module file."""
    return Path(path).name.partition(".")[0].replace("-", "_")


def _build_initramfs(modules: Path, initramfs: Path) -> None:
    modules_dep = (modules / "modules.dep").read_text()
    builtin = {module_name(line) for line in (modules / "modules.builtin").read_text().split()}
    listed = {module_name(line.partition(":")[0]) for line in modules_dep.splitlines()}
    if missing := [m for m in REQUIRED_MODULES if m not in builtin | listed]:
        raise KernelImageError(f"kernel in {modules} has no module {', '.join(missing)}")
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        raise KernelImageError("/bin/busybox is missing: install the package busybox-static")
    order = load_order(modules_dep, BOOT_MODULES)
    with tempfile.TemporaryDirectory(dir=initramfs.parent) as scratch:
        root = Path(scratch) / "root"
        for name in ("bin", "modules", "proc", "sys", "dev", "mnt"):
            (root / name).mkdir(parents=True)
        shutil.copy2(busybox, root / "bin/busybox")
        (root / "bin/sh").symlink_to("busybox")
        shutil.copy2(_INIT, root / "init")
        (root / "init").chmod(0o755)
        for index, path in enumerate(order):
            content = _decompress(modules / path)
            (root / "modules" / f"{index:02}-{module_name(path)}.ko").write_bytes(content)
        names = "\n".join(str(p.relative_to(root)) for p in sorted(root.rglob("*")))
        archive = Path(scratch) / "initramfs"
        with archive.open("wb") as out:
            subprocess.run(
                ["cpio", "--quiet", "--create", "--format=newc", "--owner=0:0"],
                input=names.encode(),
                stdout=out,
                cwd=root,
                check=True,
            )
        archive.rename(initramfs)


def _decompress(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    return path.read_bytes()


def run_command(argv: Sequence[str], cwd: str | Path | None = None) -> None:
    """Run a command to its end. Raises `KernelImageError` with what it said."""
    try:
        subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise KernelImageError(f"command {argv[0]} is missing") from None
    except subprocess.CalledProcessError as error:
        raise KernelImageError(f"{' '.join(argv)} failed: {error.stderr.strip()}") from None
