# SPDX-License-Identifier: Apache-2.0
"""QoS policies that exist because volume types ask for their limit.

Volumes with the same limit share one policy, found by its name, and the last of them takes it
along. A lock for each name keeps the cinder-volume processes of one deployment from making and
deleting it at once. Another deployment on the same cluster does not take that lock: the cluster
refuses to delete a policy that a volume has, and a write that names one that is gone is made
again, with a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lightos.api.client import LightOSClient
from lightos.api.errors import Forbidden, LightOSError, NotFound, Refused
from lightos.api.models.policies import CreatePolicy, Policy
from lightos.api.models.projects import PolicyType
from lightos.openstack.cinder import locks
from lightos.openstack.cinder.cluster import CLEANUP_SECONDS, ClusterOperations
from lightos.openstack.cinder.qos import (
    POLICY_DESCRIPTION,
    Limit,
    PolicyRef,
    is_made_on_demand,
)
from lightos.openstack.cinder.volume_types import VolumeSpecs
from lightos.waiting import Deadline

LOG = logging.getLogger(__name__)

POLICY_LOCK = "lightos-qos-policy-{name}"

Done = TypeVar("Done")


class QosPolicies:
    """Makes, finds and deletes policies. Thread-safe."""

    def __init__(self, cluster: ClusterOperations) -> None:
        self._cluster = cluster

    @property
    def _client(self) -> LightOSClient:
        return self._cluster.client

    def _with_policy_of(
        self, limit: Limit, deadline: Deadline, write: Callable[[str], Done]
    ) -> Done:
        """Do a write that gives a volume the policy with this limit; `write` gets its UUID.

        A failed write leaves no policy behind that it alone needed.
        """
        while True:
            policy = self._provide(limit.policy_name, limit, deadline)
            with self._dropped_on_failure(policy.uuid):
                try:
                    return write(policy.uuid)
                except (NotFound, Refused):
                    if deadline.expired or self._exists(policy.uuid, deadline):
                        raise
            LOG.info("QoS policy %s was deleted meanwhile; making it again", policy.name)

    def with_policy(
        self, specs: VolumeSpecs, deadline: Deadline, write: Callable[[PolicyRef | None], Done]
    ) -> Done:
        """Do a write that gives a volume its type's policy; `write` gets None where it has none."""
        if specs.qos_limit:
            return self._with_policy_of(
                specs.qos_limit, deadline, lambda uuid: write(PolicyRef(uuid=uuid))
            )
        named = PolicyRef(uuid=specs.qos_policy_uuid, name=specs.qos_policy_name)
        return write(named if specs.has_qos else None)

    @contextmanager
    def _dropped_on_failure(self, uuid: str) -> Iterator[None]:
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if not is_done:
                self.drop_if_unused(uuid)

    def default_of(self, project: str, deadline: Deadline) -> str | None:
        """UUID of the policy that volumes of a project have when they name none; may be empty.

        None when the token may not tell.
        """
        try:
            policies = self._client.get_project(project, deadline).default_policies
        except (Forbidden, NotFound, Refused) as error:
            LOG.debug("Whether there is a default QoS policy is not known: %s", error)
            return None
        uuids = (p.policy_uuid for p in policies if p.policy_type is PolicyType.QOS_RATE_LIMIT)
        return next(uuids, "")

    def drop_if_unused(self, uuid: str) -> None:
        """Delete a policy that no volume has, if it was made on demand; never raises for it."""
        deadline = self._client.deadline(CLEANUP_SECONDS)
        try:
            policy = self._client.get_policy(uuid, deadline)
            if is_made_on_demand(policy):
                self._drop(policy.name, uuid, deadline)
        except NotFound:
            return
        except LightOSError as error:
            LOG.warning("QoS policy %s stays, though perhaps no volume has it: %s", uuid, error)

    def drop_all_unused(self, deadline: Deadline) -> None:
        """Delete what a crash, or a change of the QoS specs themselves, left unused."""
        try:
            ours = [p for p in self._client.list_policies(deadline) if is_made_on_demand(p)]
            volumes = self._client.list_volumes(None, deadline) if ours else ()
            used = {volume.qos_policy_uuid for volume in volumes}
        except Forbidden as error:
            LOG.debug("A token of one project made no policies: %s", error)
            return
        for policy in ours:
            if policy.uuid not in used:
                self.drop_if_unused(policy.uuid)

    @locks.synchronized(POLICY_LOCK)
    def _provide(self, name: str, limit: Limit, deadline: Deadline) -> Policy:
        try:
            policy = self._client.get_policy_by_name(name, deadline)
        except NotFound:
            return self._make(name, limit, deadline)
        if limit.is_that_of(policy):
            return policy
        reason = f"it has another limit than its name says; QoS spec {limit.kind.key!r} needs it"
        raise Refused("GetPolicy", f"QoS policy {name}", reason)

    def _make(self, name: str, limit: Limit, deadline: Deadline) -> Policy:
        request = CreatePolicy(
            name=name, description=POLICY_DESCRIPTION, rate_limit=limit.rate_limit
        )
        try:
            return self._cluster.create_policy(request, deadline)
        except Forbidden as error:
            raise Forbidden(
                "CreatePolicy",
                f"QoS policy {name}",
                f"QoS spec {limit.kind.key!r} needs this policy, and the token of lightos_jwt may "
                "not make it; give Cinder a token that may, or make the policy by hand "
                f"({error.reason})",
                http_status=error.http_status,
                grpc_code=error.grpc_code,
            ) from error

    @locks.synchronized(POLICY_LOCK)
    def _drop(self, name: str, uuid: str, deadline: Deadline) -> None:
        volumes = self._client.list_volumes(None, deadline)
        if any(volume.qos_policy_uuid == uuid for volume in volumes):
            return
        try:
            self._client.delete_policy(uuid, deadline)
        except Refused as refusal:
            LOG.info("QoS policy %s is in use again: %s", name, refusal)
        else:
            LOG.info("QoS policy %s is deleted: no volume has it", name)

    def _exists(self, uuid: str, deadline: Deadline) -> bool:
        try:
            self._client.get_policy(uuid, deadline)
        except NotFound:
            return False
        return True
