"""What a data set's folder holds: images that nothing has read yet, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...image_reading_mit import Volume, load_radiograph, load_volume
from ...radiograph_reading_mit import Radiograph
from ..reading import Dimension


@dataclass(frozen=True)
class License:
    """The terms under which a data set is given away.

    Attributes:
        identifier: what the Hub's dataset card calls it ("cc-by-3.0", ...); "other" for terms that
            have no identifier there, "unknown" if none are stated.
        name: what people call it; "see homepage" if none is stated.
        url: a page with its text, or with the statement of it.
    """

    identifier: str
    name: str
    url: str


def load_item(item: SourceItem) -> Volume | Radiograph:
    """Read a volume file, the DICOM slices of a series, or a radiograph.

    Raises:
        OSError, ValueError, ImportError: as `load_volume` and `load_radiograph` do.
    """
    source = item.files[0] if len(item.files) == 1 else list(item.files)
    return load_radiograph(source) if item.dimension == "2d" else load_volume(source, item.spacing)


@dataclass(frozen=True)
class SourceItem:
    """One image or volume of a data set, which nothing has read yet. It can be pickled.

    Attributes:
        name: unique in the data set, and the same wherever the data set lies: a path below its own
            folder, most often.
        dimension: "2d" or "3d".
        files: all files that it is read from.
        split: the official split that it belongs to, "train", "validation" or "test"; "train"
            where there is none.
        patient: whose image it is, as the data set writes it; "" if it does not say.
        spacing: the true distance of voxel centres in mm, (depth, height, width) after
            reorientation to RAS+, where the files themselves do not say it right.
        license: its own terms, where they are not those of the whole data set.
        load: reads it; a function of a module, so that it can be pickled.
    """

    name: str
    dimension: Dimension
    files: tuple[Path, ...]
    split: str = "train"
    patient: str = ""
    spacing: tuple[float, float, float] | None = None
    license: License | None = None
    load: Callable[[SourceItem], Volume | Radiograph] = load_item

    def read(self) -> Volume | Radiograph:
        """Read it: voxels `(depth, height, width)` in HU, RAS+, or pixels `(1, height, width)`.

        Raises:
            OSError, ValueError, ImportError: if it cannot be read; the message names the file.
        """
        return self.load(self)


@dataclass(frozen=True)
class Problem:
    """Something in a data set's folder that is not as it should be. It stops nothing.

    Attributes:
        name: what is missing or odd: the name that the item would have, or a path below the data
            set's folder.
        reason: what is wrong with it, and what to do, in words for the user.
        is_missing: whether an item is missing for it; else all items are there, and this is only
            to be told (an image that no table lists, say).
    """

    name: str
    reason: str
    is_missing: bool = True


@dataclass(frozen=True)
class Layout:
    """A data set with folders and names of its own.

    Attributes:
        name: what a command calls it: lower case, without blanks.
        title: what people call it.
        homepage: where it is downloaded.
        license: its terms; single items may have their own.
        citation: the publication that its makers ask to be cited.
        dimensions: "2d", "3d" or both: what its items can be.
        recognise: tells whether a folder is this data set, with or without the folder that a
            download wraps it in; looks at a few names only.
        items: walks such a folder and yields what is in it, in an order that is always the same:
            a `SourceItem` for each image that can be read, and a `Problem` for each that should be
            there and is not, or is not as it should be. It opens no image beyond its header.
            Files that do not belong to the images, such as labels, are passed over. It raises a
            ValueError or OSError if the folder as a whole cannot be understood.
    """

    name: str
    title: str
    homepage: str
    license: License
    citation: str
    dimensions: tuple[Dimension, ...]
    recognise: Callable[[Path], bool]
    items: Callable[[Path], Iterator[SourceItem | Problem]]
