# SPDX-License-Identifier: Apache-2.0
"""An instance in 512 bytes: it reads and writes every disk it has, and knows what it wrote.

Software emulation inside a test host boots an operating system in minutes, this boot sector in a
second. Again and again it looks for virtio disks on its PCI bus, so one that is plugged is used at
once and one that is to be unplugged is let go. A disk that it finds is told that the bytes of
`DISCARDED` are free, as a new file system does; then, again and again, it does on each of them:

- it writes a sector full of a counter to one of 256 places in turn, and reads it back;
- it writes its progress: the counter, how often it read something else, and the disk's capacity.

Each of these takes a hundredth of a second, as it sleeps until the timer, so a disk is written to
some 20 times a second. The counter goes on where the volume's progress says, also after a reboot or
on another host. `Progress` reads it, `wrong_sectors` judges whether everything it stands for is on
the volume. Instances that share a volume each have an area of it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

SECTOR_BYTES = 512
PLACES = 256
DISCARDED = range(64 << 20, 80 << 20)
"""The bytes that an instance discards of each of its disks."""
_PROGRESS_STRIDE = 8
"""Sectors from one area's progress to the next: 4 KiB, so that no two share a volume's block."""
_MAGIC = b"LTOS"
_PARAMETERS = 0x1F4
_SIGNATURE = b"\x55\xaa"

# Loaded at 0x7c00. Each disk has 12 KiB of memory of its own: its virtio queue (descriptors at 0,
# available ring at 0x1000, used ring at 0x2000), and in the gaps the progress sector at 0x1400,
# data at 0x1600, data read back at 0x1800, the request's header at 0x1a00 and its result at 0x1a10.
# Registers of the devices: Virtual I/O Device, section 4.1.4.8, "Legacy Interfaces".
_CODE = """
    eb 14                      | jmp start
    00 00 00 00 00 00 00       |
    00 00 00 00 00 00 00       |
    02 00 00 00 00 f8          |  ; image services: a FAT's boot sector, not a partition table
start:
    fa                         | cli  ; interrupts stay off while the stack moves
    fc                         | cld
    31 c0                      | xor ax,ax
    8e d8                      | mov ds,ax
    8e d0                      | mov ss,ax
    bc 00 7c                   | mov sp,0x7c00  ; the stack grows down from this sector
    b0 36                      | mov al,0x36  ; timer channel 0: square wave ...
    e6 43                      | out 0x43,al
    b0 9c                      | mov al,0x9c  ; ... of 1193182 Hz / 0x2e9c = 100 Hz ...
    e6 40                      | out 0x40,al
    b0 2e                      | mov al,0x2e
    e6 40                      | out 0x40,al
tick:
    fb                         | sti
    f4                         | hlt  ; wait for the timer
    ba 04 ae                   | mov dx,0xae04  ; ACPI hot-plug: slots to be removed ...
    66 ed                      | in eax,dx
    b2 08                      | mov dl,0x8  ; ... are ejected, as an operating system would
    66 ef                      | out dx,eax
    66 bd 00 00 00 80          | mov ebp,0x80000000  ; PCI bus 0, slot 0, register 0
slot:
    66 89 e8                   | mov eax,ebp
    e8 95 01                   | call config  ; its vendor and device
    66 3d f4 1a 01 10          | cmp eax,0x10011af4  ; a virtio block device, transitional?
    75 03                      | jne next
    e8 0e 00                   | call disk
next:
    66 81 c5 00 08 00 00       | add ebp,0x800  ; the next slot; bits 11 to 15 of ebp
    83 fd 00                   | cmp bp,0x0
    75 e3                      | jne slot
    eb d0                      | jmp tick
disk:
    89 e8                      | mov ax,bp  ; this slot's 12 KiB of memory: ...
    c1 e8 03                   | shr ax,0x3  ; ... slot << 8 ...
    6b c0 03                   | imul ax,ax,0x3  ; ... times 3 ...
    05 00 10                   | add ax,0x1000  ; ... paragraphs from 0x10000 on
    8e d8                      | mov ds,ax
    8e c0                      | mov es,ax
    67 66 8d 45 10             | lea eax,[ebp+0x10]  ; register 0x10: BAR 0, I/O ports
    e8 65 01                   | call config
    66 83 f8 01                | cmp eax,0x1  ; none assigned: it was plugged while we ran
    75 0a                      | jne mapped
    89 e8                      | mov ax,bp
    c1 e8 04                   | shr ax,0x4  ; slot << 7 ...
    05 01 e0                   | add ax,0xe001  ; ... from port 0xe000 on, bit 0 says I/O
    66 ef                      | out dx,eax
mapped:
    24 fc                      | and al,0xfc  ; without the bits that are flags
    96                         | xchg si,ax  ; si: the device's first port from here on
    67 66 8d 45 04             | lea eax,[ebp+0x4]  ; register 4: command
    e8 4a 01                   | call config
    0c 05                      | or al,0x5  ; I/O ports and bus master
    66 ef                      | out dx,eax
    8c d9                      | mov cx,ds
    66 0f b6 cd                | movzx ecx,ch  ; the page number of this slot's memory
    8d 54 08                   | lea dx,[si+0x8]  ; port 8: page number of queue 0
    66 ed                      | in eax,dx
    66 39 c8                   | cmp eax,ecx  ; ours already?
    74 33                      | je ready
    51                         | push cx  ; no: initialize
    66 31 c0                   | xor eax,eax
    31 ff                      | xor di,di
    b9 00 0c                   | mov cx,0xc00
    66 f3 ab                   | rep stosd ; clear queue and buffers
    fe 06 00 10                | inc byte [0x1000]  ; available ring, flags: no interrupts
    8d 54 12                   | lea dx,[si+0x12]  ; port 18: device status; 0 resets
    ee                         | out dx,al
    b0 03                      | mov al,0x3  ; ACKNOWLEDGE, DRIVER; no feature is taken
    ee                         | out dx,al
    58                         | pop ax
    8d 54 08                   | lea dx,[si+0x8]
    66 ef                      | out dx,eax  ; tell where queue 0 is
    8d 54 12                   | lea dx,[si+0x12]
    b0 07                      | mov al,0x7  ; and DRIVER_OK
    ee                         | out dx,al
    bb 00 14                   | mov bx,0x1400  ; what is to be discarded: ...
    c6 47 02 02                | mov byte [bx+0x2],0x2  ; ... from sector 0x20000 on ...
    c6 47 09 80                | mov byte [bx+0x9],0x80  ; ... 0x8000 sectors
    b1 0b                      | mov cl,0xb  ; type 11: discard
    e8 76 00                   | call transfer
ready:
    bb 00 14                   | mov bx,0x1400  ; the progress sector
    31 c9                      | xor cx,cx  ; type 0: read
    e8 69 00                   | call status
    0f 85 e3 00                | jne done  ; cannot be read: try with the next tick
    66 b8 4c 54 4f 53          | mov eax,0x534f544c  ; 'LTOS'
    66 39 07                   | cmp dword [bx],eax
    74 12                      | je known
    66 50                      | push eax  ; a volume without one: begin with zeroes
    66 31 c0                   | xor eax,eax
    89 df                      | mov di,bx
    b9 80 00                   | mov cx,0x80
    66 f3 ab                   | rep stosd
    66 58                      | pop eax
    66 89 07                   | mov dword [bx],eax
known:
    8d 54 14                   | lea dx,[si+0x14]  ; port 20: the disk's capacity in sectors ...
    66 ed                      | in eax,dx
    66 89 47 0c                | mov dword [bx+0xc],eax  ; ... at byte 12
    66 ff 47 04                | inc dword [bx+0x4]  ; counter, byte 4
    66 8b 47 04                | mov eax,dword [bx+0x4]
    bf 00 16                   | mov di,0x1600  ; a sector full of it ...
    b9 80 00                   | mov cx,0x80
    66 f3 ab                   | rep stosd
    66 0f b6 c0                | movzx eax,al  ; ... at one of 256 places ...
    2e 66 03 06 f8 7d          | add eax,dword cs:0x7df8  ; ... of our area
    bb 00 16                   | mov bx,0x1600
    41                         | inc cx  ; type 1: write
    e8 22 00                   | call transfer
    b7 18                      | mov bh,0x18  ; another buffer, 0x1800
    49                         | dec cx  ; type 0: read back
    e8 1c 00                   | call transfer
    56                         | push si
    be 00 16                   | mov si,0x1600
    89 df                      | mov di,bx
    b1 80                      | mov cl,0x80
    66 f3 a7                   | repe cmpsd  ; the same?
    5e                         | pop si
    bb 00 14                   | mov bx,0x1400
    74 04                      | je right
    66 ff 47 08                | inc dword [bx+0x8]  ; no: errors, byte 8
right:
    b1 01                      | mov cl,0x1  ; type 1: write the progress
status:
    2e 66 a1 f4 7d             | mov eax,cs:0x7df4
transfer:
    66 60                      | pushad  ; cl: type, eax: sector, bx: buffer
    88 0e 00 1a                | mov byte [0x1a00],cl  ; request header: type ...
    66 a3 08 1a                | mov [0x1a08],eax  ; ... and sector
    c6 06 10 1a ff             | mov byte [0x1a10],0xff  ; result, which the device sets to 0
    66 31 ed                   | xor ebp,ebp  ; ebp: physical address of our segment
    8c dd                      | mov bp,ds
    66 c1 e5 04                | shl ebp,0x4
    31 ff                      | xor di,di
    66 b8 00 1a 00 00          | mov eax,0x1a00  ; descriptor 0: header, ...
    66 ba 10 00 00 00          | mov edx,0x10  ; ... 16 bytes, ...
    66 b9 01 00 01 00          | mov ecx,0x10001  ; ... followed by 1
    e8 4b 00                   | call descriptor
    66 0f b7 c3                | movzx eax,bx  ; descriptor 1: buffer, ...
    ba 00 02                   | mov dx,0x200  ; ... 512 bytes, ...
    8a 0e 00 1a                | mov cl,byte [0x1a00]
    d0 e9                      | shr cl,0x1  ; sets the carry of an odd type
    9c                         | pushf
    d3 ea                      | shr dx,cl  ; ... or, with type 11, 0x200 >> 5 of them, ...
    9d                         | popf
    66 b9 03 00 02 00          | mov ecx,0x20003  ; ... followed by 2, ...
    73 02                      | jnc buffer
    b1 01                      | mov cl,0x1  ; ... written to unless the type is odd
buffer:
    e8 2d 00                   | call descriptor
    66 b8 10 1a 00 00          | mov eax,0x1a10  ; descriptor 2: result, ...
    42                         | inc dx  ; ... 1 byte (dx was 0), ...
    66 b9 02 00 00 00          | mov ecx,0x2  ; ... device writes to it
    e8 1d 00                   | call descriptor
    ff 06 02 10                | inc word [0x1002]  ; available ring, index; its entries all name 0
    8d 54 10                   | lea dx,[si+0x10]  ; port 16: notify ...
    31 c0                      | xor ax,ax  ; ... queue 0
    ef                         | out dx,ax
    a1 02 10                   | mov ax,[0x1002]
wait:
    f4                         | hlt  ; until the timer: the host has other things to do
    90                         | nop
    3b 06 02 20                | cmp ax,word [0x2002]  ; used ring, index
    75 f8                      | jne wait
    80 3e 10 1a 00             | cmp byte [0x1a10],0x0  ; 0: done, which the flags say to the caller
    66 61                      | popad
done:
    c3                         | ret
descriptor:
    66 01 e8                   | add eax,ebp  ; eax: offset, edx: length, ecx: flags and next
    66 ab                      | stosd
    66 31 c0                   | xor eax,eax
    66 ab                      | stosd
    66 92                      | xchg edx,eax
    66 ab                      | stosd
    66 91                      | xchg ecx,eax
    66 ab                      | stosd
    c3                         | ret
config:
    ba f8 0c                   | mov dx,0xcf8  ; read a PCI register; dx is its data port then
    66 ef                      | out dx,eax
    b2 fc                      | mov dl,0xfc
    66 ed                      | in eax,dx
    c3                         | ret
"""


@dataclass(frozen=True)
class Area:
    """Where on a volume an instance works; `number` is the same for all disks of an instance."""

    number: int = 0

    @property
    def progress_sector(self) -> int:
        return _PROGRESS_STRIDE * (1 + self.number)

    @property
    def first_sector(self) -> int:
        """Of `PLACES` sectors with data."""
        return PLACES * (1 + self.number)


def boot_sector(area: Area) -> bytes:
    """What the first sector of the boot volume holds."""
    lines = (line.partition("|")[0].strip() for line in _CODE.splitlines())
    code = b"".join(bytes.fromhex(line) for line in lines if not line.endswith(":"))
    body = code.ljust(_PARAMETERS, b"\0")
    parameters = struct.pack("<II2x", area.progress_sector, area.first_sector)
    return body + parameters + _SIGNATURE


@dataclass(frozen=True)
class Progress:
    """What an instance says of one of its disks."""

    counter: int
    """How many sectors it has written, since the volume was new."""
    errors: int
    """How many of them it did not read back as written."""
    size_bytes: int
    """The disk's size as the instance sees it."""

    @classmethod
    def parse(cls, sector: bytes) -> Self:
        """Raises `ValueError` for a sector that no instance has written."""
        magic, counter, errors, sectors = struct.unpack_from("<4sIII", sector)
        if magic != _MAGIC:
            raise ValueError("no instance has written to this volume")
        return cls(counter, errors, sectors * SECTOR_BYTES)


def wrong_sectors(counter: int, data: bytes) -> Sequence[int]:
    """The places in an area's `data` that do not hold the last write which `counter` stands for.

    A write that is under way may be there before the progress says so.
    """
    return [
        place
        for place in range(min(PLACES, counter + 1))
        if data[place * SECTOR_BYTES : (place + 1) * SECTOR_BYTES]
        not in (_sector(_last(counter, place)), _sector(_last(counter + 1, place)))
    ]


def _last(counter: int, place: int) -> int:
    """The highest value up to `counter` that belongs at `place`; 0 when there was none yet."""
    return max(0, counter - (counter - place) % PLACES)


def _sector(value: int) -> bytes:
    return struct.pack("<I", value) * (SECTOR_BYTES // 4)
