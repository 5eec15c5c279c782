"""From the words of a command to the data sets that are to be prepared."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...input_checks_mit import did_you_mean, near_matches
from ..image_columns import FILE_SUFFIXES
from ..layouts.catalog import find_layout
from ..layouts.folder import FOLDER, is_readable, items_of_files
from ..layouts.item import Layout, License, Problem, SourceItem
from ..layouts.tree import path_below
from ..sources import counts, suffix_of, visible_files
from .settings import PreparationSettings


@dataclass(frozen=True)
class Origin:
    """A data set that is prepared: a folder, or some files of one.

    Attributes:
        label: Begins the names of its samples; no two origins have the same.
        layout: How its folder is laid out, and what is known of it.
        license: Its terms.
        folder: Where it is.
        files: Those that are meant, if not the whole folder is.
    """

    label: str
    layout: Layout
    license: License
    folder: Path
    files: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """What people call it."""
        return self.label if self.layout is FOLDER else self.layout.title

    def contents(self) -> Iterator[SourceItem | Problem]:
        """Iterate over its images and volumes, and over what is odd or passed over.

        Raises:
            ValueError, OSError: If its folder cannot be understood.
            ImportError: If pydicom is missing, and DICOM files are among them.
        """
        if self.files:
            yield from items_of_files(self.folder, self.files)
            return
        named, told = set(), set()
        for found in self.layout.items(self.folder):
            if isinstance(found, Problem):
                told.add(found.name)
            else:
                named.update(found.files)
            yield found
        if self.layout is FOLDER:
            return
        for path in visible_files(self.folder):
            name = path_below(self.folder, path)
            if path not in named and name not in told:
                yield Problem(name, "not among the images of this data set", is_missing=False)

    def describe_files(self) -> str:
        """Say in words what kinds of files its folder holds."""
        return counts(self.files or visible_files(self.folder)) or "no files"


def find_origins(words: Sequence[str | Path], settings: PreparationSettings) -> list[Origin]:
    """Find out what the sources of a command are, by looking at a few names of each.

    Args:
        words: Folders and image files. Files of one folder are one origin.
        settings: `layout` and `license` count.

    Returns:
        The origins, in the order of the words.

    Raises:
        FileNotFoundError: If one is not there; near matches are named.
        ValueError: If a file is no image, one source is or holds another, or a folder is not what
            `layout` says.
    """
    folders: list[Path] = []
    files: dict[Path, list[Path]] = {}
    for word in words:
        path = Path(word).expanduser()
        if not str(word).strip():
            raise ValueError("A SOURCE is an empty word; wanted a folder or a file.")
        if path.is_dir():
            folders.append(path)
        elif path.is_file():
            files.setdefault(path.parent, []).append(_image_file(path, settings))
        else:
            raise FileNotFoundError(
                f"There is no file or folder {word} (looked for {path.absolute()})."
                f"{did_you_mean(near_matches(path, hidden=False))}"
            )
    _forbid_overlap([*folders, *(path for paths in files.values() for path in paths)])
    terms = License(settings.license, settings.license, "")
    origins = []
    for folder in folders:
        layout = FOLDER if settings.layout == FOLDER.name else find_layout(folder, settings.layout)
        known = layout is not None and layout is not FOLDER
        origins.append(Origin("", layout or FOLDER, layout.license if known else terms, folder))
    for folder, paths in files.items():
        origins.append(Origin("", FOLDER, terms, folder, tuple(sorted(paths))))
    return _labelled(origins)


def _image_file(path: Path, settings: PreparationSettings) -> Path:
    if settings.layout not in (None, FOLDER.name):
        raise ValueError(f"{path} is a file, but a data set {settings.layout} is a folder.")
    if not is_readable(path):
        wanted = ", ".join((*FILE_SUFFIXES["2d"], *FILE_SUFFIXES["3d"]))
        raise ValueError(
            f"{path} is neither an image nor a volume: its suffix is {suffix_of(path)!r}; wanted "
            f"{wanted}, DICOM or another that is read. Pass folders and image files."
        )
    return path


def _forbid_overlap(paths: Sequence[Path]) -> None:
    """Each image is prepared once: no source may be, or lie in, another."""
    real = [path.resolve() for path in paths]
    times = Counter(real)
    for path, resolved in zip(paths, real, strict=True):
        if times[resolved] > 1:
            raise ValueError(f"{path} is given twice as a SOURCE. Give it once.")
        around = next((parent for parent in resolved.parents if parent in times), None)
        if around is not None:
            raise ValueError(
                f"{path} lies in {paths[real.index(around)]}, which is a SOURCE too, and would be "
                "prepared twice. Give one of them."
            )


def _labelled(origins: Sequence[Origin]) -> list[Origin]:
    """Label origins by their data set's or folder's name, and by folders above it where needed."""
    depths = [int(origin.layout is FOLDER) for origin in origins]
    while True:
        labels = [_label(origin, depth) for origin, depth in zip(origins, depths, strict=True)]
        often = Counter(labels)
        longer = [
            depth + (often[label] > 1) * (depth < len(origin.folder.resolve().parts))
            for origin, label, depth in zip(origins, labels, depths, strict=True)
        ]
        if longer == depths:
            break
        depths = longer
    return [replace(o, label=label) for o, label in zip(origins, labels, strict=True)]


def _label(origin: Origin, depth: int) -> str:
    parts = [part for part in origin.folder.resolve().parts if part != origin.folder.anchor]
    named = [] if origin.layout is FOLDER else [origin.layout.name]
    return "/".join([*named, *parts[len(parts) - depth :]]) if depth else "/".join(named)
