"""The image processor of MiT: radiographs and volumes in, tensors out, and answers back."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from .classification_scores_mit import Classification, ranked_labels
from .grey_levels_mit import GreyWindow, require_grey_window
from .hounsfield_mit import MEASURED, WINDOWS, require_window, scale_of
from .image_inputs_mit import DIMENSION_NAMES, dimension_of, split_inputs
from .input_checks_mit import Spacing, name_of, require_spacing
from .label_restoring_mit import InputGrid
from .preparation_mit import Prepared, prepare_radiograph, prepare_volume
from .volume_grids_mit import AXES


class MiTImageProcessorKwargs(TypedDict, total=False):
    """The settings of `MiTImageProcessor`; a call may replace any of them."""

    image_size: dict[str, int] | None
    num_channels: int
    grey_window: GreyWindow
    spacing: Spacing | None
    window: str | Sequence[float] | None
    scaling: str | Sequence[float]
    volume_size: dict[str, int] | None


class MiTBatchFeature(BatchFeature):
    """What the processor returns: `pixel_values`, and how they lie on their inputs' own grids.

    Attributes:
        grids: one `InputGrid` for each input, in the order of `pixel_values`.
    """

    grids: list[InputGrid]

    def __getstate__(self) -> dict[str, Any]:
        """What pickling and copying keep: the grids too."""
        return {**super().__getstate__(), "grids": self.grids}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` kept."""
        super().__setstate__(state)
        self.grids = state["grids"]

    def to(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """Send tensors to a device or type, those grouped by dimension too."""
        for value in self.values():
            if isinstance(value, BatchFeature):
                value.to(*args, **kwargs)
        return super().to(*args, **kwargs)


class MiTImageProcessor(BaseImageProcessor):
    """Turn radiographs and volumes into the tensors that the UniMiSS networks take, and back.

    An input is

    * the path of a PNG, JPEG, TIFF, ... file, of a NIfTI file (`.nii`, `.nii.gz`; or another that
      nibabel reads), of a DICOM file, of a folder of DICOM slices, or of a `.npy` file;
    * a list of DICOM slices;
    * a PIL image, a nibabel image, a numpy array or a torch tensor.

    It tells by itself whether it is 2D or 3D: a volume file or DICOM file with one slice is 2D;
    arrays are 2D as `(height, width)`, `(1 or 3, height, width)` and `(height, width, 1 or 3)`, and
    3D as `(depth, height, width)` with at least 4 slices, `(1, depth, height, width)` unless depth
    is 1 or 3, and `(1, 1, depth, height, width)`, in HU and with the axes of `reverse_axes`.

    A radiograph's grey levels become [0, 1] (`grey_window`), and it is resized, with antialiasing,
    to `image_size`. All of it is kept, so its aspect ratio is not: pretraining stretches its crops
    by up to 4/3, and more than that is warned of. A volume is reoriented to RAS+ and resampled to
    `spacing` (see `read_volume`), cropped or filled up with air around its centre to `volume_size`,
    clipped to `window` and scaled. A slice of a CT is resized like a radiograph, then clipped and
    scaled like a volume: pretraining sees slices so.

    Attributes:
        image_size: `{"height": 224, "width": 224}` of 2D inputs; `None` keeps the size they have.
        num_channels: of 2D inputs, 1 (which the networks take for 3 equal ones) or 3.
        grey_window: the (level, width) of a radiograph's stored grey levels that become [0, 1];
            "minmax"; "percentiles" (0.5 to 99.5); "hounsfield" for 2D inputs in HU; `None`: what
            the file declares (a DICOM file's VOI window, else the range of its type).
        spacing: (depth, height, width) in mm of 3D inputs; `None` keeps the native grid.
        window: in HU: "pretraining" (-1024 to 3071), "lung", "soft tissue", "bone", or (level,
            width); `None` does not clip. For MR, whose values have no unit: "percentiles", from the
            0.5th to the 99.5th of each volume's voxels, with "unit" for the scaling; it is filled
            up with the lowest of them.
        scaling: "pretraining" divides HU by 1024; "unit" makes the window [0, 1]; (offset, divisor)
            gives (HU - offset) / divisor.
        volume_size: `{"depth": ..., "height": ..., "width": ...}`; `None` keeps the size.

    Raises:
        ValueError, TypeError: if a setting is not valid or there is none of that name.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    valid_kwargs = MiTImageProcessorKwargs

    def __init__(self, **kwargs: Any) -> None:
        settings = {name: kwargs.pop(name, default) for name, default in _DEFAULTS.items()}
        _refuse_unknown(kwargs.keys() - _BOOKKEEPING)
        super().__init__(**kwargs, **_checked(settings))

    def preprocess(
        self,
        images: Any,
        *,
        segmentation_maps: Any = None,
        source_spacing: Spacing | None = None,
        group_by_dimension: bool = False,
        return_tensors: str | None = None,
        **settings: Any,
    ) -> BatchFeature:
        """Prepare one input or a list of them.

        Args:
            images: an input or a list of inputs. A list within it, and a flat list of DICOM files
                that are the slices of one series, are one volume.
            segmentation_maps: a label map for each input, on its input's own grid (see
                `read_labels`); resampled to the nearest label, 0 where volumes are filled up.
            source_spacing: the true spacing of volumes in mm, (depth, height, width): it replaces
                what a file's header says, and without it arrays are not resampled.
            group_by_dimension: whether inputs of both dimensions may be mixed. `source_spacing`
                is for the volumes among them.
            return_tensors: "pt", "np", or `None` for a list with one array for each input.
            **settings: replace those of the same name for this call.

        Returns:
            `pixel_values`, float32, `(batch, channels, height, width)` or
            `(batch, 1, depth, height, width)`; `labels`, int64, without channels, if label maps
            were given; and the attribute `grids`. With `group_by_dimension`, "2d" and "3d", those
            that there are, each with all of this and `indices`, the places of its inputs.

        Raises:
            OSError: if a file is missing, truncated or of no known kind.
            ValueError, TypeError: if an input or a setting is not valid or of no known kind, or the
                inputs form no batch.
            ImportError: if a package that a file needs is missing.
        """
        _refuse_unknown(
            settings.keys() - _DEFAULTS.keys(),
            ", and of a call source_spacing, segmentation_maps, group_by_dimension, return_tensors",
        )
        settings = _checked({name: getattr(self, name) for name in _DEFAULTS} | settings)
        inputs, _ = split_inputs(images)
        if not inputs:
            raise ValueError("Got an empty list; a batch holds one image or volume or more.")
        maps = _label_maps(segmentation_maps, inputs)
        dimensions = [dimension_of(source) for source in inputs]
        if len(set(dimensions)) > 1 and not group_by_dimension:
            found = {
                name_of(source): DIMENSION_NAMES[dimension]
                for source, dimension in zip(inputs, dimensions, strict=True)
            }
            raise ValueError(
                f"A batch is of one dimension; got {found}. Pass images and volumes in separate "
                f"calls, or set group_by_dimension=True."
            )
        if source_spacing is not None:
            source_spacing = require_spacing("source_spacing", source_spacing)
            if 3 not in dimensions and not group_by_dimension:
                raise ValueError(f"source_spacing={source_spacing} is for volumes; got 2D images.")
        prepared = [
            prepare_volume(source, labels, source_spacing, settings)
            if dimension == 3
            else prepare_radiograph(source, labels, settings)
            for source, labels, dimension in zip(inputs, maps, dimensions, strict=True)
        ]
        if not group_by_dimension:
            return _batch(prepared, return_tensors)
        groups = MiTBatchFeature({})
        groups.grids = [item.grid for item in prepared]
        for dimension in sorted(set(dimensions)):
            indices = [index for index, found in enumerate(dimensions) if found == dimension]
            group = _batch([prepared[index] for index in indices], return_tensors)
            group["indices"] = indices
            groups[DIMENSION_NAMES[dimension].lower()] = group
        return groups

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        inputs: Any = None,
        target_sizes: Sequence[tuple[int, int]] | None = None,
        **settings: Any,
    ) -> list[Any]:
        """Turn a segmentation model's scores into label maps on the inputs' own grids.

        Each voxel gets the one class with the highest score. Where classes may overlap, see
        `post_process_multi_label_segmentation`.

        Args:
            outputs: the model's output, or its logits `(batch, classes, [depth,] height, width)`,
                or a list of them, one `(classes, [depth,] height, width)` for each input.
            inputs: what `preprocess` returned, or what it was given (then files are read again).
            target_sizes: (height, width) of each label map, for 2D alone, as transformers'
                pipelines ask; instead of `inputs`.
            **settings: those that `preprocess` was called with, if `inputs` is not what it
                returned.

        Returns:
            A label map for each input, see `InputGrid.restore`: a nibabel image with the shape and
            affine of a volume file, ready to save; a PIL image for an image file; an array or
            tensor for an array or tensor. With neither `inputs` nor `target_sizes`, or with
            `target_sizes`: int64 tensors `([depth,] height, width)`.

        Raises:
            ValueError: if the numbers of outputs and inputs, or their dimensions, do not agree.
        """
        scores = _scores(outputs)
        if inputs is None:
            sizes = [None] * len(scores) if target_sizes is None else list(target_sizes)
            _require_equal(len(scores), len(sizes), "target_sizes")
            return [_resized_labels(score, size) for score, size in zip(scores, sizes, strict=True)]
        if target_sizes is not None:
            raise ValueError("Give inputs or target_sizes, not both.")
        grids = self._grids_of(inputs, len(scores), settings)
        return [grid.restore(score) for grid, score in zip(grids, scores, strict=True)]

    def post_process_multi_label_segmentation(
        self, outputs: Any, inputs: Any, threshold: float = 0.5, **settings: Any
    ) -> list[list[Any]]:
        """Turn scores of classes that may overlap into masks on the inputs' own grids.

        Args:
            outputs: as `post_process_semantic_segmentation` takes them, of a model whose
                `config.problem_type` is "multi_label_classification".
            inputs: what `preprocess` returned, or what it was given (then files are read again).
            threshold: the probability, between 0 and 1, above which a voxel is inside a mask.
            **settings: those that `preprocess` was called with, if `inputs` is not what it
                returned.

        Returns:
            For each input, a mask of each class in the order of the classes' numbers, see
            `InputGrid.place`: a nibabel image of 0 and 1 with the shape and affine of a volume
            file; a PIL image of mode "1" for an image file; an array or tensor of booleans for an
            array or tensor.

        Raises:
            ValueError: if the threshold is not between 0 and 1, or the numbers of outputs and
                inputs, or their dimensions, do not agree.
        """
        scores = _scores(outputs)
        grids = self._grids_of(inputs, len(scores), settings)
        return [
            grid.restore_masks(score, threshold) for grid, score in zip(grids, scores, strict=True)
        ]

    def _grids_of(self, inputs: Any, wanted: int, settings: dict[str, Any]) -> list[InputGrid]:
        grids = _grids(inputs)
        if grids is None:
            grids = self.preprocess(inputs, group_by_dimension=True, **settings).grids
        _require_equal(wanted, len(grids), "inputs")
        return grids

    def post_process_classification(
        self,
        outputs: Any,
        inputs: Any = None,
        id2label: dict[int, str] | None = None,
        problem_type: str | None = None,
        top_k: int | None = None,
    ) -> list[list[Classification]]:
        """Turn a classification model's scores into labels, the best first.

        Args:
            outputs: the model's output or its logits, `(batch, classes)`.
            inputs: what `preprocess` returned or was given; only their number is compared.
            id2label: the classes' names; by default their numbers.
            problem_type: "single_label_classification" (softmax; the default of several classes),
                "multi_label_classification" (sigmoid; the default of one class) or "regression"
                (the scores as they are, in the classes' order).
            top_k: how many labels of each input; all by default.

        Returns:
            For each input, `{"label", "score"}` of its classes.

        Raises:
            ValueError: if the logits have another shape, their number is not that of the inputs,
                `id2label` lacks a class, or an argument is not valid.
        """
        logits = torch.as_tensor(getattr(outputs, "logits", outputs)).detach().float().cpu()
        if inputs is not None:
            grids = _grids(inputs)
            wanted = len(split_inputs(inputs)[0] if grids is None else grids)
            _require_equal(len(logits), wanted, "inputs")
        return ranked_labels(logits, id2label, problem_type, top_k)

    def to_dict(self) -> dict[str, Any]:
        """All settings, those that are `None` too, as they are saved."""
        own = {name: getattr(self, name) for name in _DEFAULTS}
        return super().to_dict() | copy.deepcopy(own)

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a processor of saved settings; a TypeError names one that is mistyped.

        Names like none of the settings are passed over: transformers' loaders pass their own on.
        """
        unknown = kwargs.keys() - _DEFAULTS.keys()
        _refuse_unknown({name for name in unknown if difflib.get_close_matches(name, _DEFAULTS)})
        return super().from_dict(image_processor_dict, **kwargs)


_DEFAULTS: dict[str, Any] = {
    "image_size": {"height": 224, "width": 224},
    "num_channels": 1,
    "grey_window": None,
    "spacing": (3.0, 1.0, 1.0),
    "window": "pretraining",
    "scaling": "pretraining",
    "volume_size": None,
}
# What transformers saves beside the settings.
_BOOKKEEPING = {"image_processor_type", "processor_class", "feature_extractor_type", "auto_map"}


def _refuse_unknown(names: set[str], also: str = "") -> None:
    if names:
        raise TypeError(f"There is no setting {sorted(names)}; there are {list(_DEFAULTS)}{also}.")


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back; a ValueError names the one that is not valid."""
    checked = copy.deepcopy(settings)
    if settings["spacing"] is not None:
        checked["spacing"] = list(require_spacing("spacing", settings["spacing"]))
    if not isinstance(settings["window"], str | None):
        checked["window"] = list(require_window("window", settings["window"]))
    elif settings["window"] not in (None, MEASURED):
        require_window("window", settings["window"])
    grey = require_grey_window("grey_window", settings["grey_window"])
    checked["grey_window"] = list(grey) if isinstance(grey, tuple) else grey
    # That of percentiles is known with a volume alone; any other does to check the scaling.
    window = WINDOWS["pretraining"] if checked["window"] == MEASURED else checked["window"]
    scale = scale_of(settings["scaling"], window)
    if not isinstance(settings["scaling"], str):
        checked["scaling"] = list(scale)
    rules = {
        "image_size": (_is_size(checked["image_size"], AXES[1:]), _size_in_words(AXES[1:])),
        "num_channels": (_is_length(checked["num_channels"], (1, 3)), "1 or 3"),
        "volume_size": (_is_size(checked["volume_size"], AXES), _size_in_words(AXES)),
    }
    for field, (valid, wanted) in rules.items():
        if not valid:
            raise ValueError(f"{field} must be {wanted}; got {settings[field]!r}.")
    return checked


def _is_size(size: Any, axes: tuple[str, ...]) -> bool:
    if not isinstance(size, dict) or size.keys() != set(axes):
        return size is None
    return all(_is_length(length) for length in size.values())


def _size_in_words(axes: tuple[str, ...]) -> str:
    entries = ", ".join(f'"{axis}": ...' for axis in axes)
    return f"{{{entries}}} with positive integers, or None"


def _is_length(value: Any, among: tuple[int, ...] | None = None) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return value > 0 if among is None else value in among


def _label_maps(maps: Any, inputs: list[Any]) -> list[Any]:
    if maps is None:
        return [None] * len(inputs)
    listed = list(maps) if isinstance(maps, list | tuple) else [maps]
    _require_equal(len(listed), len(inputs), "segmentation_maps", "label maps")
    without = [
        name_of(source) for source, labels in zip(inputs, listed, strict=True) if labels is None
    ]
    if without:
        raise ValueError(f"segmentation_maps: there is none for {', '.join(without[:5])}.")
    return listed


def _scores(outputs: Any) -> list[torch.Tensor]:
    """The logits of each input."""
    logits = getattr(outputs, "logits", outputs)
    if isinstance(logits, tuple | Mapping) or not len(logits):
        raise ValueError(
            f"Wanted the output of a segmentation model, its logits, or a list with the logits of "
            f"each input; got {type(outputs).__name__}, which has no logits."
        )
    return [torch.as_tensor(score).detach() for score in logits]


def _grids(inputs: Any) -> list[InputGrid] | None:
    """The grids of what `preprocess` returned; `None` for the inputs themselves."""
    grids = getattr(inputs, "grids", None)
    if grids is None and isinstance(inputs, Mapping):
        raise ValueError(
            f"inputs with {list(inputs)} have no grids any more. Pass what the processor returned "
            f"itself, or the inputs that it was given."
        )
    return grids


def _require_equal(found: int, wanted: int, field: str, what: str = "outputs") -> None:
    if found != wanted:
        raise ValueError(f"{field}: got {found} {what} for {wanted} inputs; one each is needed.")


def _batch(prepared: list[Prepared], return_tensors: str | None) -> MiTBatchFeature:
    values: dict[str, Any] = {"pixel_values": [item.pixels for item in prepared]}
    if prepared[0].labels is not None:
        values["labels"] = [item.labels for item in prepared]
    shapes = {item.pixels.shape: item.grid.name for item in prepared}
    if return_tensors is not None:
        if len(shapes) > 1:
            raise ValueError(
                f"Inputs of unequal shapes (channels, then lengths) form no batch: {shapes}. Set "
                f"image_size (2D) or volume_size (3D), or pass them one by one."
            )
        values = {
            name: np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
            for name, arrays in values.items()
        }
    batch = MiTBatchFeature(values, tensor_type=return_tensors)
    batch.grids = [item.grid for item in prepared]
    return batch


def _resized_labels(score: torch.Tensor, size: tuple[int, int] | None) -> torch.Tensor:
    if size is not None:
        score = torch.nn.functional.interpolate(
            score[None].float(), size=tuple(size), mode="bilinear", align_corners=False
        )[0]
    return score.argmax(0) if len(score) > 1 else (score[0] > 0).long()
