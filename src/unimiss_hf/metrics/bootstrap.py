"""How sure an AUROC is: resamples of the cases, with replacement.

After Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: the percentile interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Draws for each resample that is wanted, beyond which a class is too rare to be resampled.
MOST_DRAWS = 20
# Numbers held at once for a block of resamples.
_BLOCK = 4_000_000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class AurocResamples:
    """AUROC of resamples.

    Attributes:
        values: `(resamples, classes)`, float64.
        redrawn: how many draws lacked a positive or a negative case of a class, where AUROC is
            undefined, and were drawn again.
    """

    values: np.ndarray
    redrawn: int

    def intervals(self) -> list[list[float]]:
        """The interval [low, high] of each class, in which 95 % of the resamples lie."""
        return np.percentile(self.values, _PERCENTILES, axis=0).T.tolist()

    def macro_interval(self) -> list[float]:
        """The interval of the mean over the classes."""
        return np.percentile(self.values.mean(axis=1), _PERCENTILES).tolist()


def resample_auroc(
    ranking: np.ndarray, positive: np.ndarray, resamples: int, seed: int
) -> AurocResamples:
    """Draw cases with replacement, as many as there are, and take the AUROC of each draw.

    A draw in which any class has no positive or no negative case is drawn again, at most up to
    `MOST_DRAWS` draws for each resample; then there are fewer resamples than wanted.

    Args:
        ranking: `(cases, classes)`, finite; every column has positives and negatives.
        positive: `(cases, classes)`, bool.
        resamples: how many are wanted.
        seed: of the draws.
    """
    classes = [_RankedClass(*columns) for columns in zip(ranking.T, positive.T, strict=True)]
    kept, redrawn = [np.empty((0, len(classes)))], 0
    missing = resamples
    for counts in _draws(len(ranking), resamples, seed):
        positives = counts.astype(np.float64) @ positive
        usable = ((positives > 0) & (positives < len(ranking))).all(axis=1)
        # What is drawn after the last wanted one does not count.
        usable &= np.cumsum(usable) <= missing
        last = np.flatnonzero(usable)[-1] + 1 if usable.sum() == missing else len(usable)
        redrawn += int(last - usable.sum())
        chosen = counts[usable]
        kept.append(np.stack([ranked.auroc(chosen) for ranked in classes], axis=1))
        missing -= len(chosen)
        if not missing:
            break
    return AurocResamples(np.concatenate(kept), redrawn)


def _draws(cases: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks `(draws, cases)` of how often each draw has each case."""
    random = np.random.default_rng(seed)
    left = resamples * MOST_DRAWS
    while left:
        size = min(left, resamples, max(1, _BLOCK // cases))
        drawn = random.integers(cases, size=(size, cases))
        yield np.stack([np.bincount(row, minlength=cases) for row in drawn])
        left -= size


class _RankedClass:
    """A class whose cases are sorted once, for the AUROC of any weights of theirs.

    The AUROC is the share of pairs of a positive and a negative case that are in the right order,
    ties counted as half (Hanley and McNeil, Radiology 1982). A weight stands for equal cases.
    """

    def __init__(self, ranking: np.ndarray, positive: np.ndarray):
        negatives = np.flatnonzero(~positive)
        self._negatives = negatives[np.argsort(ranking[negatives])]
        self._positives = np.flatnonzero(positive)
        beaten, ranks = ranking[self._negatives], ranking[self._positives]
        self._below = np.searchsorted(beaten, ranks, "left")
        self._not_above = np.searchsorted(beaten, ranks, "right")

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """`(draws, cases)` of whole weights → `(draws,)`."""
        summed = np.zeros((len(weights), len(self._negatives) + 1))
        np.cumsum(weights[:, self._negatives], axis=1, out=summed[:, 1:])
        positives = weights[:, self._positives]
        pairs = summed[:, self._below] + summed[:, self._not_above]
        ordered = np.einsum("dp,dp->d", positives, pairs) / 2
        return ordered / (positives.sum(axis=1) * summed[:, -1])
