"""What a model's image processor does to its inputs, in the words of a card."""

from collections.abc import Sequence

from ..hounsfield_mit import MEASURED, window_range
from ..image_processing_mit import MiTImageProcessor


def describe_images(processor: MiTImageProcessor) -> dict[str, str]:
    """Say what becomes of a radiograph, by the step's name."""
    size = processor.image_size
    return {
        "takes": "PNG, JPEG, TIFF or DICOM files, PIL images, arrays and tensors",
        "grey levels": _grey_levels(processor),
        "size": (
            "as it is"
            if size is None
            else f"resized to {describe_lengths(list(size.values()))} pixels"
        ),
    }


def describe_volumes(processor: MiTImageProcessor) -> dict[str, str]:
    """Say what becomes of a volume, by the step's name."""
    size = processor.volume_size
    steps = {
        "takes": "NIfTI files, folders of DICOM slices, nibabel images, arrays and tensors",
        "orientation": "RAS+, axes in the order depth, height, width",
        "spacing": (
            "as it is"
            if processor.spacing is None
            else f"resampled to {describe_lengths(processor.spacing)} mm"
        ),
        "values": _values(processor),
    }
    if size is not None:
        lengths = describe_lengths(list(size.values()))
        steps["size"] = f"cropped or filled up around the centre to {lengths} voxels"
    return steps


def describe_window(window: Sequence[int]) -> str:
    """Say in which windows larger inputs go through the network."""
    unit = "pixels" if len(window) == 2 else "voxels"
    return f"windows of {describe_lengths(window)} {unit}, which overlap"


def describe_lengths(lengths: Sequence[float]) -> str:
    """Write lengths along axes with a sign of multiplication between them."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{length:g}" for length in lengths)


def is_magnetic_resonance(processor: MiTImageProcessor) -> bool:
    """Whether volumes have no unit, as those of MR, and each is scaled by its own values."""
    return processor.window == MEASURED


def _grey_levels(processor: MiTImageProcessor) -> str:
    window = processor.grey_window
    if window is None:
        return "the range that the file declares becomes 0 to 1"
    if window == "minmax":
        return "each image's lowest to highest level becomes 0 to 1"
    if window == "percentiles":
        return "each image's 0.5th to 99.5th percentile becomes 0 to 1"
    if window == "hounsfield":
        return f"Hounsfield units: {_values(processor)}"
    level, width = window
    return f"levels from {level - width / 2:g} to {level + width / 2:g} become 0 to 1"


def _values(processor: MiTImageProcessor) -> str:
    if is_magnetic_resonance(processor):
        clipped = "clipped to each volume's own 0.5th to 99.5th percentile"
    elif processor.window is None:
        clipped = "Hounsfield units, not clipped"
    else:
        low, high = window_range(processor.window)
        clipped = f"clipped to {low:g} to {high:g} HU"
    scaling = processor.scaling
    if scaling == "pretraining":
        return f"{clipped}, divided by 1024"
    if scaling == "unit":
        return f"{clipped}, scaled to 0 to 1"
    offset, divisor = scaling
    return f"{clipped}, less {offset:g}, divided by {divisor:g}"
