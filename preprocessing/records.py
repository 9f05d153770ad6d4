"""tf.Example records in bulk: a whole batch becomes one byte matrix, and a shard one gzip stream.

All records of a batch without group key have the same length, because ids are written as varints
of a fixed width (protobuf readers accept the leading zeros). So a record is a template with
holes, filled by NumPy, instead of one Python object per row. The file format is TFRecord (length,
its CRC, data, its CRC; CRC-32C, masked) in gzip.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from isal import isal_zlib as zlib

from preprocessing import hashing
from preprocessing.filesystem import DataPath, writing

LEVEL = 2  # of ISA-L's levels: as small as zlib's 1, five times as fast

_MASK_DELTA = 0xA282EAD8


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _part(tag: int, body: bytes) -> bytes:
    return bytes([tag << 3 | 2]) + _varint(len(body)) + body


def _feature(name: str, kind: int, body: bytes) -> bytes:
    """A map entry of tf.train.Features; kind 1 bytes, 2 packed floats, 3 packed int64."""
    return _part(1, _part(1, name.encode()) + _part(2, _part(kind, _part(1, body))))


def _masked(crc: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)


@dataclass(frozen=True)
class Records:
    """Encoded rows: a byte matrix (B, length), or bytes objects (B,), and a hash of each (B,)."""

    rows: np.ndarray
    hashes: np.ndarray

    def stream(self, keep: np.ndarray) -> bytes:
        """The TFRecords of some rows (mask or indices), one after another."""
        kept = self.rows[keep]
        return b"".join(kept) if kept.dtype == object else kept.tobytes()

    def digest(self, keep: np.ndarray) -> int:
        """The sum of some rows' hashes, 64 bits: the same in any order of rows."""
        return int(self.hashes[keep].sum())


class RecordEncoder:
    """Encodes ids, values, label and optional weight and group of a batch as TFRecord bytes."""

    def __init__(self, num_features: int, num_positions: int) -> None:
        self._positions = num_positions
        self._width = max(1, -(-max(num_features - 1, 1).bit_length() // 7))

    def encode(
        self,
        ids: np.ndarray,
        values: np.ndarray,
        label: np.ndarray,
        weight: np.ndarray | None = None,
        group: pa.Array | None = None,
    ) -> Records:
        """The rows as TFRecords, each with its length and checksums."""
        parts = {"ids": self._varints(ids), "values": _bytes_of(values), "label": _bytes_of(label)}
        if weight is not None:
            parts["weight"] = _bytes_of(weight)
        if group is None:
            return Records(*_assemble(parts, []))
        return Records(*_assemble_by_length(parts, group))

    def _varints(self, ids: np.ndarray) -> np.ndarray:
        """Ids (B, P) as bytes (B, P * width): seven bits a byte, all but the last marked."""
        kind = np.dtype("<u4" if self._width <= 4 else "<u8")
        ids = ids.astype(kind)
        spread = np.zeros_like(ids)
        for i in range(self._width):
            seven = (ids >> kind.type(7 * i)) & kind.type(0x7F)
            mark = kind.type(0x80 if i < self._width - 1 else 0)
            spread |= (seven | mark) << kind.type(8 * i)
        wide = spread.view(np.uint8).reshape(len(ids), self._positions, kind.itemsize)
        return wide[:, :, : self._width].reshape(len(ids), self._positions * self._width)


def _bytes_of(values: np.ndarray) -> np.ndarray:
    matrix = np.ascontiguousarray(values.reshape(len(values), -1), "<f4")
    return matrix.view(np.uint8)


def _assemble(parts: dict[str, np.ndarray], groups: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Records of equal length (B, bytes) and their hashes (B,)."""
    kinds = {"ids": 3, "group": 1}
    if groups:
        raw = np.frombuffer(b"".join(groups), np.uint8).reshape(len(groups), len(groups[0]))
        parts = {**parts, "group": raw}
    pieces = {
        name: _feature(name, kinds.get(name, 2), bytes(part.shape[1]))
        for name, part in parts.items()
    }
    body = b"".join(pieces.values())
    head = bytes([1 << 3 | 2]) + _varint(len(body))
    length = np.array([len(head) + len(body)], "<u8")
    rows = len(next(iter(parts.values())))
    record = np.empty((rows, 12 + int(length[0]) + 4), np.uint8)
    record[:, :8] = length.view(np.uint8)
    crc = np.array([google_crc32c.value(length.tobytes())], "<u4")
    record[:, 8:12] = _masked(crc).astype("<u4").view(np.uint8)
    record[:, 12:-4] = np.frombuffer(head + body, np.uint8)
    end = 12 + len(head)
    for name, part in parts.items():
        end += len(pieces[name])
        record[:, end - part.shape[1] : end] = part
    data = record[:, 12:-4]
    flat, step = record.tobytes(), record.shape[1]
    crcs = [google_crc32c.value(flat[at + 12 : at + step - 4]) for at in range(0, len(flat), step)]
    record[:, -4:] = _masked(np.array(crcs, np.uint32)).astype("<u4")[:, None].view(np.uint8)
    return record, _hashes(data)


def _hashes(data: np.ndarray) -> np.ndarray:
    """A multilinear 64-bit hash of each row's bytes."""
    width = -(-data.shape[1] // 8) * 8
    padded = np.zeros((len(data), width), np.uint8)
    padded[:, : data.shape[1]] = data
    words = padded.view("<u8")
    weights = hashing.mix(np.arange(1, words.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    with np.errstate(over="ignore"):
        return hashing.mix(np.einsum("ij,j->i", words, weights) + np.uint64(data.shape[1]))


def _assemble_by_length(
    parts: dict[str, np.ndarray], group: pa.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Records of any length (B,) as bytes objects, and their hashes (B,)."""
    lengths = pc.binary_length(group).to_numpy(zero_copy_only=False)
    raw = group.cast(pa.binary()).to_pylist()
    records = np.empty(len(raw), object)
    hashes = np.empty(len(raw), np.uint64)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        mine = {name: part[rows] for name, part in parts.items()}
        matrix, hashes[rows] = _assemble(mine, [raw[r] for r in rows])
        for row, record in zip(rows, matrix, strict=True):
            records[row] = record.tobytes()
    return records, hashes


class ShardWriter:
    """A gzip TFRecord file that has its name when it is complete."""

    def __init__(self, path: DataPath) -> None:
        self._open = contextlib.ExitStack()
        self._file = self._open.enter_context(writing(path))
        self._zip = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)

    def write(self, stream: bytes) -> None:
        """Adds encoded records."""
        self._file.write(self._zip.compress(stream))

    def close(self) -> None:
        """Completes the file under its final name, on disk."""
        self._file.write(self._zip.flush())
        self._open.close()
