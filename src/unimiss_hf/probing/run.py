"""A probe from its settings to its scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..modeling_mit import MiTModel
from ..saved_models import choose_device
from .labelled import features_of, find_cases, load_processor, targets_of
from .network import load_encoder, random_encoder
from .organ_probe import OrganProbe, ProbeScores
from .report import Probed, write_report
from .scores import chance_accuracy, knn_scores, linear_scores
from .settings import ProbeSettings

_ORGAN_TASK = "Organ at the centre of a patch of the sample CT"
_ORGAN_NOTE = (
    "All patches are of one patient, from other heights of the body for learning and for testing."
)


def run_probe(settings: ProbeSettings) -> list[Probed]:
    """Score a network's frozen features, and those of random weights, and write the scores.

    Args:
        settings: Of the probe.

    Returns:
        The scores: of the sample CT's patches as slices (2D) and as volumes (3D), or of the data
        set.

    Raises:
        OSError: If the model or the data set is not there, or the output cannot be written.
        ValueError: If a setting cannot be had, or an image cannot be read.
    """
    device = choose_device(settings.device)
    encoder = load_encoder(settings.model)
    encoders = [one.to(device) for one in (encoder, random_encoder(encoder.config, settings.seed))]
    if settings.dataset is None:
        results = _probe_organs(settings, encoders)
    else:
        results = [_probe_cases(settings, encoders)]
    write_report(Path(settings.output).expanduser(), dataclasses.asdict(settings), results)
    return results


def _probe_organs(settings: ProbeSettings, encoders: list[MiTModel]) -> list[Probed]:
    probe = OrganProbe(
        settings.patch_size,
        settings.spacing,
        settings.patches_per_class,
        settings.seed,
        settings.batch_size,
    )
    train, test, overlap = probe.patches.train, probe.patches.test, probe.patches.overlap
    shared = f"Patches of both reach up to {overlap:g} mm into one another." if overlap else ""
    notes = (_ORGAN_NOTE, *([shared] if shared else []))
    return [
        Probed(
            _ORGAN_TASK,
            dimension,
            len(train),
            len(test),
            chance_accuracy(test.labels),
            *(probe.scores(encoder, dimension) for encoder in encoders),
            notes,
        )
        for dimension in ("2d", "3d")
    ]


def _probe_cases(settings: ProbeSettings, encoders: list[MiTModel]) -> Probed:
    cases = find_cases(
        settings.dataset,
        settings.layout,
        settings.dataset_options,
        settings.max_cases,
        settings.seed,
    )
    processor = load_processor(settings.model)
    train, test = (
        features_of(part, encoders, processor, settings.batch_size)
        for part in (cases.train, cases.test)
    )
    targets = targets_of(cases.train), targets_of(cases.test)
    scores = []
    for known, asked in zip(train, test, strict=True):
        data = (known, targets[0], asked, targets[1], cases.class_names)
        scores.append(ProbeScores(knn_scores(*data), linear_scores(*data)))
    return Probed(
        cases.title,
        cases.dimension,
        len(cases.train),
        len(cases.test),
        chance_accuracy(targets[1]),
        *scores,
        cases.notes,
    )
