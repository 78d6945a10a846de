# SPDX-License-Identifier: Apache-2.0
"""Rules of a fault plan: read once from JSON, validated, frozen.

A rule has exactly one effect. Most effects happen to calls of the management API, which the
rule picks by operation, method, node address and object, and by their number; some happen to a
whole node address. The first paragraph of an effect's docstring is its line in the manual.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Self

from lightos.api import routes
from lightos.api.errors import HTTP_STATUS, GrpcCode

ANY_OPERATION = "*"
OPERATIONS = tuple(dict.fromkeys(route.operation for route in routes.ROUTES))
_OPERATION_WORDS = (ANY_OPERATION, *OPERATIONS)
METHODS = tuple(dict.fromkeys(route.method for route in routes.ROUTES))
LONGEST_DELAY_SECONDS = 3600.0
LONGEST_MESSAGE = 500
MAX_RULES = 1000

_VOLUME_CHANGES = frozenset({"CreateVolume", "UpdateVolume", "RollbackVolume"})
STAYS: Mapping[str, frozenset[str]] = {
    "Creating": frozenset({"CreateVolume", "CreateSnapshot"}),
    "Updating": frozenset({"UpdateVolume"}),
    "Rollback": frozenset({"RollbackVolume"}),
    "Migrating": _VOLUME_CHANGES,
    "Deleting": frozenset({"DeleteVolume", "DeleteSnapshot"}),
}
_CODES: Mapping[int, GrpcCode] = {
    **{HTTP_STATUS[code]: code for code in sorted(GrpcCode, reverse=True)},
    400: GrpcCode.INVALID_ARGUMENT,
    412: GrpcCode.FAILED_PRECONDITION,
    500: GrpcCode.INTERNAL,
}
"""The gRPC code that a gateway would have made a status of; 412 is the older gateways'."""


class CertificateFault(enum.StrEnum):
    """What can be wrong with the certificate that a node shows."""

    EXPIRED = "expired"
    OTHER_NAME = "other_name"
    UNTRUSTED = "untrusted"


class BadRule(ValueError):
    """A rule that cannot be used; the text names the field and what is legal there."""


@dataclass(frozen=True)
class Call:
    """A call of the management API as rules see it.

    `names` are names and UUIDs of the object it is about. `snapshots_under_way`: some other
    snapshot is being made at this moment.
    """

    operation: str
    method: str
    address: str
    names: frozenset[str] = frozenset()
    sends_if_match: bool = False
    snapshots_under_way: bool = False


class Effect:
    """Base of what a rule can do. `key` names it in JSON, `example` is one legal value.

    `words` are all legal values where those are words. An effect without fields has one value.
    """

    key: ClassVar[str]
    example: ClassVar[Any]
    words: ClassVar[Collection[str]] = ()
    count: ClassVar[int] = 1
    """How many calls it meets where the rule does not say."""
    parameters: ClassVar[tuple[str, ...]] = ()
    operations: ClassVar[frozenset[str]] = frozenset(OPERATIONS)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The effect of a rule that names it. Raises BadRule."""
        if cls.words:
            _word(document, cls.key, cls.words)
        elif document[cls.key] is not True:
            raise BadRule(f"{cls.key} must be true, or be left out")
        return cls()

    def to_json(self) -> dict[str, Any]:
        return {self.key: self.example}

    def happens_to(self, call: Call) -> bool:
        """Whether it makes sense for a call at all; others do not even count."""
        return call.operation in self.operations


@dataclass(frozen=True)
class Status(Effect):
    """The call is answered with this HTTP status (400 to 599) and nothing is done."""

    key = "status"
    example = 503
    parameters = ("message", "code")
    http_status: int
    message: str = "the lab's fault plan has it so"
    grpc_code: GrpcCode | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        status = _whole(document, "status", 400, 599)
        message = document.get("message", cls.message)
        if not isinstance(message, str) or len(message) > LONGEST_MESSAGE:
            raise BadRule(f"message must be a text of at most {LONGEST_MESSAGE} characters")
        given = "code" in document
        return cls(status, message, GrpcCode(_whole(document, "code", 1, 16)) if given else None)

    def to_json(self) -> dict[str, Any]:
        code = {} if self.grpc_code is None else {"code": int(self.grpc_code)}
        return {"status": self.http_status, "message": self.message, **code}

    @property
    def code(self) -> GrpcCode:
        """The gRPC code in the body: as given, or what a gateway would make this status of."""
        return self.grpc_code or _CODES.get(self.http_status, GrpcCode.UNKNOWN)


@dataclass(frozen=True)
class Delay(Effect):
    """The call waits so many seconds before anything is done; then all goes its usual way.

    At the latest it goes on when the rule is cleared.
    """

    key = "delay_seconds"
    example = 2.5
    seconds: float

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        return cls(_number(document, cls.key, LONGEST_DELAY_SECONDS))

    def to_json(self) -> dict[str, Any]:
        return {self.key: self.seconds}


@dataclass(frozen=True)
class LoseReply(Effect):
    """The call does its work; then the connection is closed without a reply, or `status` answers.

    That is how a gateway answers that gave up on the server behind it.
    """

    key = "lose_reply"
    example = True
    parameters = ("status", *Status.parameters)
    answer: Status | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        super().read(document)
        answered = document.keys() & set(cls.parameters)
        return cls(Status.read({"status": None, **document}) if answered else None)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | (self.answer.to_json() if self.answer else {})


@dataclass(frozen=True)
class Reset(Effect):
    """The connection is reset (TCP RST) before anything is done."""

    key = "reset"
    example = True


@dataclass(frozen=True)
class StaleEtag(Effect):
    """The object's ETag moves on before the call, as if someone had written in between.

    Calls without `If-Match` do not notice and do not count.
    """

    key = "stale_etag"
    example = True
    operations = frozenset({"UpdateVolume", "DeleteVolume", "DeleteSnapshot"})

    def happens_to(self, call: Call) -> bool:
        return super().happens_to(call) and call.sends_if_match


@dataclass(frozen=True)
class Stay(Effect):
    """The object stays in this state until the rule is cleared; then it settles as usual."""

    key = "stay"
    example = "Creating"
    words = tuple(STAYS)
    state: str

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        return cls(_word(document, cls.key, cls.words))

    def to_json(self) -> dict[str, Any]:
        return {self.key: self.state}

    @property
    def operations(self) -> frozenset[str]:  # type: ignore[override]
        return STAYS[self.state]


@dataclass(frozen=True)
class End(Effect):
    """The object ends Failed, which is final: a minute later the cluster drops it and its data."""

    key = "end"
    example = "Failed"
    words = (example,)
    operations = _VOLUME_CHANGES | {"CreateSnapshot"}


@dataclass(frozen=True)
class RefuseConcurrentSnapshots(Effect):
    """CreateSnapshot gets `status` (default 503) while another snapshot is being made.

    Holds until it is cleared, unless `count` says otherwise.
    """

    key = "snapshots"
    example = "refuse_concurrent"
    words = (example,)
    count = 0
    parameters = ("status", *Status.parameters)
    operations = frozenset({"CreateSnapshot"})
    refusal: Status

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        _word(document, cls.key, cls.words)
        said = {"status": 503, "message": "another snapshot is being made; try again"}
        if document.get("status") == 400:  # which stands for other codes as well
            said["code"] = GrpcCode.FAILED_PRECONDITION
        return cls(Status.read({**said, **document}))

    def to_json(self) -> dict[str, Any]:
        return {self.key: self.example, **self.refusal.to_json()}

    def happens_to(self, call: Call) -> bool:
        return super().happens_to(call) and call.snapshots_under_way


@dataclass(frozen=True)
class ReplaceToken(Effect):
    """The cluster has a new key: tokens issued before get 401, token files get new ones.

    At once, or, in a rule that picks calls, as such a call comes in, which then gets 401.
    """

    key = "token"
    example = "replace"
    words = (example,)


class AddressEffect(Effect):
    """Base of what happens to a node's address as a whole; other fields do not go with it."""

    operations = frozenset()


@dataclass(frozen=True)
class Swallow(AddressEffect):
    """Packets to any port of the address are lost: connects hang, and so do connections.

    What was sent meanwhile never arrives; connections of before are reset when it is cleared.
    """

    key = "swallow"
    example = True


@dataclass(frozen=True)
class Freeze(AddressEffect):
    """The node stands still, as by SIGSTOP: nothing is lost, nothing is answered, others take over.

    When it is cleared, the node goes on where it was, with all that came in meanwhile; writes of
    which it may have lost the primary role since are refused.
    """

    key = "freeze"
    example = True


@dataclass(frozen=True)
class Demote(AddressEffect):
    """The node leaves the primary role to other replicas, as far as any serves, and stays up."""

    key = "demote"
    example = True


@dataclass(frozen=True)
class Hold(AddressEffect):
    """Writes that come in wait, their data received, until it is cleared, even if the host goes."""

    key = "hold"
    example = "writes"
    words = (example,)


@dataclass(frozen=True)
class RefuseConnections(AddressEffect):
    """The address refuses connections on every port and drops those that it had."""

    key = "refuse"
    example = True


@dataclass(frozen=True)
class BadCertificate(AddressEffect):
    """The API's certificate at the address is expired, names another one, or is not trusted."""

    key = "tls"
    example = "expired"
    words = tuple(fault.value for fault in CertificateFault)
    fault: CertificateFault

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        return cls(CertificateFault(_word(document, cls.key, cls.words)))

    def to_json(self) -> dict[str, Any]:
        return {self.key: self.fault.value}


CALL_EFFECTS: tuple[type[Effect], ...] = (
    Status,
    Delay,
    LoseReply,
    Reset,
    StaleEtag,
    Stay,
    End,
    RefuseConcurrentSnapshots,
    ReplaceToken,
)
ADDRESS_EFFECTS: tuple[type[AddressEffect], ...] = (
    Swallow,
    Freeze,
    Demote,
    Hold,
    RefuseConnections,
    BadCertificate,
)
EFFECTS = (*CALL_EFFECTS, *ADDRESS_EFFECTS)


def meaning(effect: type[Effect]) -> str:
    """What an effect does, in a line for people."""
    return " ".join((effect.__doc__ or "").partition("\n\n")[0].split())


_FIELDS = ("operation", "method", "address", "object", "first", "count", "probability")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which calls it picks, and what happens to those.

    Of the calls that match, it begins with the `first`-th and meets `count` of them (0: all
    from then on), each with the given probability. One `at_once` picks no call and one with an
    AddressEffect only an address.
    """

    effect: Effect
    operation: str = ANY_OPERATION
    method: str | None = None
    address: str | None = None
    object_glob: str | None = None
    first: int = 1
    count: int = 1
    probability: float = 1.0
    at_once: bool = False

    def matches(self, call: Call) -> bool:
        return (
            not self.at_once
            and self.operation in (ANY_OPERATION, call.operation)
            and self.method in (None, call.method)
            and self.address in (None, call.address)
            and self.effect.happens_to(call)
            and (
                self.object_glob is None
                or any(fnmatchcase(name, self.object_glob) for name in call.names)
            )
        )

    def to_json(self) -> dict[str, Any]:
        """The rule as `parse_rule` reads it."""
        picked: dict[str, Any] = {}
        if isinstance(self.effect, AddressEffect):
            picked["address"] = self.address
        elif not self.at_once:
            picked["operation"] = self.operation
            for name, value in (
                ("method", self.method),
                ("address", self.address),
                ("object", self.object_glob),
            ):
                if value is not None:
                    picked[name] = value
            picked |= {"first": self.first, "count": self.count}
            if self.probability < 1:
                picked["probability"] = self.probability
        return picked | self.effect.to_json()


@dataclass(frozen=True)
class PlanDocument:
    """A whole plan as it is loaded: a seed and rules, the first that fires winning."""

    seed: int = 0
    rules: tuple[Rule, ...] = field(default=())


def parse_rule(document: object, node_addresses: Collection[str]) -> Rule:
    """Read one rule. Raises BadRule for what it does not name, know or allow together."""
    if not isinstance(document, dict):
        raise BadRule("a rule must be a JSON object")
    effect_type = _effect_of(document)
    on_address = issubclass(effect_type, AddressEffect)
    fields = ("address",) if on_address else _FIELDS
    legal = {*fields, effect_type.key, *effect_type.parameters}
    _refuse_unknown(document, legal, f"a rule with {effect_type.key}")
    effect = effect_type.read(document)
    if on_address:
        if "address" not in document:
            raise BadRule(f"a rule with {effect.key} needs the address of a node")
        return Rule(effect=effect, address=_word(document, "address", node_addresses))
    return Rule(
        effect=effect,
        operation=_operation(document, effect),
        method=_word(document, "method", METHODS) if "method" in document else None,
        address=_word(document, "address", node_addresses) if "address" in document else None,
        object_glob=_text(document, "object") if "object" in document else None,
        first=_whole(document, "first", 1) if "first" in document else 1,
        count=_whole(document, "count", 0) if "count" in document else effect.count,
        probability=_number(document, "probability", 1.0) if "probability" in document else 1.0,
        at_once=isinstance(effect, ReplaceToken) and not document.keys() & set(_FIELDS),
    )


def parse_plan(document: object, node_addresses: Collection[str]) -> PlanDocument:
    """Read a whole plan. Raises BadRule, which says in which rule."""
    if not isinstance(document, dict):
        raise BadRule("a plan must be a JSON object")
    _refuse_unknown(document, {"seed", "rules"}, "a plan")
    given = document.get("rules", [])
    if not isinstance(given, list) or len(given) > MAX_RULES:
        raise BadRule(f"rules must be a list of at most {MAX_RULES} rules")
    rules = []
    for number, each in enumerate(given, start=1):
        try:
            rules.append(parse_rule(each, node_addresses))
        except BadRule as cause:
            raise BadRule(f"rule {number}: {cause}") from None
    seed = _whole(document, "seed", 0) if "seed" in document else 0
    return PlanDocument(seed, tuple(rules))


def _effect_of(document: Mapping[str, Any]) -> type[Effect]:
    named = [effect for effect in EFFECTS if effect.key in document]
    taken = {parameter for effect in named for parameter in effect.parameters}
    named = [effect for effect in named if effect.key not in taken]
    if len(named) == 1:
        return named[0]
    keys = ", ".join(effect.key for effect in EFFECTS)
    if not named:
        for name in document:
            if name not in (*_FIELDS, *Status.parameters):
                raise BadRule(f"{name!r} is no field of a rule; effects are {keys}")
        raise BadRule(f"a rule needs one effect: {keys}")
    two = " and ".join(effect.key for effect in named)
    raise BadRule(f"a rule has one effect, not {two}: make a rule of each")


def _operation(document: Mapping[str, Any], effect: Effect) -> str:
    if len(effect.operations) == 1 and "operation" not in document:
        return next(iter(effect.operations))
    operation = _word({"operation": ANY_OPERATION, **document}, "operation", _OPERATION_WORDS)
    if operation != ANY_OPERATION and operation not in effect.operations:
        shown = ", ".join(f"{key} {value}" for key, value in effect.to_json().items())
        raise BadRule(
            f"operation {operation} does not go with {shown}: use {_listed(effect.operations)}"
        )
    return operation


def _refuse_unknown(document: Mapping[str, Any], legal: Collection[str], of: str) -> None:
    for name in document:
        if name not in legal:
            raise BadRule(f"{name!r} is no field of {of}; legal are {_listed(legal)}")


def _listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words))


def _word(document: Mapping[str, Any], name: str, legal: Collection[str]) -> str:
    value = document[name]
    if not isinstance(value, str) or value not in legal:
        raise BadRule(f"{name} {_shown(value)} is not known; legal are {_listed(legal)}")
    return value


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or not value:
        raise BadRule(f"{name} must be a text that is not empty, not {_shown(value)}")
    return value


def _whole(document: Mapping[str, Any], name: str, least: int, most: int = (1 << 63) - 1) -> int:
    value = document[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRule(f"{name} must be a whole number from {least} to {most}, not {_shown(value)}")
    return value


def _number(document: Mapping[str, Any], name: str, most: float) -> float:
    value = document[name]
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not math.isfinite(value) or not 0 < value <= most:
        raise BadRule(f"{name} must be above 0 and at most {most:g}, not {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    return repr(value)[:80]
