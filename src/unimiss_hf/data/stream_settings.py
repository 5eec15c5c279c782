"""How a source of images is made into samples."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..grey_levels_mit import GreyWindow, require_grey_window


@dataclass(frozen=True)
class StreamSettings:
    """How a source is made into samples.

    Attributes:
        seed: seed of the run; orders and samples' seeds follow from it.
        shuffle_buffer: records that are read, undecoded, and put into random order together.
        shuffle_bytes: bound on the bytes of the records read together, for sources whose records
            hold the files' bytes; the record that passes it is the last of its block.
        crops_per_volume: windows cut from each decoded volume, one after another (3D only). More
            save decoding, and make neighbouring samples resemble each other.
        window: size of a sample's image in pixels (height, width) or voxels (depth, height,
            width); None is (512, 512) or (24, 172, 172).
        minimum: size up to which small volumes are padded with air that counts as valid (depth,
            height, width) (3D only); None is (16, 96, 96), or the window where that is smaller.
        spacing: distance of voxel centres to resample to in mm, (depth, height, width); None keeps
            the native grid (3D only).
        source_spacing: true spacing in mm, (depth, height, width), of files whose headers are wrong
            (3D only).
        grey_window: grey levels of radiographs that become 0 and 1, as the image processor's
            setting of that name; None: what the file declares (2D only).
        max_bad_fraction: share of unreadable records, from 0 to 1, above which the stream gives up.
        cache_bytes: bound on decoded samples kept in memory, in bytes for each process; 0 keeps
            none. Only records that are files are kept.

    Raises:
        ValueError: if a setting is out of range; it is named.
    """

    seed: int = 0
    shuffle_buffer: int = 10_000
    shuffle_bytes: int = 512 * 2**20
    crops_per_volume: int = 1
    window: Sequence[int] | None = None
    minimum: Sequence[int] | None = None
    spacing: Sequence[float] | None = (3.0, 1.0, 1.0)
    source_spacing: Sequence[float] | None = None
    grey_window: GreyWindow = None
    max_bad_fraction: float = 0.05
    cache_bytes: int = 2**30

    def __post_init__(self) -> None:
        for name in ("window", "minimum", "spacing", "source_spacing"):
            value = getattr(self, name)
            if value is None:
                continue
            whole = name in ("window", "minimum")
            number, lengths = (int, (2, 3)) if whole else (int | float, (3,))
            if (
                not isinstance(value, list | tuple)
                or len(value) not in lengths
                or not all(isinstance(n, number) and 0 < n < float("inf") for n in value)
            ):
                kind = "2 or 3 positive whole numbers" if whole else "3 positive numbers (mm)"
                raise ValueError(f"{name} must be None or {kind}; got {value!r}.")
            object.__setattr__(self, name, tuple(value))
        grey_window = require_grey_window("grey_window", self.grey_window)
        object.__setattr__(self, "grey_window", grey_window)
        for name, least in (
            ("seed", 0),
            ("shuffle_buffer", 1),
            ("shuffle_bytes", 1),
            ("crops_per_volume", 1),
            ("cache_bytes", 0),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least}; got {value!r}.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction must be in [0, 1]; got {self.max_bad_fraction}.")
