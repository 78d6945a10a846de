# SPDX-License-Identifier: Apache-2.0
"""Numbers that the NVM Express specifications assign.

"Base" is the NVM Express Base Specification 2.0, "Transport" the NVMe/TCP Transport
Specification 1.0, "NVM" the NVM Command Set Specification 1.0. No behaviour lives here.
"""

from __future__ import annotations

import enum

DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
NQN_MAX_BYTES = 223
"""Longest NVMe Qualified Name, without the terminating NUL (Base, "NVMe Qualified Names")."""

DYNAMIC_CONTROLLER_ID = 0xFFFF
ALL_NAMESPACES = 0xFFFFFFFF
COMMAND_BYTES = 64
ADMIN_IN_CAPSULE_BYTES = 8192
"""In-capsule data that every admin queue takes (Transport 3.3.2, "Capsules")."""


class Role(enum.Enum):
    """Which end of the TCP connection this is."""

    HOST = "host"
    CONTROLLER = "controller"


class PduType(enum.IntEnum):
    """Transport, figure "PDU Types"."""

    IC_REQ = 0x00
    IC_RESP = 0x01
    H2C_TERM_REQ = 0x02
    C2H_TERM_REQ = 0x03
    CAPSULE_CMD = 0x04
    CAPSULE_RESP = 0x05
    H2C_DATA = 0x06
    C2H_DATA = 0x07
    R2T = 0x09


class FatalError(enum.IntEnum):
    """Fatal Error Status of a TermReq PDU (Transport, figures "H2CTermReq"/"C2HTermReq")."""

    INVALID_PDU_HEADER_FIELD = 0x01
    PDU_SEQUENCE_ERROR = 0x02
    HEADER_DIGEST_ERROR = 0x03
    DATA_TRANSFER_OUT_OF_RANGE = 0x04
    TRANSFER_LIMIT_EXCEEDED = 0x05
    """"R2T Limit Exceeded" from a host, "Data Transfer Limit Exceeded" from a controller."""
    UNSUPPORTED_PARAMETER = 0x06


class AdminOpcode(enum.IntEnum):
    """Base, figure "Opcodes for Admin Commands"."""

    GET_LOG_PAGE = 0x02
    IDENTIFY = 0x06
    ABORT = 0x08
    SET_FEATURES = 0x09
    GET_FEATURES = 0x0A
    ASYNC_EVENT_REQUEST = 0x0C
    KEEP_ALIVE = 0x18
    FABRICS = 0x7F


class IoOpcode(enum.IntEnum):
    """NVM, figure "Opcodes for NVM Commands"; Base, figure "Opcodes for I/O Commands"."""

    FLUSH = 0x00
    WRITE = 0x01
    READ = 0x02
    COMPARE = 0x05
    WRITE_ZEROES = 0x08
    DATASET_MANAGEMENT = 0x09
    RESERVATION_REGISTER = 0x0D
    RESERVATION_REPORT = 0x0E
    RESERVATION_ACQUIRE = 0x11
    RESERVATION_RELEASE = 0x15


class FabricsType(enum.IntEnum):
    """Base, figure "Fabrics Command Type"."""

    PROPERTY_SET = 0x00
    CONNECT = 0x01
    PROPERTY_GET = 0x04
    DISCONNECT = 0x08


class Property(enum.IntEnum):
    """Offsets of controller properties (Base, figure "Property Definition")."""

    CAP = 0x00
    VS = 0x08
    CC = 0x14
    CSTS = 0x1C


class Status(enum.IntEnum):
    """Status Code Type in bits 10:8, Status Code in bits 7:0 (Base, "Status Field").

    Also ones that the lab never answers: `CommandFailed` names what any controller answered.
    """

    SUCCESS = 0x000
    INVALID_OPCODE = 0x001
    INVALID_FIELD = 0x002
    COMMAND_ID_CONFLICT = 0x003
    DATA_TRANSFER_ERROR = 0x004
    INTERNAL_ERROR = 0x006
    ABORT_REQUESTED = 0x007
    INVALID_NAMESPACE = 0x00B
    COMMAND_SEQUENCE_ERROR = 0x00C
    DATA_SGL_LENGTH_INVALID = 0x00F
    SGL_DESCRIPTOR_TYPE_INVALID = 0x011
    SGL_OFFSET_INVALID = 0x016
    HOST_IDENTIFIER_INCONSISTENT_FORMAT = 0x018
    KEEP_ALIVE_TIMEOUT_INVALID = 0x01A
    ABORTED_BY_PREEMPT_AND_ABORT = 0x01B
    TRANSIENT_TRANSPORT_ERROR = 0x022
    LBA_OUT_OF_RANGE = 0x080
    CAPACITY_EXCEEDED = 0x081
    RESERVATION_CONFLICT = 0x083
    ASYNC_EVENT_LIMIT_EXCEEDED = 0x105
    INVALID_LOG_PAGE = 0x109
    FEATURE_NOT_SAVEABLE = 0x10D
    FEATURE_NOT_CHANGEABLE = 0x10E
    CONNECT_INCOMPATIBLE_FORMAT = 0x180
    CONNECT_CONTROLLER_BUSY = 0x181
    CONNECT_INVALID_PARAMETERS = 0x182
    CONNECT_INVALID_HOST = 0x184
    INVALID_QUEUE_TYPE = 0x185
    WRITE_FAULT = 0x280
    UNRECOVERED_READ_ERROR = 0x281
    COMPARE_FAILURE = 0x285
    ANA_PERSISTENT_LOSS = 0x301
    ANA_INACCESSIBLE = 0x302
    ANA_TRANSITION = 0x303


class Cns(enum.IntEnum):
    """Controller or Namespace Structure of Identify (Base, figure "Identify - CNS Values")."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    ACTIVE_NAMESPACES = 0x02
    NAMESPACE_DESCRIPTORS = 0x03
    COMMAND_SET_NAMESPACE = 0x05
    COMMAND_SET_CONTROLLER = 0x06
    COMMAND_SET_ACTIVE_NAMESPACES = 0x07
    INDEPENDENT_NAMESPACE = 0x08
    CONTROLLERS = 0x13
    COMMAND_SETS = 0x1C


class LogPage(enum.IntEnum):
    """Base, figure "Get Log Page - Log Page Identifiers"."""

    SUPPORTED = 0x00
    ERROR_INFORMATION = 0x01
    SMART = 0x02
    FIRMWARE_SLOT = 0x03
    CHANGED_NAMESPACES = 0x04
    COMMANDS_SUPPORTED = 0x05
    ANA = 0x0C
    DISCOVERY = 0x70
    RESERVATION_NOTIFICATION = 0x80


class Feature(enum.IntEnum):
    """Base, figure "Set Features - Feature Identifiers"."""

    ARBITRATION = 0x01
    POWER_MANAGEMENT = 0x02
    TEMPERATURE_THRESHOLD = 0x04
    ERROR_RECOVERY = 0x05
    VOLATILE_WRITE_CACHE = 0x06
    NUMBER_OF_QUEUES = 0x07
    WRITE_ATOMICITY = 0x0A
    ASYNC_EVENT_CONFIGURATION = 0x0B
    KEEP_ALIVE_TIMER = 0x0F
    HOST_IDENTIFIER = 0x81
    RESERVATION_NOTIFICATION_MASK = 0x82
    RESERVATION_PERSISTENCE = 0x83


class AsyncEvent(enum.IntEnum):
    """Completion dword 0 of an event: type bits 2:0, information 15:8, log page 23:16.

    Base, figures "Asynchronous Event Request - Completion Queue Entry Dword 0", "Notice" and
    "I/O Command Specific Status". The bit that unmasks a notice is in `AEC_BIT`; reservation
    events are masked by namespace, by a feature of their own.
    """

    NAMESPACE_ATTRIBUTE_CHANGED = 0x04_00_02
    ANA_CHANGE = 0x0C_03_02
    DISCOVERY_LOG_CHANGE = 0x70_F0_02
    RESERVATION_LOG_AVAILABLE = 0x80_00_06


AEC_BIT = {
    AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED: 1 << 8,
    AsyncEvent.ANA_CHANGE: 1 << 11,
    AsyncEvent.DISCOVERY_LOG_CHANGE: 1 << 31,
}
"""Bits of Asynchronous Event Configuration and of OAES (Base, figure "Feature 0Bh")."""


class ReservationType(enum.IntEnum):
    """RTYPE (Base, figure "Reservation Type Encoding")."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 2
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 3
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 4
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 5
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 6


class RegisterAction(enum.IntEnum):
    """RREGA of Reservation Register."""

    REGISTER = 0
    UNREGISTER = 1
    REPLACE = 2


class AcquireAction(enum.IntEnum):
    """RACQA of Reservation Acquire."""

    ACQUIRE = 0
    PREEMPT = 1
    PREEMPT_AND_ABORT = 2


class ReleaseAction(enum.IntEnum):
    """RRELA of Reservation Release."""

    RELEASE = 0
    CLEAR = 1


class PersistenceChange(enum.IntEnum):
    """CPTPL of Reservation Register: what becomes of Persist Through Power Loss."""

    NONE = 0
    CLEAR = 2
    SET = 3


class ReservationNoticeType(enum.IntEnum):
    """Type of a Reservation Notification log page, and the bit that masks it in feature 82h."""

    REGISTRATION_PREEMPTED = 1
    RESERVATION_RELEASED = 2
    RESERVATION_PREEMPTED = 3


class TransportType(enum.IntEnum):
    """TRTYPE of a discovery log entry."""

    RDMA = 1
    TCP = 3


class AddressFamily(enum.IntEnum):
    """ADRFAM of a discovery log entry."""

    IPV4 = 1
    IPV6 = 2


class SubsystemType(enum.IntEnum):
    """SUBTYPE of a discovery log entry."""

    REFERRAL = 1
    NVM = 2
    CURRENT_DISCOVERY = 3


class ControllerType(enum.IntEnum):
    """CNTRLTYPE of Identify Controller."""

    IO = 1
    DISCOVERY = 2


class NamespaceIdType(enum.IntEnum):
    """NIDT of a Namespace Identification Descriptor."""

    NGUID = 2
    UUID = 3
    COMMAND_SET = 4


SGL_IN_CAPSULE = 0x01
"""Data Block descriptor, subtype Offset (Base, "SGL Descriptor Type" and "Sub Type")."""
SGL_TRANSPORT = 0x5A
"""Transport SGL Data Block descriptor, NVMe Transport specific subtype Ah."""
PSDT_SGL = 0x40
"""Command flags: SGLs are used for this transfer, as every fabrics command must say."""
