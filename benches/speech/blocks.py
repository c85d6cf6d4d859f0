"""whisper.cpp's file of F16 weights to one of blocks, as its own quantiser would, with the numbers of PyPI's gguf.

    python blocks.py ggml-F16.bin Q8_0|Q5_1|Q5_0|Q4_0 OUTPUT
"""

import pathlib
import struct
import sys

import numpy
from gguf import GGMLQuantizationType
from gguf.quants import quantize

# GGML_FTYPE_MOSTLY_…, and the version of its blocks, as whisper.cpp reads them from the header.
FILE_TYPES = {"Q4_0": 2, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9}
VERSION = 2 * 1000


def convert(source, kind, output):
    raw, at = pathlib.Path(source).read_bytes(), 0

    def words(count):
        nonlocal at
        at += 4 * count
        return struct.unpack_from(f"<{count}i", raw, at - 4 * count)

    words(11)
    out = bytearray(raw[:at]) + struct.pack("<i", VERSION + FILE_TYPES[kind])
    begin = at = at + 4
    rows, bins = words(2)
    at += 4 * rows * bins
    for _ in range(*words(1)):
        (length,) = words(1)
        at += length
    out += raw[begin:at]
    while at < len(raw):
        begin = at
        rank, name, plain = words(3)
        shape = words(rank)[::-1]
        name_at, at = at, at + name
        width = 4 if plain == 0 else 2
        data, at = at, at + width * int(numpy.prod(shape))
        if rank == 2 and plain == 1:
            values = numpy.frombuffer(raw[data:at], numpy.float16).reshape(shape).astype(numpy.float32)
            number = GGMLQuantizationType[kind]
            out += struct.pack("<3i", rank, name, number) + struct.pack(f"<{rank}i", *shape[::-1]) + raw[name_at:data]
            out += quantize(values, number).tobytes()
        else:
            out += raw[begin:at]
    pathlib.Path(output).write_bytes(out)


convert(*sys.argv[1:])
