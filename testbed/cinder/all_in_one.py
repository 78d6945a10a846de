# SPDX-License-Identifier: Apache-2.0
"""cinder-volume, cinder-scheduler and cinder-api as shipped, in one process on the in-memory bus.

Run by :class:`testbed.cinder.service.CinderService` as a script; everything it does is set by the
configuration folder it is given. What the three services need to share a process:

* the volume service starts before the scheduler, which otherwise waits up to a minute for the
  first capability report;
* ``cinder.service.Service.service_id`` is one class attribute for the whole process, so each
  service restores its own while it reports its state;
* the in-memory bus hands objects over as they are, where a real one makes plain data of them: the
  API copies the scheduler's read-only capabilities;
* root's commands run without ``sudo``, which a bare machine does not have.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cinder import monkey_patch

monkey_patch.patch()  # before anything that binds sockets or locks

import logging as python_logging  # noqa: E402

import os_brick  # noqa: E402
import sqlalchemy  # noqa: E402
from cheroot import wsgi as cheroot_wsgi  # noqa: E402
from cinder import (  # noqa: E402
    i18n,
    objects,
    service,
    utils,
    version,
)

i18n.enable_lazy()

from cinder.common import config as cinder_config  # noqa: E402
from cinder.common import constants  # noqa: E402
from cinder.db import api as database  # noqa: E402
from cinder.image import image_utils  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_log import log as logging  # noqa: E402
from oslo_privsep import priv_context  # noqa: E402
from oslo_service import wsgi as paste  # noqa: E402

CONF = cfg.CONF
LOG = logging.getLogger("lightos.testbed.cinder")

# A 1 GiB image upload outlives cheroot's default of 10 s.
REQUEST_TIMEOUT_SECONDS = 600
API_THREADS = 8
STOP_POLL_SECONDS = 0.2
READY_FILE = "ready.json"

USER = "admin"
PROJECT_ID = "0" * 31 + "1"

_reporting = threading.Lock()


class ColocatedService(service.Service):  # type: ignore[misc]
    """A Cinder service that shares its process with others of other binaries."""

    def report_state(self) -> None:
        with _reporting:
            shared_id = service.Service.service_id
            service.Service.service_id = self.origin_service_id
            try:
                super().report_state()
            finally:
                service.Service.service_id = shared_id


class DirectCalls:
    """Stands in for eventlet's thread pool where there are real threads already."""

    @staticmethod
    def execute(function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    @staticmethod
    def Proxy(target: Any, **_kwargs: Any) -> Any:
        return target


def make_capabilities_copyable() -> None:
    from cinder.scheduler import host_manager  # noqa: PLC0415 - after the objects are registered

    def copy(capabilities: Mapping[str, Any]) -> dict[str, Any]:
        return dict(capabilities)

    host_manager.ReadOnlyDict.copy = copy


def load_configuration(config_dir: Path) -> None:
    objects.register_all()
    CONF(
        ["--config-file", str(config_dir / "cinder.conf")],
        project="cinder",
        version=version.version_string(),
    )
    cinder_config.set_middleware_defaults()
    logging.setup(CONF, "cinder")
    python_logging.captureWarnings(True)
    priv_context.init(
        root_helper=["env"] if os.geteuid() == 0 else shlex.split(utils.get_root_helper())
    )
    os_brick.setup(CONF)
    make_capabilities_copyable()
    if utils.concurrency_mode_threading():
        image_utils.tpool = DirectCalls
        lock_database_per_transaction()


def lock_database_per_transaction() -> None:
    """Make threads queue for SQLite's write lock when a transaction begins.

    A transaction that reads before it writes otherwise fails with "database is locked" as soon as
    another one wrote in between, whatever the lock's time-out.
    """

    @sqlalchemy.event.listens_for(database.get_engine(), "before_cursor_execute", retval=True)
    def begin_immediately(
        _connection: object, _cursor: object, statement: str, parameters: object, *_: object
    ) -> tuple[str, object]:
        return ("BEGIN IMMEDIATE" if statement == "BEGIN" else statement), parameters


def start_volume_services() -> dict[str, ColocatedService]:
    """Start a volume service per backend; as in cinder-volume, one that cannot start is left out.

    Ends the process when none could.
    """
    host_option = cfg.StrOpt("backend_host")
    services = {}
    for backend in CONF.enabled_backends:
        CONF.register_opt(host_option, group=backend)
        host = f"{CONF[backend].backend_host or CONF.host}@{backend}"
        try:
            volume_service = ColocatedService.create(
                host=host, service_name=backend, binary=constants.VOLUME_BINARY, coordination=True
            )
        except Exception:
            LOG.exception("Volume service %s failed to start.", host)
            continue
        volume_service.start()
        services[backend] = volume_service
    if not services:
        sys.exit("No volume service started successfully.")
    return services


def start_scheduler() -> ColocatedService:
    """Start the scheduler without making it the owner of the process's service id."""
    volume_service_id = service.Service.service_id
    scheduler: ColocatedService = ColocatedService.create(binary=constants.SCHEDULER_BINARY)
    scheduler.start()
    service.Service.service_id = volume_service_id
    return scheduler


def without_login(application: WSGIApplication) -> WSGIApplication:
    """Let requests without a token be the administrator's.

    Cinder's noauth middleware takes user and project from the token and answers a request that
    has none, such as every client's version discovery, with an empty login reply.
    """

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault("HTTP_X_AUTH_TOKEN", f"{USER}:{PROJECT_ID}")
        return application(environ, start_response)

    return serve


def start_api() -> cheroot_wsgi.Server:
    api = cheroot_wsgi.Server(
        (CONF.osapi_volume_listen, CONF.osapi_volume_listen_port),
        without_login(paste.Loader(CONF).load_app("osapi_volume")),
        numthreads=API_THREADS,
        timeout=REQUEST_TIMEOUT_SECONDS,
    )
    # eventlet's select does not notice a kept connection that comes back while it waits.
    api.keep_alive_conn_limit = 0
    api.prepare()
    threading.Thread(target=api.serve, name="api", daemon=True).start()
    return api


def announce(config_dir: Path, volume_services: dict[str, ColocatedService]) -> None:
    """Tell whoever waits that the services answer, and which backends initialised."""
    ready = config_dir / READY_FILE
    partial = ready.with_suffix(".partial")
    working = [name for name, svc in volume_services.items() if svc.manager.is_working()]
    partial.write_text(json.dumps({name: name in working for name in CONF.enabled_backends}))
    partial.replace(ready)


def wait_for_stop_signal() -> None:
    signals: list[int] = []
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda number, _frame: signals.append(number))
    while not signals:
        time.sleep(STOP_POLL_SECONDS)


def finish_requests(services: list[ColocatedService]) -> None:
    """Take no new request from the bus and wait for those being worked on."""
    servers = [
        server
        for svc in services
        for server in (svc.rpcserver, svc.backend_rpcserver)
        if server is not None
    ]
    for server in servers:
        server.stop()
    for server in servers:
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config_dir", type=Path)
    config_dir = parser.parse_args().config_dir
    load_configuration(config_dir)

    volume_services = start_volume_services()
    scheduler = start_scheduler()
    api = start_api()
    announce(config_dir, volume_services)
    LOG.info("Block Storage API on %s port %s", *api.bind_addr[:2])

    wait_for_stop_signal()
    api.stop()
    finish_requests([*volume_services.values(), scheduler])
    # Timers and the bus keep non-daemon threads that nothing needs any more.
    python_logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
