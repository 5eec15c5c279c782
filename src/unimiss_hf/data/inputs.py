"""From the words of a command to named inputs: files, folders, lists of paths, data sets."""

import functools
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .image_files import ImageFiles, group_images, images_in
from .reading import Dimension, open_image
from .sources import (
    SHARD_BUILDERS,
    Source,
    counts,
    forbid_mistyped_path,
    is_saved_data_set,
    open_source,
    suffix_of,
)

INPUT_HELP = (
    "an image or volume; a folder of them, at any depth (DICOM slices of one series in one folder "
    "are one volume); a .txt file with one of these a line; a data set: the name of one on the "
    "Hub, or a local folder or file of Parquet, Arrow or tar (with --dimension)"
)
"""What a word of a command may be, for its help."""

_HUB_PREFIX = "hf://"


class RecordChoice(Protocol):
    """What to take of the data sets among the inputs; settings have it.

    Attributes:
        dimension: "2d" or "3d"; `None` where no data set is expected.
        split: Split of a data set.
        config_name: Configuration of a Hub data set that has several.
        column: Column of images, when a data set has several.
        streaming: Whether Hub data sets are read as a stream, without downloading them.
    """

    dimension: Dimension | None
    split: str
    config_name: str | None
    column: str | None
    streaming: bool


@dataclass(frozen=True)
class NamedInput:
    """An input that nothing has read yet.

    Attributes:
        name: Its path, or `data set[split][index]`.
        open: Gives what `MiTImageProcessor` takes.
        place: Its path within the folder that was given, or a file's own name; of a record, the
            data set and the record's number. What is made of it may be put there.
    """

    name: str
    open: Callable[[], Any]
    place: str = ""


@dataclass(frozen=True)
class InputSet:
    """All inputs of a command.

    Attributes:
        files: Inputs that are files, by name.
        data_sets: Opened data sets, by the beginning of their records' names.
        passed_over: Files in folders that are neither images nor volumes.
        folders: The folders that were walked.
    """

    files: dict[str, NamedInput]
    data_sets: dict[str, Source]
    passed_over: list[Path]
    folders: list[Path] = field(default_factory=list)

    @property
    def num_inputs(self) -> int | None:
        """How many inputs there are; `None` if a data set does not tell."""
        lengths = [source.num_samples for source in self.data_sets.values()]
        return None if None in lengths else len(self.files) + sum(lengths)

    def count_of(self, names: Collection[str]) -> int:
        """Count the names that are inputs."""
        return sum(
            name in self.files or any(_is_record(name, prefix) for prefix in self.data_sets)
            for name in names
        )

    def without(self, done: Collection[str]) -> Iterator[NamedInput]:
        """Iterate over the inputs whose names are not among those done."""
        for name, file in self.files.items():
            if name not in done:
                yield file
        for prefix, source in self.data_sets.items():
            if sum(_is_record(name, prefix) for name in done) == source.num_samples:
                continue
            for index, record in enumerate(source.records):
                name = f"{prefix}{index}]"
                if name not in done:
                    image = record["image"] or {}
                    opener = functools.partial(open_image, image, source.dimension)
                    yield NamedInput(name, opener, f"{record_folder(prefix)}/{index}")

    def describe_passed_over(self) -> str:
        """Say in words which files were passed over: `3 (2 .csv, 1 .json)`."""
        return f"{len(self.passed_over)} ({counts(self.passed_over)})"


def record_folder(prefix: str) -> str:
    """A folder's name for the records of a data set, of the beginning of their names."""
    return re.sub(r"\W+", "_", prefix).strip("_")


def _is_record(name: str, prefix: str) -> bool:
    """Whether a name is `prefix` and the number of a record."""
    return name.startswith(prefix) and name.endswith("]") and name[len(prefix) : -1].isdecimal()


def find_inputs(words: Sequence[str], settings: RecordChoice) -> InputSet:
    """Find out what the words of a command mean, without reading an image.

    Args:
        words: Each is one of

            * an image, a volume, a DICOM or `.npy` file, whatever its name;
            * a folder, which is walked at any depth, through links, hidden files left out;
            * a `.txt` file with one of these a line; empty lines and those that begin with `#` are
              passed over;
            * a data set: `hf://datasets/owner/name` or `owner/name` of the Hub, or a local folder
              or file of Parquet, Arrow or tar.

            Whichever way they come, the DICOM files that lie in one folder are grouped: the slices
            of a series are one volume, with the folder's name, and a radiograph is an input of its
            own.
        settings: What to take of data sets.

    Returns:
        The inputs, each name once.

    Raises:
        FileNotFoundError: If something that looks like a path is not there; near matches are named.
        ValueError: If a folder or list holds no input, or a data set has no dimension.
        ConnectionError: If a data set's Hub cannot be reached.
        ImportError: If DICOM files are among them, and pydicom is missing.
    """
    search = _Search(settings)
    for word in words:
        path = Path(word).expanduser()
        if path.suffix.lower() != ".txt" or not path.is_file():
            search.add(word)
            continue
        for number, line in _lines(path):
            try:
                search.add(line)
            except (ValueError, OSError) as error:
                kind = OSError if isinstance(error, OSError) else ValueError
                raise kind(f"{path}, line {number}: {error}") from error
    return search.result()


def _lines(path: Path) -> list[tuple[int, str]]:
    lines = [
        (number, line.strip())
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ValueError(f"{path} lists no inputs; wanted a path a line.")
    return lines


class _Search:
    """What has been found so far; files are grouped at the end."""

    def __init__(self, settings: RecordChoice):
        self.settings = settings
        self.files: list[Path] = []
        self.data_sets: dict[str, Source] = {}
        self.passed_over: list[Path] = []
        self.folders: list[Path] = []
        # In which given folder a file was found first; its own, if it was given itself.
        self.roots: dict[Path, Path] = {}

    def result(self) -> InputSet:
        files = {
            str(image.path): _file_input(image, self.roots[image.files[0]])
            for image in group_images(self.files)
        }
        return InputSet(files, self.data_sets, self.passed_over, self.folders)

    def add(self, word: str) -> None:
        path = Path(word).expanduser()
        if not word:
            raise ValueError("An input is an empty word; wanted a path or the name of a data set.")
        if word.startswith(_HUB_PREFIX) or (path.is_file() and suffix_of(path) in SHARD_BUILDERS):
            self._add_data_set(word)
        elif path.is_dir():
            self._add_folder(path)
        elif path.is_file():
            self._add_files([path], path.parent)
        else:
            forbid_mistyped_path(word, path)
            if self.settings.dimension is None:
                raise FileNotFoundError(
                    f"There is no file or folder {word} (looked for {path.absolute()}). If a data "
                    "set on the Hub is meant, say what to take of it: --dimension 2d or 3d."
                )
            self._add_data_set(word)

    def _add_data_set(self, word: str) -> None:
        settings = self.settings
        if settings.dimension is None:
            raise ValueError(f"{word} is a data set; say what to take of it: --dimension 2d or 3d.")
        source = open_source(
            word,
            settings.dimension,
            streaming=settings.streaming,
            split=settings.split,
            config_name=settings.config_name,
            column=settings.column,
        )
        # Another configuration or column is other records, which names are to tell apart.
        config, column = settings.config_name, settings.column
        parts = f"[config={config}]" if config else ""
        parts += f"[{settings.split}]" + (f"[column={column}]" if column else "")
        self.data_sets[f"{source.name}{parts}["] = source

    def _add_folder(self, folder: Path) -> None:
        inputs, others = images_in(folder)
        if is_saved_data_set(folder) or (
            not inputs and any(suffix_of(path) in SHARD_BUILDERS for path in others)
        ):
            self._add_data_set(str(folder))
            return
        if not inputs:
            raise ValueError(
                f"{folder} holds neither images nor volumes: found "
                f"{counts(others) or 'no files'}; wanted PNG, JPEG, TIFF, BMP, NIfTI, DICOM or "
                ".npy files."
            )
        self._add_files(inputs, folder)
        self.passed_over += others
        self.folders.append(folder)

    def _add_files(self, files: list[Path], root: Path) -> None:
        self.files += files
        for file in files:
            self.roots.setdefault(file, root)


def _file_input(image: ImageFiles, root: Path) -> NamedInput:
    opener = functools.partial(Path, image.path)
    if len(image.files) > 1:
        opener = functools.partial(list, image.files)
    # A series has the name of its folder, which may be the one that was given.
    inside = image.path != root and image.path.is_relative_to(root)
    place = image.path.relative_to(root).as_posix() if inside else image.path.resolve().name
    return NamedInput(str(image.path), opener, place)
