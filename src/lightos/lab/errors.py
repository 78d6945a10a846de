# SPDX-License-Identifier: Apache-2.0
"""What the lab refuses, and how: one class for each gRPC status that the cluster answers with."""

from __future__ import annotations

from typing import ClassVar

from lightos.api.errors import GrpcCode


class LabError(Exception):
    """The lab cannot start or go on; the text is one line that names the cause and the fix."""


class ClusterError(Exception):
    """A request the cluster refuses, with a sentence for whoever made it."""

    code: ClassVar[GrpcCode]


class InvalidArgument(ClusterError):
    code = GrpcCode.INVALID_ARGUMENT


class NotFound(ClusterError):
    code = GrpcCode.NOT_FOUND


class AlreadyExists(ClusterError):
    code = GrpcCode.ALREADY_EXISTS


class PermissionDenied(ClusterError):
    code = GrpcCode.PERMISSION_DENIED


class FailedPrecondition(ClusterError):
    code = GrpcCode.FAILED_PRECONDITION


class Unimplemented(ClusterError):
    code = GrpcCode.UNIMPLEMENTED


class Internal(ClusterError):
    code = GrpcCode.INTERNAL


class Unavailable(ClusterError):
    code = GrpcCode.UNAVAILABLE


class Unauthenticated(ClusterError):
    code = GrpcCode.UNAUTHENTICATED
