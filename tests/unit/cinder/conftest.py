# SPDX-License-Identifier: Apache-2.0
"""Needs the `lab` and `openstack` extras; no root, nothing but loopback.

The driver is the real one in the real cinder package, and talks HTTPS to a lab cluster started by
its own command, whose fault plan counts calls and disturbs them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cinder import context, coordination, objects
from cinder.db import api as db
from cinder.volume import configuration
from cinder.volume import driver as cinder_driver
from oslo_config import cfg, fixture

from lightos.openstack.cinder.driver import LightOSVolumeDriver
from testbed.cinder.database import connection_url, provision
from testbed.cluster import Cluster, running_lab
from testbed.faults import Faults

objects.register_all()  # cinder's own modules need it when they are imported

BACKEND = "lightos"
HOST = f"controller-1@{BACKEND}"
"""cinder-volume's own name."""
OTHER_PROJECT = "tenant"
"""A project that the lab has beside `default`."""
OPERATION_SECONDS = 2
"""Time for one operation where the cluster never does what it should."""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with running_lab(tmp_path_factory.mktemp("lab"), projects=OTHER_PROJECT) as lab:
        yield lab


@pytest.fixture(scope="session")
def cluster(lab: dict[str, Any]) -> Cluster:
    return Cluster(lab)


@pytest.fixture
def faults(lab: dict[str, Any]) -> Iterator[Faults]:
    """The lab's fault plan, which has no rules before and after a test."""
    faults = Faults(lab)
    yield faults
    faults.clear()


@pytest.fixture(scope="session", autouse=True)
def _cinder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What cinder-volume sets up before it loads a driver; an empty database of Cinder's."""
    folder = tmp_path_factory.mktemp("cinder")
    provision(folder / "cinder.sqlite")
    cfg.CONF([], project="cinder", default_config_files=[], default_config_dirs=[])
    cfg.CONF.set_override("state_path", str(folder))
    cfg.CONF.set_override("backend_url", f"file://{folder}", "coordination")
    cfg.CONF.set_override("connection", connection_url(folder / "cinder.sqlite"), "database")
    db.get_engine()  # now, while the overrides stand
    coordination.COORDINATOR.start()
    yield
    coordination.COORDINATOR.stop()


@pytest.fixture
def settings(lab: dict[str, Any]) -> dict[str, Any]:
    """The driver's section of cinder.conf; a test may change it before it makes a driver."""
    return {
        "volume_backend_name": BACKEND,
        "lightos_api_address": lab["api_addresses"][:1],
        "lightos_api_port": lab["api_port"],
        "lightos_jwt": Path(lab["jwt_file"]).read_text().strip(),
        "driver_ssl_cert_verify": True,
        "driver_ssl_cert_path": lab["ca_file"],
        "lightos_default_num_replicas": 2,
    }


@pytest.fixture
def make_driver(settings: dict[str, Any]) -> Iterator[Callable[..., LightOSVolumeDriver]]:
    """Make a driver as cinder-volume does, from `settings` and what a test adds."""
    with fixture.Config(cfg.CONF) as conf:
        conf.register_opts(cinder_driver.volume_opts, group=BACKEND)
        conf.register_opts(LightOSVolumeDriver.get_driver_options(), group=BACKEND)
        conf.config(connection=str(db.get_engine().url), group="database")

        def make(
            *, set_up: bool = True, cluster_name: str | None = None, **more: Any
        ) -> LightOSVolumeDriver:
            for name, value in (settings | more).items():
                conf.conf.set_override(name, value, group=BACKEND)
            driver = LightOSVolumeDriver(
                configuration=configuration.Configuration(
                    cinder_driver.volume_opts, config_group=BACKEND
                ),
                host=HOST,
                cluster_name=cluster_name,
            )
            if set_up:
                driver.do_setup(context.get_admin_context())
                driver.check_for_setup_error()
                driver.init_capabilities()
                driver.set_initialized()
            return driver

        yield make


@pytest.fixture
def driver(
    make_driver: Callable[..., LightOSVolumeDriver], monkeypatch: Any
) -> LightOSVolumeDriver:
    driver = make_driver()
    monkeypatch.setattr(driver, "_timeout_seconds", OPERATION_SECONDS)
    return driver


def new_type(
    type_id: str, extra_specs: dict[str, str], qos_specs: dict[str, str] | None = None
) -> objects.VolumeType:
    """A volume type; `qos_specs` are QoS specs for the back end that it is associated with."""
    admin = context.get_admin_context()
    qos_id = None
    if qos_specs is not None:
        specs = objects.QualityOfServiceSpecs(
            admin, name=f"qos-{uuid.uuid4()}", consumer="back-end", specs=dict(qos_specs)
        )
        specs.create()
        qos_id = specs.id
    return objects.VolumeType(
        admin, id=type_id, name="type", extra_specs=extra_specs, qos_specs_id=qos_id
    )


def new_volume(size: int = 1, **fields: Any) -> objects.Volume:
    """A volume as the scheduler hands it to cinder-volume."""
    specs = fields.pop("extra_specs", None)
    type_id = None
    if specs is not None:
        type_id = str(uuid.uuid4())
        fields["volume_type"] = new_type(type_id, specs, fields.pop("qos_specs", None))
    volume = objects.Volume(
        id=str(uuid.uuid4()),
        size=size,
        status="creating",
        _name_id=None,
        provider_id=None,
        volume_type_id=type_id,
        volume_attachment=objects.VolumeAttachmentList(objects=[]),
    )
    volume.update(fields)
    return volume


def new_snapshot(volume: objects.Volume) -> objects.Snapshot:
    return objects.Snapshot(
        id=str(uuid.uuid4()),
        volume=volume,
        volume_id=volume.id,
        volume_size=volume.size,
        provider_id=None,
    )


@pytest.fixture
def created(driver: LightOSVolumeDriver) -> Callable[..., objects.Volume]:
    """Make a volume on the cluster, and remember of it what Cinder would."""

    def create(size: int = 1, **fields: Any) -> objects.Volume:
        volume = new_volume(size, **fields)
        volume.update(driver.create_volume(volume))
        return volume

    return create


def store(volume: objects.Volume, **values: Any) -> None:
    """Put a volume into Cinder's database, as cinder-api does before anyone else hears of it."""
    fields = {
        "id": volume.id,
        "size": volume.size,
        "status": "in-use",
        "attach_status": "attached",
        "host": f"{HOST}#{BACKEND}",
        "volume_type_id": volume.volume_type_id,
        "provider_id": volume.provider_id,
    }
    admin = context.get_admin_context()
    if fields["volume_type_id"] is None:
        fields["volume_type_id"] = db.volume_type_get_by_name(admin, "__DEFAULT__")["id"]
    db.volume_create(admin, fields | values)


def mark(volume: objects.Volume, **values: Any) -> None:
    """What Cinder, or an operator, does to a volume's record."""
    db.volume_update(context.get_admin_context(), volume.id, values)


def reserve_attachment(volume: objects.Volume) -> str:
    """What Cinder does before it asks the driver to give a host access; gives the id."""
    row = {"volume_id": volume.id, "attach_status": "reserved"}
    return str(db.volume_attach(context.get_admin_context(), row)["id"])


def record_attachment(
    volume: objects.Volume, connector: dict[str, Any], attachment_id: str = ""
) -> str:
    """What Cinder does once the driver has given a host access; gives the id."""
    admin = context.get_admin_context()
    attachment_id = attachment_id or reserve_attachment(volume)
    values = {
        "connector": json.dumps(connector),
        "attach_status": "attached",
        "attached_host": connector["host"],
    }
    db.volume_attachment_update(admin, attachment_id, values)
    volume.volume_attachment.objects.append(
        objects.VolumeAttachment(id=attachment_id, volume_id=volume.id, connector=dict(connector))
    )
    return attachment_id


def forget_attachment(volume: objects.Volume, connector: dict[str, Any]) -> None:
    """What Cinder does once the driver has taken the access away."""
    attachments = volume.volume_attachment.objects
    ended = next(a for a in attachments if a.connector == connector)
    attachments.remove(ended)
    db.attachment_destroy(context.get_admin_context(), ended.id)
