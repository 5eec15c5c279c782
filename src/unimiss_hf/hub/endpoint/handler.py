"""The answers of an Inference Endpoint, for the model that lies beside this file.

The toolkit of Inference Endpoints makes an [`EndpointHandler`] of the repository's folder and calls
it, in a thread, with what it made of a request's body. That depends on the Content-Type:

* `application/json`: `{"inputs": ..., "parameters": {...}}`, as they are. Where the endpoint's task
  is one of transformers' image tasks, newer toolkits open a text of `inputs` as a picture before it
  comes here; so a file as base64 is best sent as `{"inputs": {"file": "..."}}`, which they leave
  alone.
* `image/png`, `image/jpeg`, `image/tiff`, `image/bmp`: the toolkit opens the picture itself and
  turns it into 8-bit RGB. Grey levels of 16 bits do not survive that.
* `audio/x-audio`: the bytes, as they are. It is the one kind of type under which every toolkit lets
  a NIfTI file, a DICOM file, a zip of DICOM slices or a 16-bit image through; what they are is told
  by their content. `application/octet-stream` is opened as a picture, or refused.

With a binary body, parameters go into the query, lists as JSON: `?top_k=3&spacing=[3,1,1]`.
Errors are ValueErrors with a sentence, which the toolkit answers with status 400.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import gc
import gzip
import importlib
import importlib.util
import io
import json
import logging
import math
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, ClassVar

import nibabel
import numpy as np
import torch
from PIL import Image
from transformers import pipeline

logger = logging.getLogger(__name__)

_TASKS = {
    "MiTForImageClassification": "medical-image-classification",
    "MiTForSemanticSegmentation": "medical-image-segmentation",
    "MiTForPreTraining": "medical-feature-extraction",
    "MiTModel": "medical-feature-extraction",
    "MiTBackbone": "medical-feature-extraction",
}
# Beside the settings of the image processor.
_PARAMETERS = {
    "medical-image-classification": ("top_k",),
    "medical-image-segmentation": ("window_size", "overlap", "mirror", "output"),
    "medical-feature-extraction": ("window_size", "overlap", "patches"),
}
_SECONDS_TO_ANSWER = 2.0


class EndpointHandler:
    """Answers requests with the model of a folder: its classes, label map or features.

    `inputs` is one image or volume: a file (bytes, base64 text with or without `data:...;base64,`
    before it, or `{"file": text}`), a PIL image, or an array as nested lists of numbers with the
    axes that `MiTImageProcessor` takes. There are no batches: send a request for each input.

    `parameters` are those of the model's pipeline, and the settings of its image processor:

    * classification: `top_k`;
    * segmentation: `window_size`, `overlap`, `mirror`, and `output`, which may be "nifti" to demand
      that the answer is one;
    * features: `window_size`, `overlap`, `patches`;
    * all: `source_spacing`, `spacing`, `window`, `grey_window`, `image_size`, `volume_size`, ...

    Answers:

    * classification: `[{"label", "score"}, ...]`, the best first;
    * segmentation of an image: `[{"label", "score": None, "mask"}, ...]`, one for each class that
      was found, each mask a PNG of 0 and 255 as base64;
    * segmentation of a volume: `{"segmentation", "segments_info"}`, the label map as base64 of a
      `.nii.gz` on the input's own grid, and the pipeline's list of classes. Classes that may
      overlap have one 4-D file, whose last axis is their order in `segments_info`. A NIfTI file
      with one slice is answered so too. That of an array has the axes (width, height, depth), and
      `source_spacing` in its header, else 1 mm;
    * features: `[[...]]`, the class token; with `patches` the pipeline's dict.

    Each bound is replaced by an environment variable of its name, `UNIMISS_MAX_VOXELS` and so on:

    Attributes:
        max_bytes: of a file as it comes; 512 MiB.
        max_decoded_bytes: of it after decompression; 2 GiB.
        max_pixels: of an image, as it is stored and as the network gets it; 2^26, 8192 x 8192.
        max_voxels: of a volume, likewise; 2^27, 512 x 512 x 512. Memory grows with it: some 20
            bytes a voxel while one is prepared, and one more for each class that may overlap.
        max_files: in a zip of DICOM slices; 4096.
        max_at_once: requests that are prepared and computed at once; 2. Others wait.
    """

    max_bytes: ClassVar[int] = 2**29
    max_decoded_bytes: ClassVar[int] = 2**31
    max_pixels: ClassVar[int] = 2**26
    max_voxels: ClassVar[int] = 2**27
    max_files: ClassVar[int] = 2**12
    max_at_once: ClassVar[int] = 2

    def __init__(self, path: str | Path = "") -> None:
        """Open the model in a folder, on a GPU if there is one. Nothing is downloaded.

        Raises:
            OSError: if the folder holds no model.
            ValueError: if the model has no task here, or a bound is not a positive number.
        """
        folder = Path(path)
        self.task = _task_of(folder)
        if importlib.util.find_spec("unimiss_hf") is not None:
            importlib.import_module("unimiss_hf")  # Else the code in the folder serves.
        self.pipeline = pipeline(
            self.task,
            str(folder.resolve()),
            trust_remote_code=True,
            device="cuda" if torch.cuda.is_available() else "cpu",
            local_files_only=True,
        )
        if "window_size" in _PARAMETERS[self.task]:
            # Cutting into windows loads it; the first large input would have to wait for that.
            importlib.import_module("monai.inferers")
        code = sys.modules[type(self.pipeline).__module__]
        self._open_received = code.open_received
        self._bounds = code.InputBounds(
            **{
                name: _bound_of(f"max_{name}", getattr(self, f"max_{name}"))
                for name in ("bytes", "decoded_bytes", "pixels", "voxels", "files")
            }
        )
        # The toolkit opens pictures before this class sees them; Pillow refuses at twice this.
        Image.MAX_IMAGE_PIXELS = -(-self._bounds.pixels // 2)
        self._later = threading.Timer(_SECONDS_TO_ANSWER, _return_memory)
        self._places = threading.BoundedSemaphore(_bound_of("max_at_once", self.max_at_once))

    def __call__(self, data: dict[str, Any]) -> Any:
        """Answer one request, `{"inputs": ..., "parameters": {...}}`. Threads may call at once.

        Raises:
            ValueError: if it cannot be answered; a sentence says why.
        """
        with self._places:
            answer, refusal = self._attempt(data)
            _return_memory()
            # Once more, when the toolkit has let go of the body and sent the last answer.
            later = threading.Timer(_SECONDS_TO_ANSWER, _return_memory, [True])
            later.daemon = True
            before, self._later = self._later, later
            before.cancel()
            later.start()
        if refusal is not None:
            # Not while the error is handled: it would keep all arrays of its frames alive.
            raise ValueError(refusal)
        return answer

    def _attempt(self, data: dict[str, Any]) -> tuple[Any, str | None]:
        """The answer, or a sentence."""
        with tempfile.TemporaryDirectory(prefix="endpoint-") as folder:
            try:
                return self._answer(data, Path(folder)), None
            except (ValueError, TypeError, OSError, ImportError) as error:
                refusal = str(error)
            except (MemoryError, torch.OutOfMemoryError):
                refusal = (
                    "There is not enough memory for this input. Send a smaller one, or set a "
                    "coarser spacing or a volume_size."
                )
            except Exception as error:
                logger.exception("A request failed.")
                refusal = f"This input cannot be processed: {type(error).__name__}: {error}"
        return None, refusal.replace(f"{folder}/", "")

    def _answer(self, data: dict[str, Any], folder: Path) -> Any:
        if not isinstance(data, dict) or not {"inputs"} <= data.keys() <= {"inputs", "parameters"}:
            found = sorted(data) if isinstance(data, dict) else _shown(data)
            raise ValueError(
                f'A request is {{"inputs": ..., "parameters": {{...}}}}; this one has {found}.'
            )
        parameters = self._parameters_of(data.get("parameters"))
        output = parameters.pop("output", None)
        # Taken out of the request, so that a file's text does not stay beside its voxels.
        source = self._source_of(data.pop("inputs"), folder)
        with self._bounds.resampling():
            result = self.pipeline(source, **parameters)
        if self.task == "medical-image-segmentation":
            return _segmentation(result, parameters.get("source_spacing"), output)
        if self.task == "medical-image-classification":
            _require_finite([entry["score"] for entry in result])
            return result
        _require_finite([result["pooled"], *result.get("patches", ())])
        return result if parameters.get("patches") else [result["pooled"]]

    def _parameters_of(self, given: Any) -> dict[str, Any]:
        """The parameters, checked where the pipeline would not; texts of a query as values."""
        if not isinstance(given, dict | None):
            raise ValueError(f"parameters must be an object with names; got {_shown(given)}.")
        parameters = {name: _value_of(value) for name, value in (given or {}).items()}
        settings = self.pipeline.image_processor.valid_kwargs.__annotations__
        known = (*_PARAMETERS[self.task], "source_spacing", *settings)
        unknown = sorted(parameters.keys() - set(known))
        if unknown:
            raise ValueError(
                f"There is no parameter {', '.join(unknown)}. There are {', '.join(known)}."
            )
        for name, allowed in (("patches", (True, False)), ("output", (None, "nifti"))):
            if name in parameters and parameters[name] not in allowed:
                wanted = " or ".join(json.dumps(value) for value in allowed)
                raise ValueError(f"{name} must be {wanted}; got {_shown(parameters[name])}.")
        for name in ("window_size", "overlap", "mirror"):
            if name in parameters:
                _require_numbers(name, parameters[name])
        for name, bound in (("image_size", "pixels"), ("volume_size", "voxels")):
            size = parameters.get(name)
            if isinstance(size, dict) and all(isinstance(n, int) for n in size.values()):
                self._bounds.require(bound, math.prod(size.values()), f"{bound} in {name}")
        return parameters

    def _source_of(self, inputs: Any, folder: Path) -> Any:
        """What the pipeline takes, within the bounds; files of DICOM are copied to the folder."""
        if isinstance(inputs, dict) and inputs.keys() == {"file"}:
            inputs = inputs["file"]
        if isinstance(inputs, str):
            self._bounds.require("bytes", len(inputs) * 3 // 4 - 2, "bytes")
            inputs = _bytes_of(inputs)
        if isinstance(inputs, bytes | bytearray | memoryview):
            source = self._open_received(bytes(inputs), folder, self._bounds)
            return str(source) if isinstance(source, Path) else source
        if isinstance(inputs, Image.Image):
            self._bounds.require("pixels", inputs.width * inputs.height, "pixels")
            return inputs
        if isinstance(inputs, list | np.ndarray):
            array = _array_of(inputs)
            self._bounds.require("voxels", array.size, "numbers")
            return array
        raise ValueError(
            f"inputs must be a file as base64, or an array as nested lists of numbers; got "
            f"{_shown(inputs)}."
        )


def _task_of(folder: Path) -> str:
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"There is no {config}; the handler lies in the folder of a model.")
    architectures = json.loads(config.read_text()).get("architectures") or [None]
    if architectures[0] not in _TASKS:
        raise ValueError(
            f"{config} has the architecture {architectures[0]}; wanted one of {', '.join(_TASKS)}."
        )
    return _TASKS[architectures[0]]


def _bound_of(name: str, default: int) -> int:
    variable = f"UNIMISS_{name.upper()}"
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{variable} must be a positive whole number; got {text!r}.")
    return int(text)


def _require_finite(values: list[Any]) -> None:
    if not all(np.isfinite(row).all() for row in values):
        raise ValueError("The model gives values that are not finite numbers for this input.")


def _require_numbers(name: str, value: Any) -> None:
    single = name == "overlap" and not isinstance(value, list)
    numbers = [value] if single else value
    kinds = {int, float} if name == "overlap" else {int}
    if not isinstance(numbers, list) or not {type(number) for number in numbers} <= kinds:
        wanted = "a number or a list of numbers" if name == "overlap" else "a list of whole numbers"
        raise ValueError(f"{name} must be {wanted}; got {_shown(value)}.")


def _shown(value: Any) -> str:
    return f"the {type(value).__name__} {str(value)[:60]}"


def _value_of(value: Any) -> Any:
    """The value that a text is in JSON, or the text: a query has nothing but texts."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _bytes_of(text: str) -> bytes:
    """The file that a text is, in base64."""
    if text.startswith("data:"):
        start, comma, text = text.partition(",")
        if not comma or not start.endswith(";base64"):
            raise ValueError(f"A data URL must be base64; got one that starts with {start[:40]}.")
    if "\n" in text[:200]:
        text = "".join(text.split())
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(
            f"inputs is a text of {len(text)} characters that is not base64 ({error}). URLs and "
            f"paths are not opened: send the file itself."
        ) from error


def _array_of(numbers: Any) -> np.ndarray:
    try:
        array = np.array(numbers)
    except ValueError as error:
        raise ValueError("inputs is a list whose rows differ in length: no array.") from error
    if array.dtype.kind not in "iufb":
        raise ValueError(
            "inputs is a list of other things than numbers. A list is one array; send a request "
            "for each image or volume."
        )
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _segmentation(result: dict[str, Any], spacing: Any, output: str | None) -> Any:
    """The pipeline's label map, or its masks, as JSON."""
    segments, overlapping = result["segments_info"], "masks" in result
    maps = result["masks"] if overlapping else [result["segmentation"]]
    if isinstance(maps[0], np.ndarray) and _is_volume(maps[0]):
        maps = [_array_as_nifti(labels, spacing) for labels in maps]
    if isinstance(maps[0], nibabel.spatialimages.SpatialImage):
        image = _joined(maps) if overlapping else maps[0]
        return {"segmentation": _as_text(_nifti_bytes(image)), "segments_info": segments}
    if output is not None:
        raise ValueError("The label map of this image is no NIfTI file; leave output away.")
    planes = [_plane(np.asarray(labels)) for labels in maps]
    if overlapping:
        masks = {number: plane for number, plane in enumerate(planes) if plane.any()}
    else:
        masks = {int(number): planes[0] == number for number in np.unique(planes[0])}
    names = {segment["label_id"]: segment["label"] for segment in segments}
    return [
        {"label": names[number], "score": None, "mask": _as_text(_png_bytes(mask))}
        for number, mask in masks.items()
    ]


def _is_volume(labels: np.ndarray) -> bool:
    return labels.ndim > 3 or (labels.ndim == 3 and 1 not in (labels.shape[0], labels.shape[-1]))


def _plane(labels: np.ndarray) -> np.ndarray:
    """`(height, width)` of a label map, without the axis of channels that an array may have."""
    if labels.ndim == 2:
        return labels
    return labels[0] if labels.shape[0] == 1 else labels[..., 0]


def _array_as_nifti(labels: np.ndarray, spacing: Any) -> nibabel.Nifti1Image:
    """A label map `([1, 1,] depth, height, width)` as an image (x, y, z)."""
    labels = labels.reshape(labels.shape[-3:]).T
    stored = labels.astype(np.uint8) if labels.dtype == bool else labels
    return nibabel.Nifti1Image(stored, np.diag([*(spacing or (1, 1, 1))[::-1], 1.0]))


def _joined(masks: list[Any]) -> Any:
    """One image `(x, y, z, classes)` of the masks of classes."""
    planes = [np.asarray(mask.dataobj) for mask in masks]
    stacked = np.stack([plane.reshape((*plane.shape, 1)[:3]) for plane in planes], axis=-1)
    return type(masks[0])(stacked, masks[0].affine, masks[0].header)


def _nifti_bytes(image: Any) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file:
        image.to_stream(file)
    return packed.getvalue()


def _png_bytes(mask: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask).astype(np.uint8) * 255).save(packed, format="PNG")
    return packed.getvalue()


def _as_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _return_memory(collect: bool = False) -> None:
    """Give freed memory back to the system: glibc keeps that of every thread, a volume or more.

    `collect` frees cycles too, such as those of errors, which hold the body that they are about.
    """
    if collect:
        gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
