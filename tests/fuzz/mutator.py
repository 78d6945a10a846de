# SPDX-License-Identifier: Apache-2.0
"""Breaks what keeps the rules, in ways that depend on nothing but a seeded random generator.

PDUs are broken where it hurts: in their lengths, offsets, types, ids and digests, and in their
order. Most of the time the digests are made right again afterwards, else nothing but the
digest would ever be found wrong.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from lightos.nvme_tcp.digest import DIGEST_BYTES, digest
from lightos.nvme_tcp.pdu import FLAG_DATA_DIGEST, FLAG_HEADER_DIGEST

COMMON_FIELDS = ((0, 1), (1, 1), (2, 1), (3, 1), (4, 4))
"""Offset and size of type, flags, HLEN, PDO and PLEN (Transport, "Common Header")."""
FIELDS: dict[int, tuple[tuple[int, int], ...]] = {
    0x00: ((8, 2), (10, 1), (11, 1), (12, 4)),  # ICReq, ICResp: PFV, alignment, digests, limit
    0x01: ((8, 2), (10, 1), (11, 1), (12, 4)),
    0x02: ((8, 2), (10, 4)),  # TermReq: FES, FEI
    0x03: ((8, 2), (10, 4)),
    # Capsule: opcode, flags, CID, NSID, SGL, CDW10 to 13, then what Connect data begins with
    0x04: (
        *((8, 1), (9, 1), (10, 2), (12, 4), (32, 8), (40, 4), (47, 1), (48, 4), (50, 2)),
        *((52, 4), (54, 2), (56, 4), (60, 4), (88, 2)),
    ),
    0x05: ((8, 4), (12, 4), (16, 2), (18, 2), (20, 2), (22, 2)),  # result, SQHD, SQID, CID, status
    0x06: ((8, 2), (10, 2), (12, 4), (16, 4)),  # data, R2T: CID, tag, offset, length
    0x07: ((8, 2), (10, 2), (12, 4), (16, 4)),
    0x09: ((8, 2), (10, 2), (12, 4), (16, 4)),
}
CAPSULE_CMD, TRANSFERS = 0x04, (0x06, 0x07, 0x09)
MANY = 64
"""Most times that one PDU is repeated."""

MOST_PIECES = 100


def generator(*names: object) -> random.Random:
    """The generator of one input: any input can be made again without those before it."""
    return random.Random(":".join(map(str, names)))


def sealed(pdu: bytes) -> bytes:
    """The PDU with the digests right that its own header promises, as far as there is room."""
    if len(pdu) < 8:
        return pdu
    made = bytearray(pdu)
    header_bytes = made[2]
    if made[1] & FLAG_HEADER_DIGEST and header_bytes + DIGEST_BYTES <= len(made):
        made[header_bytes : header_bytes + DIGEST_BYTES] = digest(bytes(made[:header_bytes]))
    start, end = made[3], len(made) - DIGEST_BYTES
    if made[1] & FLAG_DATA_DIGEST and 8 <= start < end:
        made[end:] = digest(bytes(made[start:end]))
    return bytes(made)


def number(chance: random.Random, old: int, size: int) -> int:
    """A number of `size` bytes that is likely to be a wrong one."""
    top = (1 << 8 * size) - 1
    return (
        chance.choice(
            (
                *(0, 1, 2, 3, 4, 7, 8, 16, 24, 72, 128, 4096, 8192, 131072),
                *(top, top - 1, top // 2, top // 2 + 1),
                *(
                    old + 1,
                    old - 1,
                    old + 4,
                    old - 4,
                    old * 2,
                    old ^ 1 << chance.randrange(8 * size),
                ),
                chance.randrange(top + 1),
            )
        )
        & top
    )


def _with_field(chance: random.Random, pdu: bytes) -> bytes:
    fields = COMMON_FIELDS + FIELDS.get(pdu[0], ()) if pdu else ()
    offset, size = chance.choice(fields or ((0, 1),))
    old = int.from_bytes(pdu[offset : offset + size], "little")
    new = number(chance, old, size).to_bytes(size, "little")
    return pdu[:offset] + new + pdu[offset + size :]


def _with_flipped_bits(chance: random.Random, pdu: bytes) -> bytes:
    made = bytearray(pdu)
    # Half of them in the header: data is long and mostly anything goes.
    reach = min(len(made), 128 if chance.random() < 0.5 else len(made))
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        if reach:
            made[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(made)


def _with_random_bytes(chance: random.Random, pdu: bytes) -> bytes:
    at = chance.randrange(len(pdu) + 1)
    return pdu[:at] + chance.randbytes(chance.choice((1, 4, 16, 100))) + pdu[at:]


def _without_bytes(chance: random.Random, pdu: bytes) -> bytes:
    at = chance.randrange(len(pdu) + 1)
    return pdu[:at] + pdu[at + chance.choice((1, 4, 16, 100)) :]


def _overwritten(chance: random.Random, pdu: bytes) -> bytes:
    at = chance.randrange(len(pdu) + 1)
    filler = chance.choice((b"\0", b"\xff", b"%n,=\n", chance.randbytes(8)))
    size = min(chance.choice((1, 4, 16, 64)), len(pdu) - at)
    return pdu[:at] + (filler * size)[:size] + pdu[at + size :]


def _resized(chance: random.Random, pdu: bytes) -> bytes:
    """Longer or shorter, and PLEN says so."""
    made = bytearray(_without_bytes(chance, pdu) if chance.random() < 0.5 else pdu)
    made += bytes(chance.choice((0, 1, 4, 64, 4096)))
    if len(made) >= 8:
        made[4:8] = len(made).to_bytes(4, "little")
    return bytes(made)


INSIDE = (
    *(_with_field,) * 6,
    *(_with_flipped_bits,) * 2,
    _with_random_bytes,
    _without_bytes,
    _overwritten,
    _resized,
)


def changed_pdu(chance: random.Random, pdu: bytes) -> bytes:
    """One PDU, broken inside."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        pdu = chance.choice(INSIDE)(chance, pdu)
    return sealed(pdu) if chance.random() < 0.9 else pdu


Stream = list[bytes]
Donors = Sequence[bytes]


def _insert(chance: random.Random, stream: Stream, at: int, donors: Donors) -> Stream:
    return [*stream[:at], chance.choice(donors), *stream[at:]]


def _insert_changed(chance: random.Random, stream: Stream, at: int, donors: Donors) -> Stream:
    return [*stream[:at], changed_pdu(chance, chance.choice(donors)), *stream[at:]]


def _insert_noise(chance: random.Random, stream: Stream, at: int, _donors: Donors) -> Stream:
    noise = chance.randbytes(chance.choice((1, 8, 24, 200, 5000)))
    return [*stream[:at], noise, *stream[at:]]


def _change(chance: random.Random, stream: Stream, at: int, _donors: Donors) -> Stream:
    return [*stream[:at], changed_pdu(chance, stream[at]), *stream[at + 1 :]]


def _cut(chance: random.Random, stream: Stream, at: int, _donors: Donors) -> Stream:
    return [*stream[:at], stream[at][: chance.randrange(len(stream[at]) + 1)]]


def _leave_out(_chance: random.Random, stream: Stream, at: int, _donors: Donors) -> Stream:
    return [*stream[:at], *stream[at + 1 :]]


def _repeat(chance: random.Random, stream: Stream, at: int, _donors: Donors) -> Stream:
    times = chance.choice((2, 2, 2, 3, MANY))
    return [*stream[:at], *(stream[at],) * times, *stream[at + 1 :]]


def _swap(chance: random.Random, stream: Stream, at: int, _donors: Donors) -> Stream:
    other = chance.randrange(len(stream))
    swapped = list(stream)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    return swapped


def _splice(chance: random.Random, stream: Stream, at: int, donors: Donors) -> Stream:
    donor = chance.choice(donors)
    cut = chance.randrange(min(len(donor), len(stream[at])) + 1)
    return [*stream[:at], sealed(stream[at][:cut] + donor[cut:]), *stream[at + 1 :]]


OF_STREAM = {
    _change: 56,
    _cut: 8,
    _leave_out: 6,
    _repeat: 6,
    _swap: 6,
    _insert: 6,
    _splice: 5,
    _insert_changed: 4,
    _insert_noise: 3,
}
"""What happens to a stream, and how often."""


def broken(chance: random.Random, stream: Sequence[bytes], donors: Sequence[bytes]) -> list[bytes]:
    """PDUs of `stream` with at least one of them malformed, cut, missing or out of place.

    `donors` are PDUs of other conversations, to be mixed in.
    """
    made = list(stream)
    while made == list(stream):
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            (change,) = chance.choices(list(OF_STREAM), list(OF_STREAM.values()))
            if not made:
                change = _insert
            at = chance.randrange(len(made)) if made else 0
            made = change(chance, made, at, donors)
    return made


def shuffled(chance: random.Random, stream: Sequence[bytes], head: int) -> list[bytes]:
    """The first `head` PDUs, then any of the others in any order, with few different ids.

    What keeps every rule of the wire, and means what no host means.
    """
    made = list(stream[:head])
    for _ in range(chance.randrange(1, 30)):
        pdu = bytearray(chance.choice(stream[1:]))
        cid = chance.randrange(6).to_bytes(2, "little")
        if pdu[0] == CAPSULE_CMD:
            pdu[10:12] = cid
            if chance.random() < 0.4:
                offset, size = chance.choice(FIELDS[CAPSULE_CMD])
                old = int.from_bytes(pdu[offset : offset + size], "little")
                pdu[offset : offset + size] = number(chance, old, size).to_bytes(size, "little")
        elif pdu[0] in TRANSFERS:
            pdu[8:12] = cid * 2
        made.append(sealed(bytes(pdu)))
    return made


def pieces(chance: random.Random, stream: bytes) -> list[bytes]:
    """The same bytes as TCP might hand them over."""
    size = max(chance.choice((65536, 65536, 4096, 1448, 97, 7)), len(stream) // MOST_PIECES)
    return [stream[at : at + size] for at in range(0, len(stream), size)]


# ---- text

WORDS = (
    *("-t", "-a", "-s", "-q", "-n", "-I", "-l", "-p", "--traddr", "--trsvcid=8009", "--nqn"),
    *("tcp", "rdma", "=", "#", "-", "--", "", "8009", "0", "-1", "65536", "9" * 40, "::1", "[::1]"),
    *("127.0.0.1", "127.0.0.256", "fe80::1%lo", "nqn.2014-08.org.nvmexpress:x", "\u0661\u0662"),
    *("xn--a", "a" * 64 + ".example", "\udcff", "\0", "\r", "\u2028", "\x85", "'", '"', "%s%n"),
)


def broken_line(chance: random.Random, line: str) -> str:
    """A line of a discovery file with at least one thing wrong or odd about it."""
    made = line
    while made == line:
        for _ in range(chance.choice((1, 1, 2, 4))):
            made = _changed_line(chance, made)
    return made


def _changed_line(chance: random.Random, line: str) -> str:
    words = line.split(" ")
    at = chance.randrange(len(words))
    match chance.randrange(9):
        case 0:
            del words[at]
        case 1:
            words.insert(at, chance.choice(WORDS))
        case 2:
            words[at] = chance.choice(WORDS)
        case 3:
            words.insert(at, words[chance.randrange(len(words))])
        case 4:
            chance.shuffle(words)
        case 5:
            word = words[at]
            cut = chance.randrange(len(word) + 1)
            words[at] = word[:cut] + chr(chance.choice((9, 32, 61, 35, 0x3B2, 0xDC80))) + word[cut:]
        case 6:
            return line[: chance.randrange(len(line) + 1)]
        case 7:
            raw = bytearray(line.encode(errors="surrogateescape"))
            if raw:
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            return raw.decode(errors="surrogateescape").replace("\n", " ")
        case _:
            words[at] = words[at] * chance.choice((2, 3, 200))
    return " ".join(words)
