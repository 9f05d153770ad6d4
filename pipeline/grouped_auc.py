"""AUC within groups (users, queries), weighted by the group's impressions."""

import hashlib

import numpy as np


def grouped_auc(
    groups: np.ndarray, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Impression-weighted mean of the AUC of each group that has both labels.

    Args:
        groups: keys (N,); scores: (N,); labels: bool (N,); weights: (N,).

    Returns:
        The mean (NaN where no group has both labels), and the AUC and weight of each such group.
    """
    _, key = np.unique(groups, return_inverse=True)
    order = np.lexsort((scores, key))
    key, score = key[order], scores[order]
    positive = np.where(labels[order], weights[order], 0.0)
    negative = np.where(labels[order], 0.0, weights[order])
    # One block a (group, score): tied rows share their rank.
    starts = np.flatnonzero(np.r_[True, (key[1:] != key[:-1]) | (score[1:] != score[:-1])])
    block_p = np.add.reduceat(positive, starts)
    block_n = np.add.reduceat(negative, starts)
    block_key = key[starts]
    count = int(key[-1]) + 1
    group_p = np.bincount(block_key, block_p, minlength=count)
    group_n = np.bincount(block_key, block_n, minlength=count)
    before_group = np.cumsum(group_n) - group_n
    below = np.cumsum(block_n) - block_n - before_group[block_key]
    wins = np.bincount(block_key, block_p * (below + block_n / 2), minlength=count)
    both = (group_p > 0) & (group_n > 0)
    if not both.any():
        return float("nan"), np.empty(0), np.empty(0)
    aucs = wins[both] / (group_p[both] * group_n[both])
    impressions = group_p[both] + group_n[both]
    return float(aucs @ impressions / impressions.sum()), aucs, impressions


class GroupSample:
    """Keeps the rows of whole groups: all of them up to `limit` rows, then a hashed sample.

    Whenever more rows are held than `limit`, the share of groups kept is halved. The mean over a
    random sample of groups is unbiased up to the ratio of two means; its standard error is given.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threshold = 1 << 32
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._held = 0

    def update(
        self, groups: np.ndarray, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> None:
        """Add a batch; `groups` (B,) of bytes, text or integers."""
        unique, inverse = np.unique(groups, return_inverse=True)
        hashes = np.array([_hash(key) for key in unique.tolist()], np.uint64)[inverse]
        self._append((hashes, scores, labels, weights))
        while self._held > self._limit and self._threshold > 1:
            self._threshold //= 2
            rows, self._rows, self._held = self._rows, [], 0
            for batch in rows:
                self._append(batch)

    def _append(self, batch: tuple[np.ndarray, ...]) -> None:
        keep = (batch[0] >> np.uint64(32)) < self._threshold
        if not keep.all():
            batch = tuple(column[keep] for column in batch)
        if len(batch[0]):
            self._rows.append(batch)
            self._held += len(batch[0])

    def result(self) -> dict[str, float]:
        """`gauc`, the number of `groups` behind it and, for a sample, its standard error."""
        columns = [np.concatenate(parts) for parts in zip(*self._rows, strict=True)]
        mean, aucs, impressions = grouped_auc(*columns)
        result = {"gauc": mean, "groups": len(aucs)}
        if self._threshold < 1 << 32:
            share = impressions / impressions.sum() if len(aucs) else impressions
            result["gauc_standard_error"] = float(np.sqrt(np.square(share * (aucs - mean)).sum()))
        return result


def _hash(key: object) -> int:
    raw = key if isinstance(key, bytes) else str(key).encode()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big")
