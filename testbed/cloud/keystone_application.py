# SPDX-License-Identifier: Apache-2.0
"""Keystone's WSGI application, with the cloud's users and catalogue already in the database.

`keystone-manage bootstrap` and then a request for each user and endpoint would do the same with a
second process and a dozen seconds more. Loaded by wsgi.py; what is to be there is said by
identities.json beside keystone.conf.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from keystone.cmd import bootstrap
from keystone.common import provider_api
from keystone.wsgi.api import application

__all__ = ["application"]

DOMAIN_ID = "default"


def provide(wanted: dict[str, Any]) -> None:
    """Make administrator, service users and catalogue, unless an earlier start did."""
    api = provider_api.ProviderAPIs
    # The application has loaded the back ends, and they can be loaded only once.
    bootstrap.backends.load_backends = lambda: None
    first = bootstrap.Bootstrapper()
    first.immutable_roles = True
    first.admin_username = first.project_name = wanted["admin"]["name"]
    first.admin_password = wanted["admin"]["password"]
    first.admin_role_name = "admin"
    first.region_id = wanted["region"]
    first.service_name = "keystone"
    first.public_url = wanted["identity"]["public"]
    first.internal_url = first.admin_url = wanted["identity"]["internal"]
    first.bootstrap()
    if any(project["name"] == wanted["project"] for project in api.resource_api.list_projects()):
        return

    project = _with_id({"name": wanted["project"], "domain_id": DOMAIN_ID, "enabled": True})
    api.resource_api.create_project(project["id"], project)
    for login in wanted["users"]:
        user = api.identity_api.create_user({**login, "domain_id": DOMAIN_ID, "enabled": True})
        for role_id in (first.admin_role_id, first.service_role_id):
            api.assignment_api.add_role_to_user_and_project(user["id"], project["id"], role_id)
    for entry in wanted["catalogue"]:
        service = _with_id({"name": entry["name"], "type": entry["type"], "enabled": True})
        api.catalog_api.create_service(service["id"], service)
        for interface, url in entry["urls"].items():
            endpoint = _with_id(
                {
                    "service_id": service["id"],
                    "interface": interface,
                    "url": url,
                    "region_id": wanted["region"],
                    "enabled": True,
                }
            )
            api.catalog_api.create_endpoint(endpoint["id"], endpoint)


def _with_id(fields: dict[str, Any]) -> dict[str, Any]:
    return {"id": uuid.uuid4().hex, **fields}


provide(
    json.loads(
        Path(os.environ["OS_KEYSTONE_CONFIG_FILES"]).with_name("identities.json").read_text()
    )
)
