"""Which files of a model's or a run's folder go to the Hub, and which stay and why."""

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..configuration_mit import MiTConfig
from ..input_checks_mit import did_you_mean, near_matches
from ..publication_mit import AUTO_MAP, CUSTOM_PIPELINES
from .absolute_paths import find_absolute_path

CARD = "README.md"
_PACKAGE = Path(__file__).parents[1]
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
# Of a model's folder; the last is what fine-tuning notes of its task.
_OF_MODEL = (
    *_WEIGHTS,
    "config.json",
    "preprocessor_config.json",
    "*_mit.py",
    CARD,
    "LICENSE",
    "handler.py",
    "requirements.txt",
    "finetuning.json",
)
# Of the run's folder that it lies in.
_CURVES = ("figures/roc.png", "figures/confusion.png", "figures/values.png")
_OF_RUN = ("log.jsonl", "curves.png", "features.png", "results.json", *_CURVES)
_SHOWS_IMAGES = "features.png"
# What is there, and why it stays; the first that a path matches.
_REASONS = (
    ("training_state/*", "only continuing the training needs it"),
    ("checkpoint.json", "only continuing the training needs it"),
    ("checkpoints/*", "only the model of a finished run goes"),
    ("prepared/*", "it holds images"),
    ("*cases.csv", "it names cases"),
    ("figures/*", "they show cases and name them"),
    ("results_before_training.json", "it is not of the weights that go"),
    ("settings.yaml", "it names folders of this machine"),
    ("to_upload/*", "it waits for the Hub"),
)


@dataclass
class RepositoryFiles:
    """What a repository will hold.

    Attributes:
        files: Path in the repository → file.
        texts: Path in the repository → content, of files that the folder lacks or has otherwise.
        left_out: Path below the given folder → why it stays.
    """

    files: dict[str, Path] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def shows_images(self) -> str | None:
        """The picture among them that shows an image of the data, if there is one."""
        return _SHOWS_IMAGES if _SHOWS_IMAGES in self.files else None

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by its path in the repository, sorted."""
        sizes = {name: path.stat().st_size for name, path in self.files.items()}
        sizes |= {name: len(text.encode()) for name, text in self.texts.items()}
        return dict(sorted(sizes.items()))


def is_of_a_model(name: str) -> bool:
    """Whether a path in a repository is one that this package would put there."""
    return _is_one_of(name, (*_OF_MODEL, *_OF_RUN, "figures/*.png"))


def _is_one_of(name: str, kinds: Sequence[str]) -> bool:
    """Whether a path is of a kind, in the same folder: a star alone passes over slashes."""
    return any(name.count("/") == kind.count("/") and fnmatch.fnmatch(name, kind) for kind in kinds)


def list_files(
    folder: str | Path, exclude: Sequence[str] = (), run: Path | None = None
) -> RepositoryFiles:
    """Choose what of a folder goes to the Hub, and check it.

    Args:
        folder: A model's folder; a run's folder, whose `model` goes; or such a run's `model`: the
            run's log, figures and scores go with it.
        exclude: Patterns, such as `"figures/*"`, of paths in the repository that stay.
        run: The folder of the run that the model is of, where that is not seen from `folder`.

    Returns:
        The files. Where the folder lacks some of the code, all of it is the package's.

    Raises:
        FileNotFoundError: If there is no such folder, or no model, configuration or processor.
        ValueError: If the model is no MiT, weights are torn, or not in safetensors, a pattern
            matches nothing, or a file names an absolute path.
    """
    model = _find_model(Path(folder).expanduser())
    run = run or run_of(model)
    listed = RepositoryFiles()
    _take(listed, model, _OF_MODEL, "")
    if run is not None:
        _take(listed, run, _OF_RUN, "model/")
    for pattern in exclude:
        matched = [name for name in listed.files if fnmatch.fnmatch(name, pattern)]
        if not matched:
            raise ValueError(
                f"--exclude {pattern} matches none of the files that would go: "
                f"{', '.join(sorted(listed.files))}."
            )
        for name in matched:
            del listed.files[name]
            listed.left_out[name] = f"--exclude {pattern}"
    _require_model(listed, model)
    _complete_code(listed, model)
    for name, path in listed.files.items():
        found = find_absolute_path(path)
        if found is not None:
            raise ValueError(
                f"{path} names an absolute path in {found}. Take it out, or leave the file out "
                f"with --exclude {name}: paths tell of this machine and its users."
            )
    if "results.json" in listed.files:
        listed.texts["results.json"] = _without_cases(listed.files.pop("results.json"))
    return listed


def run_of(model: Path) -> Path | None:
    """The folder of the run that a model's folder is the `model` of, if any."""
    run = model.resolve().parent
    is_of_run = model.resolve().name == "model" and (run / "log.jsonl").is_file()
    return run if is_of_run else None


def _find_model(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder} (looked for {folder.absolute()})."
            f"{did_you_mean(near_matches(folder, hidden=False))}"
        )
    folder = folder.resolve()
    if (folder / "config.json").is_file():
        return folder
    if (folder / "model" / "config.json").is_file():
        return folder / "model"
    unfinished = (folder / "checkpoints").is_dir()
    raise FileNotFoundError(
        f"{folder} has neither a config.json nor a folder model with one. "
        + (
            "The run is not finished: run its command again, or give one of its checkpoints."
            if unfinished
            else "Give a folder that save_pretrained wrote, or that of a finished run."
        )
    )


def _take(listed: RepositoryFiles, folder: Path, wanted: Sequence[str], passed: str) -> None:
    """Sort the files of a folder into those that go and those that stay."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not path.is_file() or hidden or (passed and name.startswith(passed)):
            continue
        if _is_one_of(name, wanted):
            listed.files[name] = path
        else:
            top = name.partition("/")[0] + "/" if "/" in name else name
            listed.left_out[top] = next(
                (why for kind, why in _REASONS if fnmatch.fnmatch(name, kind)),
                "it is no part of a published model",
            )


def _require_model(listed: RepositoryFiles, folder: Path) -> None:
    if "config.json" not in listed.files:
        raise ValueError("config.json cannot be left out: a model does not open without it.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != MiTConfig.model_type:
        raise ValueError(
            f"{folder} holds a {config.get('model_type')!r} model; wanted "
            f"{MiTConfig.model_type!r}. Push others with `hf upload`."
        )
    weights = [name for name in listed.files if name.endswith(".safetensors")]
    if not weights:
        others = sorted(path.name for path in folder.glob("*.bin"))
        raise FileNotFoundError(
            f"{folder} has no model.safetensors"
            + (f", only {others[0]}, which runs code when it is opened" if others else "")
            + ". Save the model with save_pretrained, or run training to its end."
        )
    for name in weights:
        _require_whole(listed.files[name])
    index = listed.files.get("model.safetensors.index.json")
    if index is not None:
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if absent := sorted(parts - set(weights)):
            raise FileNotFoundError(f"{folder} lacks {absent[0]}, which {index.name} names.")
    if "preprocessor_config.json" not in listed.files:
        raise FileNotFoundError(
            f"{folder} has no preprocessor_config.json: nobody would know how images are prepared. "
            "Save the image processor that it was trained with beside it: "
            "processor.save_pretrained(folder)."
        )


def _require_whole(path: Path) -> None:
    try:
        with safe_open(path, framework="numpy") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is torn or no safetensors file ({error}).") from error


def _without_cases(path: Path) -> str:
    """Scores without names of cases: of those for which a number is undefined, how many."""

    def counted(value: Any) -> Any:
        if isinstance(value, list):
            return [counted(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        return {
            name: len(entry) if name == "undefined" and isinstance(entry, list) else counted(entry)
            for name, entry in value.items()
        }

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}).") from error
    return json.dumps(counted(content), indent=2) + "\n"


def _complete_code(listed: RepositoryFiles, folder: Path) -> None:
    """Add the code, where the folder lacks some of it."""
    code = {f"{reference.partition('.')[0]}.py" for reference in AUTO_MAP.values()}
    if not code <= listed.files.keys():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config |= {"auto_map": AUTO_MAP, "custom_pipelines": CUSTOM_PIPELINES}
        del listed.files["config.json"]
        listed.texts["config.json"] = json.dumps(config, indent=2, sort_keys=True) + "\n"
        listed.files |= {path.name: path for path in _PACKAGE.glob("*_mit.py")}


__all__ = ["CARD", "RepositoryFiles", "is_of_a_model", "list_files", "run_of"]
