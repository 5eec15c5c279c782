"""What the card of a fine-tuned model says, whether the model is there or is to be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import ModelCard

from ..data.labelled.case import LabelledLayout
from ..data.labelled.class_folders import CLASS_FOLDERS
from ..data.labelled.nnunet import NNUNET
from ..data.layouts.item import License
from ..hub.card_rendering import render_card
from ..hub.compute_record import ComputeRecord
from ..hub.input_description import (
    describe_images,
    describe_lengths,
    describe_volumes,
    describe_window,
    is_magnetic_resonance,
)
from ..hub.licenses import license_of_weights
from ..hub.training_data import TrainingData
from ..hub.widget import EXAMPLE, widget_field
from ..image_processing_mit import MiTImageProcessor
from .description import is_path
from .settings import FinetuningSettings

# What tells runs apart, and nothing of the machine.
_SHOWN = (
    "seed",
    "freeze",
    "drop_path_rate",
    "label_fraction",
    "folds",
    "fold",
    "split_seed",
    "patch_size",
    "foreground_fraction",
    "epochs",
    "max_steps",
    "batch_size",
    "accumulation",
    "learning_rate",
    "layer_decay",
    "weight_decay",
)
_ONLY_OF_SEGMENTATION = ("foreground_fraction",)
# Options of readers by which cases are changed before the processor sees them.
_PREPARED = {
    "extent": "cut out to {} mm around a nodule, by the reader of the data set; do the same",
    "resized": "resized to {} voxels, by the reader of the data set; do the same",
}
# Ways to arrange one's own data: nobody knows what they are, or whose.
_FORMATS = {
    NNUNET.name: "data of one's own in nnU-Net's raw format",
    CLASS_FOLDERS.name: "images of one's own, a folder for each class",
}


@dataclass(frozen=True)
class TaskOrigin:
    """What a fine-tuned model is made from.

    Attributes:
        layout: of its data set.
        data: what the card says of the data.
        license: their terms.
        is_sample: whether they are made of the sample CT.
        base_model: the pretrained model's name on the Hub; `None` if it has none.
        base_license: what the pretrained model's card names as its licence, if that is known.
    """

    layout: LabelledLayout
    data: TrainingData
    license: License
    is_sample: bool = False
    base_model: str | None = None
    base_license: str | None = None

    @property
    def is_own_data(self) -> bool:
        """Whether the layout is a format, which says nothing of the data in it."""
        return self.layout.name in _FORMATS and not self.is_sample


@dataclass(frozen=True)
class TaskCard:
    """Everything that a card of a fine-tuned model is rendered from.

    Attributes:
        name: what its examples open.
        origin: what the model is made from.
        num_axes: 2 for images, 3 for volumes.
        class_names: in the order of the classes' numbers; `None` if only the data say.
        problem_type: as transformers names it.
        processor: what its inputs are prepared with.
        window: `([depth,] height, width)` in which larger inputs go through a segmenting network.
        settings: of the run.
        step: optimiser steps taken; `None` of a model that is to be made.
        cases: how many trained, validated and test; "" if not known.
        validation: numbers of the last validation.
        compute: how long it computed, and on what.
        title: the heading; by default the task and the data.
        recipe: that makes a model which is to be made.
    """

    name: str
    origin: TaskOrigin
    num_axes: int
    class_names: tuple[str, ...] | None
    problem_type: str
    processor: MiTImageProcessor
    window: tuple[int, ...]
    settings: FinetuningSettings
    step: int | None = None
    cases: str = ""
    validation: Mapping[str, float] = field(default_factory=dict)
    compute: ComputeRecord | None = None
    title: str | None = None
    recipe: str | None = None

    def render(self) -> ModelCard:
        """Render the card.

        Raises:
            ValueError: If its metadata cannot be read back.
        """
        origin, task = self.origin, self.origin.layout.task
        data = self._data()
        return render_card(
            f"{task}.md",
            self._metadata(),
            title=self.title or f"MiT for {self.num_axes}D {task}: {data.title}",
            name=self.name,
            what=self._what(),
            sources=[data],
            is_sample=origin.is_sample,
            step=self.step,
            not_published=self.step is None,
            recipe=self.recipe,
            num_axes=self.num_axes,
            example="ct.nii.gz" if self.num_axes == 3 else "chest.png",
            inputs=self._inputs(),
            modality=self._modality(),
            classes=dict(enumerate(self.class_names or ())),
            overlap=self.problem_type == "multi_label_classification",
            is_regression=self.problem_type == "regression",
            endpoint_example="ct.nii.gz" if self.num_axes == 3 else "chest.png",
            endpoint_answer=self._endpoint_answer(),
            beginning=self._beginning(),
            cases=self.cases,
            settings=self._shown_settings(),
            validation=self.validation,
            compute=self.compute,
            widget=EXAMPLE if self.num_axes == 2 else None,
        )

    # --------------------------------------------------------------------------- metadata

    def _metadata(self) -> dict[str, Any]:
        origin, task = self.origin, self.origin.layout.task
        metadata: dict[str, Any] = {
            "pipeline_tag": f"image-{task}",
            "tags": [
                "medical-imaging",
                task,
                f"{self.num_axes}d",
                *self._modality_tags(),
                "unimiss",
                "unimiss_mit",
            ],
        }
        if not origin.is_own_data:
            metadata |= license_of_weights(
                "sample" if origin.is_sample else origin.layout.name,
                origin.license.identifier,
                origin.license.url,
                from_others=self.settings.model is not None or self.step is None,
                others=origin.base_license,
            )
        if origin.base_model:
            metadata["base_model"] = origin.base_model
        if self.num_axes == 2:
            metadata["widget"] = widget_field()
        return metadata

    def _modality_tags(self) -> list[str]:
        if self.num_axes == 3:
            return ["mri"] if is_magnetic_resonance(self.processor) else ["ct"]
        if self.origin.is_own_data:
            return []
        return ["radiography"]

    # --------------------------------------------------------------------------- text

    def _data(self) -> TrainingData:
        if self.origin.is_own_data:
            layout = self.origin.layout
            return TrainingData(_FORMATS[layout.name], layout.homepage)
        return self.origin.data

    def _what(self) -> str:
        kind = "volumes" if self.num_axes == 3 else "images"
        names = self.class_names
        if self.origin.layout.task == "segmentation":
            count = "the structures of the data set"
            if names is not None:
                number = len(names) - (names[0] == "background")
                count = f"{number} structure{'' if number == 1 else 's'}"
            return f"segment {count} in {kind}"
        if self.problem_type == "regression":
            return f"tell values of {kind}"
        if names is None:
            return f"classify {kind}"
        if self.problem_type == "multi_label_classification":
            return f"tell which of {len(names)} findings {kind} show"
        return f"tell {kind} of {len(names)} classes apart"

    def _inputs(self) -> dict[str, str]:
        describe = describe_volumes if self.num_axes == 3 else describe_images
        options = self.settings.layout_options or {}
        changed = [
            text.format(describe_lengths(options[name]))
            for name, text in _PREPARED.items()
            if options.get(name) is not None
        ]
        before = {"before": "; ".join(changed)} if changed else {}
        inputs = before | describe(self.processor)
        size = self.processor.image_size if self.num_axes == 2 else self.processor.volume_size
        if self.origin.layout.task == "classification":
            if size is None:
                inputs["of any size"] = "go through the network whole"
        elif size is None or tuple(size.values()) != self.window:
            inputs["larger inputs"] = f"go through the network in {describe_window(self.window)}"
        return inputs

    def _modality(self) -> str:
        if self.num_axes == 3:
            return "MR" if is_magnetic_resonance(self.processor) else "CT"
        return "" if self.origin.is_own_data else "radiographs"

    def _endpoint_answer(self) -> str:
        if self.origin.layout.task == "classification":
            return 'The answer is a list of `{"label": ..., "score": ...}`.'
        if self.num_axes == 2:
            return (
                'The answer is a list of `{"label": ..., "score": null, "mask": ...}`, one for '
                "each class\nthat was found, the masks as PNG in base64."
            )
        return (
            'The answer is `{"segmentation": ..., "segments_info": [...]}`, the labels as a NIfTI '
            "file in\nbase64, on the scan's own grid."
        )

    def _beginning(self) -> str:
        settings, origin = self.settings, self.origin
        if origin.base_model:
            return f"`{origin.base_model}`"
        if settings.model_size is not None:
            return f"random weights, MiT-{settings.model_size}"
        if self.step is None:
            return "a pretrained checkpoint: `--model`"
        return "a pretrained checkpoint, in a folder"

    def _shown_settings(self) -> dict[str, Any]:
        left_out = () if self.origin.layout.task == "segmentation" else _ONLY_OF_SEGMENTATION
        options = {
            f"option {name} of the reader": value
            for name, value in (self.settings.layout_options or {}).items()
            if not is_path(value)
        }
        values = {name: getattr(self.settings, name) for name in _SHOWN if name not in left_out}
        values = options | values
        return {name: value for name, value in values.items() if value is not None}
