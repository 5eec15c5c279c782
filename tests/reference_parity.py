"""Compares this package with figures that the official UniMiSS implementation returned.

    python tests/reference_parity.py tests/reference/*.npz

Takes any file in the format of `tests/reference/README.md`, runs the same computation in float64
through the package's own code, and prints the largest relative error of each recorded quantity.
Exits with 1 when one is above 1e-8 (forward) or 1e-6 (training).
"""

import argparse
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from unimiss_hf import MiTConfig, MiTForPreTraining
from unimiss_hf.conversion import convert_state_dict
from unimiss_hf.pretraining.distillation import SelfDistillation, make_teacher
from unimiss_hf.pretraining.objective import SelfDistillationObjective
from unimiss_hf.pretraining.update import StudentUpdate
from unimiss_hf.training.gradients import clip_each_

FORWARD_TOLERANCE = 1e-8
TRAINING_TOLERANCE = 1e-6
SHAPES_FILE = Path(__file__).parent / "reference" / "state_dict_shapes.json"
SIZES: dict[str, Callable[..., MiTConfig]] = {"tiny": MiTConfig.tiny, "small": MiTConfig.small}


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Make the official entry `name` by the rule of the reference."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    last_part = name.rsplit(".", 1)[-1]
    if last_part == "weight_g":
        values = np.ones(shape)
    elif len(shape) == 3:
        values = 0.02 * values
    elif len(shape) >= 2:
        values = values / np.sqrt(np.prod(shape[1:]))
    elif last_part == "weight":
        values = 1 + 0.1 * values
    else:
        values = 0.05 * values
    return torch.from_numpy(values)


def network_input(tag: str, shape: Iterable[int]) -> torch.Tensor:
    """Make the input `tag` by the rule of the reference."""
    return torch.from_numpy(np.random.default_rng(zlib.crc32(tag.encode())).random(tuple(shape)))


def official_weights(
    size: str, num_prototypes: int | None = None, prefix: str = ""
) -> dict[str, torch.Tensor]:
    """Make an official state dict; with `num_prototypes`, the projection head is included."""
    shapes = json.loads(SHAPES_FILE.read_text())
    named = {prefix + name: shape for name, shape in shapes[f"mit_{size}"].items()}
    if num_prototypes is not None:
        for name, shape in shapes["head"].items():
            is_prototypes = name.startswith("head.last_layer.")
            named[name] = [num_prototypes, *shape[1:]] if is_prototypes else shape
    return {name: weight(name, tuple(shape)) for name, shape in named.items()}


def build_model(
    size: str, official: dict[str, torch.Tensor], num_prototypes: int
) -> MiTForPreTraining:
    """Build a model in float64 and fill it; every entry must find its place."""
    model = MiTForPreTraining(SIZES[size](num_prototypes=num_prototypes)).double()
    converted = convert_state_dict(official)
    missing, unexpected = model.load_state_dict(converted, strict=False)
    missing = [name for name in missing if not name.startswith("projection_head.")]
    if unexpected or missing:
        raise ValueError(f"Conversion left out {missing} and invented {unexpected}.")
    return model


def relative_error(ours: np.ndarray, theirs: np.ndarray, scale: np.ndarray | None = None) -> float:
    """Largest error, relative to each entry, or to `scale`."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if ours.shape != theirs.shape:
        return float("inf")
    scale = np.abs(theirs) if scale is None else scale
    error = np.abs(ours - theirs) / np.maximum(scale, 1e-300)
    return float(np.nan_to_num(np.where(ours == theirs, 0.0, error), nan=np.inf).max(initial=0.0))


def check_forward(figures: dict[str, np.ndarray], size: str) -> dict[str, float]:
    """Compare a `forward_*` file."""
    official = official_weights(size)
    model = build_model(size, official, num_prototypes=8).eval()
    tags = sorted({name.split(".")[0] for name in figures})
    errors = {}
    for tag in tags:
        batch, _, *stem_grid = figures[f"{tag}.encoder0.shape"].tolist()
        # the stem halves height and width, and the official code takes even sizes only
        size_in_plane = [2 * length for length in stem_grid[-2:]]
        channels = 3 if len(stem_grid) == 2 else 1
        pixel_values = network_input(tag, (batch, channels, *stem_grid[:-2], *size_in_plane))
        with torch.no_grad():
            decoded = model(pixel_values)
            encoded = model.encoder(pixel_values, output_hidden_states=True)
        expected = figures[f"{tag}.cls"]
        errors[f"{tag}.cls"] = relative_error(
            decoded.class_token.numpy(), expected, np.abs(expected).max()
        )
        outputs = [*encoded.hidden_states[:-1], encoded.last_hidden_state]
        for index, output in enumerate(outputs):
            name = f"{tag}.encoder{index}"
            output = output.numpy()
            shape_agrees = list(output.shape) == figures[f"{name}.shape"].tolist()
            values = figures[f"{name}.value"]
            errors[f"{name}.value"] = (
                relative_error(
                    output.reshape(-1)[figures[f"{name}.index"]], values, np.abs(values).max()
                )
                if shape_agrees
                else float("inf")
            )
            errors[f"{name}.mean_std"] = relative_error(
                np.array([output.mean(), output.std()]), figures[f"{name}.mean_std"]
            )
    return errors


def check_pretraining(
    figures: dict[str, np.ndarray], size: str, samples_per_backward: int | None = None
) -> dict[str, float]:
    """Compare a `pretrain_*` file: losses, gradients, centre, student and teacher."""
    num_prototypes = len(figures["step0.center"])
    official = official_weights(size, num_prototypes, prefix="backbone.")
    names = {id(tensor): name for name, tensor in official.items()}
    official_name = {
        ours: names[id(tensor)] for ours, tensor in convert_state_dict(official).items()
    }
    student = build_model(size, official, num_prototypes).train()
    teacher = make_teacher(student)
    objective = SelfDistillationObjective(num_prototypes).double()
    distillation = SelfDistillation(
        student, teacher, objective, samples_per_backward=samples_per_backward
    )
    update = StudentUpdate(student, teacher)

    unknown = set(figures["param_names"].tolist()) ^ set(official)
    if unknown:
        raise ValueError(
            f"These parameters are not shared with UniMiSS {size}: {sorted(unknown)[:3]} and "
            f"{max(0, len(unknown) - 3)} more. UniMiSS+ files are not taken."
        )
    errors = {}
    for step, (kind, epoch, lr, weight_decay, momentum) in enumerate(
        json.loads(str(figures["plan"]))
    ):
        shape = (2, 3, 224, 224) if kind == "2D" else (2, 1, 16, 96, 96)
        views = tuple(network_input(f"step{step}.view{view}", shape) for view in range(2))
        report = distillation.accumulate(views)
        errors[f"step{step}.losses"] = relative_error(
            torch.stack(list(report.losses.values())).numpy(), figures[f"step{step}.losses"]
        )

        with_gradient = [
            (official_name[name], parameter)
            for name, parameter in student.named_parameters()
            if parameter.grad is not None
        ]
        norms = clip_each_([parameter for _, parameter in with_gradient], max_norm=None)
        by_name = dict(zip([name for name, _ in with_gradient], norms.tolist(), strict=True))
        expected_names = figures[f"step{step}.grad_names"].tolist()
        errors[f"step{step}.grad_norms"] = (
            relative_error(
                np.array([by_name[name] for name in expected_names]),
                figures[f"step{step}.grad_norms"],
            )
            if set(by_name) == set(expected_names)
            else float("inf")
        )

        update(lr, weight_decay, momentum, prototypes_frozen=epoch == 0)
        errors[f"step{step}.center"] = relative_error(
            objective.centre.numpy().reshape(-1),
            figures[f"step{step}.center"],
            np.abs(figures[f"step{step}.center"]).max(),
        )
        for role, model in (("student", student), ("teacher", teacher)):
            if f"step{step}.{role}.l2" not in figures:
                continue
            parameters = {
                official_name[name]: parameter.detach()
                for name, parameter in model.named_parameters()
            }
            # the prototypes' norms, which we fix at 1 and do not store
            parameters["head.last_layer.weight_g"] = official["head.last_layer.weight_g"]
            ordered = [parameters[name] for name in figures["param_names"].tolist()]
            l2 = np.array([parameter.norm().item() for parameter in ordered])
            errors[f"step{step}.{role}.l2"] = relative_error(l2, figures[f"step{step}.{role}.l2"])
            # a sum may cancel to nothing, so it is held against the norm
            errors[f"step{step}.{role}.sum"] = relative_error(
                np.array([parameter.sum().item() for parameter in ordered]),
                figures[f"step{step}.{role}.sum"],
                np.maximum(np.abs(figures[f"step{step}.{role}.sum"]), l2),
            )
    return errors


def detect_size(path: Path, figures: dict[str, np.ndarray]) -> str:
    """Tell tiny from small by the parameters listed, else by the file's name."""
    if "param_names" in figures:
        is_small = any("block1.1." in name for name in figures["param_names"].tolist())
        return "small" if is_small else "tiny"
    match = re.search("tiny|small", path.stem)
    if match is None:
        raise ValueError("Neither the name nor the content tells the size; give --size.")
    return match[0]


def check_file(path: Path, size: str | None = None) -> tuple[dict[str, float], float]:
    """Compare one file; return each quantity's largest relative error, and the tolerance."""
    with np.load(path) as archive:
        figures = dict(archive)
    size = size or detect_size(path, figures)
    if "plan" in figures:
        return check_pretraining(figures, size), TRAINING_TOLERANCE
    return check_forward(figures, size), FORWARD_TOLERANCE


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="forward_ or pretrain_")
    parser.add_argument("--size", choices=sorted(SIZES), help="when a file does not tell")
    options = parser.parse_args(arguments)
    failed = False
    for path in options.files:
        try:
            errors, tolerance = check_file(path, options.size)
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"{path}  (tolerance {tolerance:g})")
        for name, error in errors.items():
            passed = error <= tolerance
            failed |= not passed
            print(f"  {name:<34}{error:10.2e}{'' if passed else '  FAILED'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
