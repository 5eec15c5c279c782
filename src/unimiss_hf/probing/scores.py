"""How well classes can be read off frozen features: nearest neighbours and a linear classifier."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Of Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), ICCV 2021.
NEIGHBOURS = 20
TEMPERATURE = 0.07
_MOST_ITERATIONS = 2000


class NonFiniteFeaturesError(ValueError):
    """Some features are not numbers, so nothing can be read off them."""


@dataclass(frozen=True)
class Scores:
    """What a classifier reaches on test features.

    Attributes:
        accuracy: one class a case: balanced accuracy, the mean recall of the classes; several at
            once: the mean of the classes' own balanced accuracies at 0.5.
        auroc: the mean over classes of each one's area under the ROC curve against all others.
        class_accuracies: by class: its recall, or its own balanced accuracy.
        class_aurocs: by class.

    A class that test cases have none of, or nothing but, has `None`, and is in no mean; a mean of
    nothing is `None`.
    """

    accuracy: float | None
    auroc: float | None
    class_accuracies: dict[str, float | None]
    class_aurocs: dict[str, float | None]


def chance_accuracy(targets: np.ndarray) -> float:
    """The accuracy that guessing reaches: 1 / (number of classes tested), or 0.5 if they overlap.

    Args:
        targets: of the test cases; `(cases,)` or `(cases, classes)`, see [`knn_scores`].
    """
    return 0.5 if np.ndim(targets) == 2 else 1 / len(np.unique(targets))


def knn_scores(
    train_features: np.ndarray,
    train_targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    class_names: Sequence[str],
) -> Scores:
    """Score the vote of the 20 nearest training cases, by cosine similarity, as DINO does.

    A neighbour's vote weighs `exp(similarity / 0.07)`. Where there are fewer training cases, all
    vote.

    Args:
        train_features: `(cases, channels)`.
        train_targets: the class's number of each case, `(cases,)`; or 0 and 1 for each class,
            `(cases, classes)`, where several may hold at once.
        test_features: `(cases, channels)`.
        test_targets: like `train_targets`.
        class_names: in the order of the classes' numbers.

    Raises:
        ValueError: if features are not finite, or of other numbers of cases than targets.
    """
    _check(train_features, train_targets)
    _check(test_features, test_targets)
    votes = KNeighborsClassifier(
        min(NEIGHBOURS, len(train_features)), weights=_vote_weights, metric="cosine"
    )
    votes.fit(train_features, train_targets)
    found = votes.predict_proba(test_features)
    if np.ndim(train_targets) == 2:
        # Of each class, the columns of those values that training cases have.
        shares = [
            share[:, list(values).index(1)] if 1 in values else np.zeros(len(test_features))
            for share, values in zip(found, votes.classes_, strict=True)
        ]
        return _score(np.stack(shares, axis=1), test_targets, class_names)
    return _score(_all_columns(found, votes.classes_, class_names), test_targets, class_names)


def linear_scores(
    train_features: np.ndarray,
    train_targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    class_names: Sequence[str],
) -> Scores:
    """Score logistic regression on standardised features (a linear probe).

    Its weights are penalised as scikit-learn does by default (L2, C = 1), and the classes of single
    labels are weighed alike. scikit-learn warns if 2000 iterations did not end the fit.

    Args:
        train_features: `(cases, channels)`.
        train_targets: see [`knn_scores`].
        test_features: `(cases, channels)`.
        test_targets: like `train_targets`.
        class_names: in the order of the classes' numbers.

    Raises:
        ValueError: if features are not finite, or of other numbers of cases than targets; if all
            training cases are of one class.
    """
    _check(train_features, train_targets)
    _check(test_features, test_targets)
    several = np.ndim(train_targets) == 2
    if not several and len(np.unique(train_targets)) < 2:
        name = class_names[int(train_targets[0])]
        raise ValueError(f"All {len(train_targets)} training cases are of {name}; wanted several.")
    regression = LogisticRegression(max_iter=_MOST_ITERATIONS, class_weight="balanced")
    probe = make_pipeline(
        StandardScaler(), OneVsRestClassifier(regression) if several else regression
    )
    with warnings.catch_warnings():
        # A class that no training case has is answered by 0, which its AUROC of 0.5 tells.
        warnings.filterwarnings("ignore", message="Label (not )?.* is present in all training")
        probe.fit(np.asarray(train_features, dtype=np.float64), train_targets)
    found = probe.predict_proba(np.asarray(test_features, dtype=np.float64))
    if not several:
        found = _all_columns(found, probe.classes_, class_names)
    return _score(found, test_targets, class_names)


def _check(features: np.ndarray, targets: np.ndarray) -> None:
    if len(features) != len(targets) or not len(features):
        raise ValueError(
            f"There are features of {len(features)} cases and targets of {len(targets)}."
        )
    if not np.isfinite(features).all():
        raise NonFiniteFeaturesError(
            "Some features are not finite numbers; the network's weights may not be."
        )


def _vote_weights(distances: np.ndarray) -> np.ndarray:
    # Cosine distance is 1 - similarity; the constant factor leaves the shares of votes alone.
    return np.exp(-distances / TEMPERATURE)


def _all_columns(found: np.ndarray, classes: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """A column for every class, also for those that no training case has."""
    probabilities = np.zeros((len(found), len(class_names)))
    probabilities[:, classes] = found
    return probabilities


def _score(probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> Scores:
    several = np.ndim(targets) == 2
    numbers = range(len(class_names))
    truths = targets == 1 if several else np.equal.outer(targets, numbers)
    aurocs, accuracies = {}, {}
    chosen = probabilities > 0.5 if several else np.equal.outer(probabilities.argmax(1), numbers)
    for number, name in enumerate(class_names):
        truth = truths[:, number]
        both = 0 < truth.sum() < len(truth)
        aurocs[name] = float(roc_auc_score(truth, probabilities[:, number])) if both else None
        if several:
            score = balanced_accuracy_score(truth, chosen[:, number]) if both else None
        else:
            score = recall_score(truth, chosen[:, number]) if truth.any() else None
        accuracies[name] = None if score is None else float(score)
    return Scores(_mean(accuracies), _mean(aurocs), accuracies, aurocs)


def _mean(values: dict[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return float(np.mean(known)) if known else None
