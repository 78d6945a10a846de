# SPDX-License-Identifier: Apache-2.0
"""An image of a volume, and a volume of that image: how long, and how much data travels.

Cinder's own services do both, in a cloud of their own: here its API is called, not the driver.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.cinder.side import BenchLab
from bench.part import Goal, Grid, Note, Part, Result, at_most, number
from bench.sides import INCUMBENT, OURS
from testbed.cinder.client import CinderClient
from testbed.cloud.cinder import DEFAULT_VOLUME_TYPE
from testbed.cloud.cloud import Cloud
from testbed.cloud.disk import Content, Disks, InnerCluster
from testbed.cloud.images import upload
from testbed.cluster import GIB


@dataclass(frozen=True)
class Size:
    """Of a volume, and of the data in it."""

    size_gib: int
    data_bytes: int


MEASURED, WARM_UP = Size(4, GIB), Size(1, GIB // 16)
PIECE_BYTES = 256 << 10
TIMEOUT_SECONDS = 1200.0
UPLOAD, DOWNLOAD = "image of the volume", "volume of the image"
SPARSE = "ours, lightos_sparse_image_upload"
VOLUME_TYPES = {OURS: DEFAULT_VOLUME_TYPE, SPARSE: "lightos-2", INCUMBENT: DEFAULT_VOLUME_TYPE}
"""By driver; that of `SPARSE` is of the back end that has the option."""
TIMES_THE_DATA = 1.05

T = TypeVar("T")


class CopyDiffers(RuntimeError):
    """A volume of an image does not hold what the volume did that the image is of."""


def measure(note: Note) -> Result:
    rows: list[dict[str, Any]] = []
    note("starting a cloud")
    # On disk: image, its copy on the way, and the volumes are too large for memory.
    with (
        tempfile.TemporaryDirectory(prefix="lightos-bench-") as folder,
        Cloud(Path(folder) / "cloud", lightos={"image_volume_cache_enabled": False}) as cloud,
    ):
        for driver in VOLUME_TYPES:
            if driver == INCUMBENT:
                note("starting cinder-volume with the incumbent")
                cloud.use_incumbent()
            if driver != SPARSE:  # whose cinder-volume has worked before
                list(there_and_back(cloud, driver, WARM_UP, note))
            rows.extend(there_and_back(cloud, driver, MEASURED, note))
    return {"images": {**asdict(MEASURED), "rows": rows}}


def there_and_back(cloud: Cloud, driver: str, size: Size, note: Note) -> Iterator[dict[str, Any]]:
    """The row of each operation. Raises `CopyDiffers`."""
    cinder = CinderClient(cloud.admin.block_storage, timeout_seconds=TIMEOUT_SECONDS)
    disks = Disks(cinder, InnerCluster(cloud.lab.info, cloud.network))
    on = BenchLab(cloud.lab.info, cloud.lab.state_dir)
    content = scattered(driver, size.size_gib * GIB, size.data_bytes)
    volume_type = cloud.admin.block_storage.find_type(VOLUME_TYPES[driver])

    note(f"{driver}: writing {size.size_gib} GiB")
    volume = cinder.create_volume(size.size_gib, volume_type=volume_type)
    disks.write(volume.id, content)
    note(f"{driver}: {UPLOAD}")
    image, row = measured(on, lambda: upload(cloud, volume.id, "raw", TIMEOUT_SECONDS))
    yield {"operation": UPLOAD, "driver": driver, **row}
    note(f"{driver}: {DOWNLOAD}")
    copy, row = measured(
        on, lambda: cinder.create_volume(size.size_gib, volume_type=volume_type, image_id=image.id)
    )
    yield {"operation": DOWNLOAD, "driver": driver, **row}
    note(f"{driver}: comparing the volumes")
    if disks.sha256(copy.id) != content.sha256(size.size_gib * GIB):
        raise CopyDiffers(driver)
    cloud.admin.image.delete_image(image)
    for each in (volume, copy):
        cinder.delete_volume(each.id)


def measured(on: BenchLab, operation: Callable[[], T]) -> tuple[T, dict[str, Any]]:
    """What the operation gives; its time, and what the cluster's hosts read and wrote meanwhile."""
    before, began = on.traffic(), time.monotonic()
    done = operation()
    seconds = time.monotonic() - began
    seen = on.traffic().since(before)
    return done, {
        "seconds": round(seconds, 2),
        "read_bytes": seen.read_bytes,
        "written_bytes": seen.written_bytes,
    }


def scattered(seed: str, size_bytes: int, data_bytes: int) -> Content:
    """So many bytes, in equal pieces at random places: nothing looks for equals."""
    source = random.Random(seed)  # noqa: S311 - no secrets
    piece = source.randbytes(PIECE_BYTES)
    places = source.sample(range(size_bytes // PIECE_BYTES), data_bytes // PIECE_BYTES)
    return Content({place * PIECE_BYTES: piece for place in places})


def goals(result: Result) -> list[Goal]:
    found = result["images"]
    data_gib = found["data_bytes"] / GIB
    rows = {(row["operation"], row["driver"]): row for row in found["rows"]}
    return [
        at_most(
            f"{operation}, {driver}: {what}",
            rows[operation, driver][f"{what}_bytes"] / GIB,
            TIMES_THE_DATA * data_gib,
            "GiB",
        )
        for operation, driver, what in (
            (UPLOAD, SPARSE, "read"),
            (DOWNLOAD, OURS, "written"),
            (DOWNLOAD, SPARSE, "written"),
        )
    ]


def grids(result: Result) -> list[Grid]:
    found = result["images"]
    title = f"{found['size_gib']} GiB with {number(found['data_bytes'] / GIB)} GiB of data, raw"
    rows = [
        [
            row["operation"],
            row["driver"],
            number(row["seconds"]),
            *(number(round(row[f"{what}_bytes"] / GIB, 3)) for what in ("read", "written")),
        ]
        for row in found["rows"]
    ]
    return [Grid(title, ["operation", "driver", "s", "GiB read", "GiB written"], rows, 2)]


PART = Part("images", "volume to image and back", 9, measure, goals, grids, on_request=True)
