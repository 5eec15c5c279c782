"""Pipelines that take every input that `MiTImageProcessor` takes, radiographs and volumes mixed."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import BatchFeature
from transformers.pipelines import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .image_inputs_mit import split_inputs
from .label_restoring_mit import InputGrid, label_map, mask_map
from .received_files_mit import InputBounds, open_received
from .sliding_windows_mit import extract_features, predict_logits
from .whole_prediction_mit import predict_labels


@dataclass(frozen=True)
class PipelineInput:
    """One input on its way through a pipeline.

    Attributes:
        batch: what the image processor made of it: a batch of one.
        source_spacing: the spacing (depth, height, width) in mm that the caller gave, if any.
    """

    batch: BatchFeature
    source_spacing: Sequence[float] | None

    @property
    def pixel_values(self) -> torch.Tensor:
        """`(1, channels, [depth,] height, width)`."""
        return self.batch["pixel_values"]

    @property
    def grid(self) -> InputGrid:
        """Where they lie."""
        return self.batch.grids[0]


class MedicalPipeline(Pipeline):
    """What the pipelines share: inputs, parameters, batches.

    An input is whatever `MiTImageProcessor` takes: the path of an image, NIfTI, DICOM or `.npy`
    file or of a folder of DICOM slices; a list of such slices; a PIL or nibabel image; an array or
    tensor. One input gives one result; a list of inputs gives a list of results in its order; an
    iterator or a torch `Dataset` of inputs gives an iterator. Radiographs and volumes may be
    mixed.

    `batch_size` inputs at a time are prepared, and those of equal shape go through the network
    together. `num_workers` processes prepare them. The settings of the image processor (`spacing`,
    `window`, `image_size` and so on) and its `source_spacing` are parameters too. All parameters
    may be given to `pipeline(...)`, for every call, or to a call. The model is put into evaluation
    mode.
    """

    _load_image_processor = True
    _load_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False
    _load_video_processor = False

    _network_parameters: ClassVar[tuple[str, ...]] = ()
    _result_parameters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # What `pipeline` has used to load the model it passes on, as if it were a parameter.
        kwargs.pop("local_files_only", None)
        super().__init__(*args, **kwargs)
        self.model.eval()

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        """Run the pipeline on one input, or on a list, iterator or torch `Dataset` of inputs.

        Raises:
            TypeError: if a parameter or the kind of an input is not known.
            ValueError, OSError: if an input, which is named, or a parameter is not valid.
        """
        if isinstance(inputs, Iterator):
            return super().__call__((item for item in inputs), **parameters)
        if isinstance(inputs, Dataset):
            return super().__call__(inputs, **parameters)
        if isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes):
            inputs = list(inputs)
        single_inputs, many = split_inputs(inputs)
        results = super().__call__(single_inputs, **parameters) if single_inputs else []
        return results if many else results[0]

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], ...]:
        settings = ("source_spacing", *self.image_processor.valid_kwargs.__annotations__)
        own = self._network_parameters + self._result_parameters
        unknown = sorted(parameters.keys() - {*settings, *own})
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no parameter {', '.join(unknown)}. It has "
                f"{', '.join((*own, 'batch_size', 'num_workers'))}, and of the image processor "
                f"{', '.join(settings)}."
            )
        return tuple(
            {name: parameters[name] for name in names if name in parameters}
            for names in (settings, self._network_parameters, self._result_parameters)
        )

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[Any]:
        """Give the results one by one, in the inputs' order."""
        if isinstance(inputs, Sized):
            prepared = PipelineDataset(inputs, self.preprocess, preprocess_params)
        else:
            # Each of several workers would go through the whole stream.
            num_workers = min(num_workers, 1)
            prepared = PipelineIterator(inputs, self.preprocess, preprocess_params)
        # transformers would join a batch at once, which inputs of unequal shapes do not stand.
        batches = DataLoader(
            prepared, batch_size=batch_size, num_workers=num_workers, collate_fn=list
        )
        for batch in batches:
            for outputs in self.forward(batch, **forward_params):
                yield self.postprocess(outputs, **postprocess_params)

    def preprocess(self, source: Any, **settings: Any) -> PipelineInput:
        """Prepare one input."""
        groups = self.image_processor(
            [source], return_tensors="pt", group_by_dimension=True, **settings
        )
        (batch,) = groups.values()
        return PipelineInput(batch, settings.get("source_spacing"))

    def _forward(self, inputs: list[PipelineInput], **parameters: Any) -> list[dict[str, Any]]:
        """Run the network once for each shape; give each input's part of the output, and itself."""
        alike = defaultdict(list)
        for index, prepared in enumerate(inputs):
            alike[prepared.pixel_values.shape].append(index)
        outputs: list[dict[str, Any]] = [{} for _ in inputs]
        for indices in alike.values():
            pixel_values = torch.cat([inputs[index].pixel_values for index in indices])
            for name, tensor in self._run_network(pixel_values, **parameters).items():
                for index, row in zip(indices, tensor.split(1), strict=True):
                    outputs[index][name] = row
        return [
            {**output, "prepared": prepared}
            for output, prepared in zip(outputs, inputs, strict=True)
        ]

    @abstractmethod
    def _run_network(self, pixel_values: torch.Tensor, **parameters: Any) -> dict[str, Any]:
        """Turn `(batch, channels, [depth,] height, width)` into tensors with as long a batch."""

    def _require_logits(self, logits: torch.Tensor | None, wanted: str) -> torch.Tensor:
        classes = self.model.config.num_labels
        if logits is None or logits.shape[1] != classes:
            found = "none" if logits is None else f"shape {tuple(logits.shape)}"
            raise TypeError(
                f"{type(self.model).__name__} gives logits for other things than its config's "
                f"{classes} labels ({found}); {type(self).__name__} needs {wanted}."
            )
        return logits


class MedicalFeatureExtractionPipeline(MedicalPipeline):
    """`pipeline("medical-feature-extraction", ...)`: the features of images and volumes.

    Each result is a dict with

    * `pooled`: the class token, `channels` floats;
    * with `patches=True`: `patches`, the encoder's last feature map, `(patches, channels)`, and
      `shape`, the lengths ([depth,] height, width) of the grid that they lie on, row by row.

    Inputs that are larger than a window are cut into windows (see
    `sliding_windows_mit.extract_features`): pooled features are averaged over them, and patch
    features lie on the grid of the whole input.

    Parameters, beside those of every `MedicalPipeline`:
        window_size: ([depth,] height, width) of a window in voxels; by default what the model was
            trained on.
        overlap: share of a window, from 0 to below 1, that the next one covers again.
        patches: whether to give patch features too.
        return_tensors: whether to give torch tensors, float32 on the CPU, rather than lists.

    Example:

    ```python
    >>> import unimiss_hf
    >>> from transformers import pipeline
    >>> extract = pipeline("medical-feature-extraction", "runs/pretrain_sample/model")
    >>> features = extract(["chest.png", "ct.nii.gz", "folder_of_dicom_slices"])
    ```
    """

    _network_parameters = ("window_size", "overlap")
    _result_parameters = ("patches", "return_tensors")

    def _run_network(self, pixel_values: torch.Tensor, **parameters: Any) -> dict[str, Any]:
        features = extract_features(self.model, pixel_values, **_window_arguments(parameters))
        return {"pooled": features.pooled, "patches": features.patches}

    def postprocess(
        self, outputs: dict[str, Any], patches: bool = False, return_tensors: bool = False
    ) -> dict[str, Any]:
        """Shape one input's features as the class describes."""
        result: dict[str, Any] = {"pooled": outputs["pooled"][0].float()}
        if patches:
            feature_map = outputs["patches"][0].float()
            result["patches"] = feature_map.flatten(1).T.contiguous()
            result["shape"] = tuple(feature_map.shape[1:])
        if return_tensors:
            return result
        return {
            name: value.tolist() if isinstance(value, torch.Tensor) else list(value)
            for name, value in result.items()
        }


class MedicalImageClassificationPipeline(MedicalPipeline):
    """`pipeline("medical-image-classification", ...)`: the labels of images and volumes.

    Each result is a list of `{"label", "score"}`, the best first (see
    `MiTImageProcessor.post_process_classification`).

    A label is about all of an image, so each input goes through the network whole, however large:
    the processor's `image_size`, `spacing` and `volume_size`, which are those of fine-tuning, say
    at what size, and a volume too large for memory needs a `volume_size` or a coarser `spacing`.

    Parameters, beside those of every `MedicalPipeline`:
        top_k: how many labels of each input; all by default.
    """

    _result_parameters = ("top_k",)

    def _run_network(self, pixel_values: torch.Tensor, **parameters: Any) -> dict[str, Any]:
        outputs = self.model(pixel_values.to(self.device), return_dict=True)
        logits = getattr(outputs, "logits", None)
        return {"logits": self._require_logits(logits, "MiTForImageClassification")}

    def postprocess(
        self, outputs: dict[str, Any], top_k: int | None = None
    ) -> list[dict[str, Any]]:
        """Rank one input's labels."""
        config = self.model.config
        (ranked,) = self.image_processor.post_process_classification(
            outputs["logits"], None, config.id2label, config.problem_type, top_k
        )
        return ranked


class MedicalImageSegmentationPipeline(MedicalPipeline):
    """`pipeline("medical-image-segmentation", ...)`: label maps of images and volumes.

    Each result is a dict with

    * `segmentation`: the label map on the input's own grid: a nibabel image with the shape and
      affine of a NIfTI file or DICOM series, ready to save; a PIL image for an image file; an array
      or tensor for an array or tensor;
    * `segments_info`: for each class of the model `{"label_id", "label", "voxels", "volume_ml"}`:
      its number in the label map, its name, how many of the input's own voxels (or pixels) it has,
      and their volume in ml, which is `None` for 2D inputs and arrays without a `source_spacing`.

    A model whose `config.problem_type` is "multi_label_classification" has classes that may
    overlap. Its results have, in place of `segmentation`, `masks`: one for each class, in the
    order of `segments_info`, of the same kinds (see `InputGrid.place`).

    Inputs that are larger than a window are cut into windows that overlap. Of volumes, the logits
    are never held whole, and they go through the network one by one (see
    `whole_prediction_mit.predict_labels`).

    Parameters, beside those of every `MedicalPipeline`:
        window_size: ([depth,] height, width) of a window in voxels; by default what the model was
            trained on.
        overlap: share of a window, from 0 to below 1, that the next one covers again.
        mirror: axes, 0 being the first of ([depth,] height, width), along which windows are
            mirrored too, and logits averaged; none by default. One that this input lacks is an
            error, so radiographs and volumes may need a call each.
    """

    _network_parameters = ("window_size", "overlap", "mirror")

    def _forward(self, inputs: list[PipelineInput], **parameters: Any) -> list[dict[str, Any]]:
        """Label images together and volumes one by one; give each input's labels, and itself."""
        images = [prepared for prepared in inputs if prepared.pixel_values.ndim == 4]
        labelled = iter(super()._forward(images, **parameters)) if images else iter(())
        return [
            next(labelled)
            if prepared.pixel_values.ndim == 4
            else {"labels": self._label_volume(prepared, parameters), "prepared": prepared}
            for prepared in inputs
        ]

    def _run_network(self, pixel_values: torch.Tensor, **parameters: Any) -> dict[str, Any]:
        logits = predict_logits(self.model, pixel_values, **_window_arguments(parameters))
        return {"logits": self._require_logits(logits, "MiTForSemanticSegmentation")}

    def _label_volume(self, prepared: PipelineInput, parameters: dict[str, Any]) -> np.ndarray:
        return predict_labels(
            self.model,
            prepared.pixel_values,
            prepared.grid.grid,
            **_window_arguments(parameters),
        )

    def postprocess(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Bring one input's labels to its own grid, and measure its classes."""
        prepared, config = outputs["prepared"], self.model.config
        multi_label = config.problem_type == "multi_label_classification"
        labels = outputs.get("labels")
        if labels is None:
            restore = mask_map if multi_label else label_map
            labels = restore(outputs["logits"][0], prepared.grid.grid)
        if multi_label:
            voxels = [int(np.count_nonzero(mask)) for mask in labels]
            placed = {"masks": [prepared.grid.place(mask) for mask in labels]}
            first = placed["masks"][0]
        else:
            voxels = np.bincount(labels.reshape(-1), minlength=config.num_labels).tolist()
            placed = {"segmentation": prepared.grid.place(labels)}
            first = placed["segmentation"]
        volume = _voxel_volume(first, prepared)
        segments = [
            {
                "label_id": number,
                "label": config.id2label[number],
                "voxels": count,
                "volume_ml": None if volume is None else count * volume,
            }
            for number, count in enumerate(voxels)
        ]
        return {**placed, "segments_info": segments}


def _window_arguments(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as `sliding_windows_mit` calls them; "window" is the processor's, in HU."""
    return {
        "window" if name == "window_size" else name: value for name, value in parameters.items()
    }


def _voxel_volume(segmentation: Any, prepared: PipelineInput) -> float | None:
    """Volume in ml of one of the input's own voxels, if it is known."""
    if prepared.pixel_values.ndim != 5:
        return None
    if prepared.source_spacing is not None:
        return float(np.prod(prepared.source_spacing)) / 1000
    affine = getattr(segmentation, "affine", None)
    return None if affine is None else float(abs(np.linalg.det(affine[:3, :3]))) / 1000


# InputBounds and open_received are for servers, which come by this module with the pipeline.
__all__ = [
    "InputBounds",
    "MedicalFeatureExtractionPipeline",
    "MedicalImageClassificationPipeline",
    "MedicalImageSegmentationPipeline",
    "MedicalPipeline",
    "PipelineInput",
    "open_received",
]
