"""The options of a reader: what a recipe asks for, checked against what there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...input_checks_mit import did_you_mean, near_names


def refuse_unknown(unknown: Mapping[str, object], options: Mapping[str, str], title: str) -> None:
    """Raise a ValueError if a reader was given options that it has not.

    Args:
        unknown: what was given beside the options, by name.
        options: the reader's options, as in `LabelledLayout`.
        title: the data set's.
    """
    for name in unknown:
        has = f"has {', '.join(options)}" if options else "has none"
        near = did_you_mean(near_names(name, options))
        raise ValueError(f"{title} has no option {name!r}; it {has}.{near}")


def require_choice(option: str, value: object, choices: Iterable[str], title: str) -> str:
    """Return an option's value, if it is one of those that there are.

    Raises:
        ValueError: if it is not.
    """
    choices = list(choices)
    if value in choices:
        return str(value)
    near = did_you_mean(near_names(str(value), choices, 0.6))
    raise ValueError(f"{option} of {title} is {value!r}; wanted one of {', '.join(choices)}.{near}")
