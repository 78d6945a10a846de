# SPDX-License-Identifier: Apache-2.0
"""A user-mode Linux kernel with nvme-tcp, built from the distribution's own kernel source.

The distribution's user-mode kernel has no nvme-tcp. Ours has what `uml.config` names and nothing
else, which two cores compile in a few minutes, once: the result stays in the project's cache.
`python -m testbed.uml_kernel` builds it, unless it is there, and prints its path.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from testbed.cinder.paths import cache_dir
from testbed.kernel_image import KernelImageError, run_command, unpack_package

CONFIG = Path(__file__).with_name("uml.config")
BUILD_TOOLS = ("bc", "bison", "flex", "gcc", "make", "tar", "xz")
_SOURCE_PACKAGE = re.compile(r"linux-source-\d[\d.]*")
_REPORT_SECONDS = 5.0
_LOG_LINES = 20

# Sources that this kernel cannot use, more than half of the archive. Every Kconfig file stays.
_UNUSED = (
    *("arch/[!ux]*.[chS]", "*.dts", "*.dtsi", "Documentation/*.rst", "Documentation/*.yaml"),
    *("drivers/gpu/*.[ch]", "drivers/infiniband/*.[ch]", "drivers/media/*.[ch]"),
    *("drivers/net/*/*.[ch]", "drivers/scsi/*.[ch]", "drivers/staging/*.[ch]", "sound/*.[ch]"),
    *("tools/perf/*", "tools/testing/*"),
)

_REGISTERS = Path("arch/x86/um/user-offsets.c")
_REGISTERS_BYTES = re.compile(r"(?<=DEFINE_LONGS\(HOST_FP_SIZE, )2696(?=\))")
_MOST_REGISTERS_BYTES = 12288
"""With AMX a processor has 11,008 bytes of registers. Linux before 6.13 has room for 2,696 and ends
at once there, with "ptrace set fp regs failed"; later ones ask the processor."""

Report = Callable[[str], None]


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def uml_kernel(report: Report = _to_stderr) -> Path:
    """The kernel, an executable file, in the cache; built first where there is none.

    `report` is told every few seconds how far the build is; what it raises ends the build.
    Raises `KernelImageError` on a machine that is neither Debian nor Ubuntu on x86-64, or where a
    tool is missing or the build fails.
    """
    folder = cache_dir() / "uml-host"
    folder.mkdir(parents=True, exist_ok=True)
    kernel = folder / f"linux-{hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:12]}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kernel.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _build(Path(scratch), report).rename(kernel)
    return kernel


def _build(scratch: Path, report: Report) -> Path:
    if platform.machine() != "x86_64":
        raise KernelImageError(f"no user-mode kernel for {platform.machine()}, only for x86_64")
    if missing := [tool for tool in BUILD_TOOLS if shutil.which(tool) is None]:
        raise KernelImageError(
            f"to build the user-mode kernel, {', '.join(missing)} must be installed"
        )
    report("user-mode kernel: fetching the kernel source")
    unpack_package("linux-source", _SOURCE_PACKAGE, scratch / "package")
    archives = sorted((scratch / "package/usr/src").glob("**/linux-source-*.tar.*"))
    if not archives:
        raise KernelImageError("the package linux-source holds no archive linux-source-*.tar.*")
    source, build = scratch / "source", scratch / "build"
    source.mkdir()
    exclusions = [f"--exclude={pattern}" for pattern in _UNUSED]
    unpack = ["tar", "-xf", str(archives[-1]), "--strip-components=1", *exclusions]
    run_command(unpack, cwd=source)
    _make_room_for_registers(source / _REGISTERS)
    make = ["make", "-C", str(source), "ARCH=um", f"O={build}", f"KCONFIG_ALLCONFIG={CONFIG}"]
    run_command([*make, "allnoconfig"])
    _check_configuration((build / ".config").read_text())
    _compile([*make, f"-j{len(os.sched_getaffinity(0))}", "linux"], report)
    run_command(["strip", "--strip-debug", str(build / "linux")])
    return build / "linux"


def _make_room_for_registers(file: Path) -> None:
    file.write_text(_REGISTERS_BYTES.sub(str(_MOST_REGISTERS_BYTES), file.read_text()))


def _check_configuration(made: str) -> None:
    """Every option that we name must have come true: one that was dropped is missed later."""
    wanted = [line for line in CONFIG.read_text().splitlines() if line.startswith("CONFIG_")]
    if dropped := sorted(set(wanted) - set(made.splitlines())):
        raise KernelImageError(f"this kernel source does not take {', '.join(dropped)}")


def _compile(make: list[str], report: Report) -> None:
    started = reported = time.monotonic()
    files = 0
    ending: deque[str] = deque(maxlen=_LOG_LINES)
    with subprocess.Popen(
        make, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                ending.append(line)
                files += line.startswith(("  CC ", "  AS "))
                if (now := time.monotonic()) - reported > _REPORT_SECONDS:
                    reported = now
                    report(f"user-mode kernel: {files} files compiled in {now - started:.0f} s")
        except BaseException:  # `report` or Ctrl-C wants an end
            process.terminate()
            raise
    if process.returncode:
        raise KernelImageError(f"`{' '.join(make)}` failed; it ended:\n{''.join(ending)}")


if __name__ == "__main__":
    print(uml_kernel())
