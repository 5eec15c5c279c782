"""Scores of frozen features, against features whose classes are known."""

import numpy as np
import pytest

from unimiss_hf.probing.scores import chance_accuracy, knn_scores, linear_scores

NAMES = ("lungs", "heart", "liver")
PROBES = pytest.mark.parametrize("probe", [knn_scores, linear_scores])


def clusters(count: int, seed: int, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Features around an axis of their own for each class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(NAMES)
    features = np.eye(8)[labels] + spread * random.normal(size=(count, 8))
    return features.astype(np.float32), labels


@PROBES
def test_classes_that_lie_apart_are_told_apart(probe):
    scores = probe(*clusters(60, 0), *clusters(30, 1), NAMES)
    assert scores.accuracy == scores.auroc == 1.0
    assert scores.class_accuracies == dict.fromkeys(NAMES, 1.0)
    assert scores.class_aurocs == dict.fromkeys(NAMES, 1.0)


@PROBES
def test_features_that_say_nothing_reach_chance(probe):
    labels = np.arange(600) % len(NAMES)
    noise = np.random.default_rng(5).normal(size=(2, 600, 8))
    scores = probe(noise[0], labels, noise[1], labels, NAMES)
    assert scores.accuracy == pytest.approx(chance_accuracy(labels), abs=0.08)
    assert scores.auroc == pytest.approx(0.5, abs=0.08)


@PROBES
def test_accuracy_is_balanced_over_classes(probe):
    features, labels = clusters(60, 0)
    test_features, test_labels = clusters(30, 1)
    # Nine tenths of the test cases are lungs, and all hearts look like lungs.
    kept = np.concatenate([np.flatnonzero(test_labels == 0), [1, 2]])
    test_features[1] = test_features[0]
    scores = probe(features, labels, test_features[kept], test_labels[kept], NAMES)
    assert scores.class_accuracies == {"lungs": 1.0, "heart": 0.0, "liver": 1.0}
    assert scores.accuracy == pytest.approx(2 / 3)


def test_a_near_neighbour_outvotes_many_far_ones():
    angles = np.radians([0.0] * 3 + [40.0] * 17)
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = np.array([0] * 3 + [1] * 17)
    asked = np.array([[1.0, 0.0], [np.cos(0.69), np.sin(0.69)]])
    scores = knn_scores(features, labels, asked, np.array([0, 1]), NAMES[:2])
    # exp(1 / 0.07) for three against exp(cos(40 degrees) / 0.07) for seventeen
    assert 3 * np.exp(1 / 0.07) > 17 * np.exp(np.cos(angles[-1]) / 0.07)
    assert scores.accuracy == 1.0


def test_the_votes_are_those_of_dino():
    (features, labels), (asked, truths) = clusters(50, 0, spread=1.0), clusters(40, 1, spread=1.0)
    normed, normed_asked = (one / np.linalg.norm(one, axis=1)[:, None] for one in (features, asked))
    similarities = normed_asked @ normed.T
    nearest = np.argsort(-similarities, axis=1)[:, :20]
    weights = np.exp(np.take_along_axis(similarities, nearest, 1) / 0.07)
    votes = np.stack([(weights * (labels[nearest] == c)).sum(1) for c in range(3)], axis=1)
    recalls = [(votes.argmax(1)[truths == c] == c).mean() for c in range(3)]
    scores = knn_scores(features, labels, asked, truths, NAMES)
    assert list(scores.class_accuracies.values()) == pytest.approx(recalls)
    assert scores.accuracy == pytest.approx(np.mean(recalls))


@PROBES
def test_a_class_without_test_cases_has_no_score_and_is_in_no_mean(probe):
    features, labels = clusters(30, 1)
    some = labels < 2
    scores = probe(*clusters(60, 0), features[some], labels[some], NAMES)
    assert scores.class_accuracies["liver"] is scores.class_aurocs["liver"] is None
    assert scores.accuracy == 1.0
    assert chance_accuracy(labels[some]) == 0.5


@PROBES
def test_a_class_without_training_cases_is_never_chosen(probe):
    features, labels = clusters(60, 0)
    some = labels < 2
    scores = probe(features[some], labels[some], *clusters(30, 1), NAMES)
    assert scores.class_accuracies["liver"] == 0.0
    assert scores.class_aurocs["liver"] == 0.5


@PROBES
def test_findings_that_overlap_are_scored_one_by_one(probe):
    random = np.random.default_rng(0)
    parts = []
    for count in (120, 60):
        targets = (random.random((count, 3)) < 0.5).astype(np.int64)
        # Directions, so that neighbours by cosine are neighbours, too.
        features = np.concatenate([2.0 * targets - 1, np.ones((count, 1))], axis=1)
        parts += [features + 0.1 * random.normal(size=features.shape), targets]
    parts[3][:, 2] = 0
    scores = probe(*parts, NAMES)
    assert scores.class_aurocs["lungs"] > 0.99 < scores.class_aurocs["heart"]
    assert scores.class_accuracies["lungs"] > 0.9
    assert scores.class_aurocs["liver"] is None
    assert chance_accuracy(parts[3]) == 0.5


@PROBES
def test_a_finding_that_is_never_learnt_is_answered_by_no(probe):
    features, _ = clusters(40, 0)
    targets = np.stack([np.arange(40) % 2, np.zeros(40)], axis=1).astype(np.int64)
    asked = np.stack([np.arange(40) % 2, np.arange(40) % 2], axis=1)
    scores = probe(features, targets, features, asked, NAMES[:2])
    assert scores.class_aurocs["heart"] == 0.5
    assert scores.class_accuracies["heart"] == 0.5


@PROBES
def test_features_that_are_not_finite_are_told(probe):
    features, labels = clusters(30, 0)
    features[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        probe(features, labels, *clusters(9, 1), NAMES)
    with pytest.raises(ValueError, match="features of 9 cases and targets of 30"):
        probe(features[:9], labels, *clusters(9, 1), NAMES)


def test_a_single_class_cannot_be_probed():
    features, labels = clusters(30, 0)
    with pytest.raises(ValueError, match="All 30 training cases are of lungs"):
        linear_scores(features, 0 * labels, features, labels, NAMES)
