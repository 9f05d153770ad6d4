"""Where texts stand in a fixed list that is built once and asked many times.

Arrow's `index_in` makes a hash table of the whole list for every call: right for short lists, but
for a vocabulary of a million values most of the time. Long lists are sorted once by a 64-bit hash
and searched; what is found is compared as text, so that equal hashes do no harm.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import hashing

_LONG = 1 << 15


class TextIndex:
    """Places of texts among `values`, which are all different."""

    def __init__(self, values: pa.Array, long: int = _LONG) -> None:
        self._values = values
        self._sorted = len(values) > long
        if not self._sorted:
            return
        hashes = _hashes(values)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._places = hashes[order], order
        again = np.flatnonzero(self._hashes[1:] == self._hashes[:-1]) + 1
        # Only the first of equal hashes is found by searching.
        self._twins = order[again]

    def find(self, texts: pa.Array) -> np.ndarray:
        """The place of each text, -1 where it is none of the values (int64)."""
        if not self._sorted:
            return pc.fill_null(pc.index_in(texts, self._values), -1).to_numpy().astype(np.int64)
        at = np.searchsorted(self._hashes, _hashes(texts))
        found = self._places[np.minimum(at, len(self._places) - 1)]
        same = pc.fill_null(pc.equal(self._values.take(pa.array(found)), texts), False)
        found = np.where(same.to_numpy(zero_copy_only=False), found, -1)
        if len(self._twins):
            twin = pc.index_in(texts, self._values.take(pa.array(self._twins)))
            twin = pc.fill_null(twin, -1).to_numpy()
            found = np.where(twin >= 0, self._twins[twin], found)
        return found


def _hashes(texts: pa.Array) -> np.ndarray:
    return hashing.add_text(hashing.start(len(texts), 0), texts)
