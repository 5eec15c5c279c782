"""Settings of a run as the words of a command."""

from unimiss_hf.pretraining import PretrainingSettings


def options_of(settings: PretrainingSettings) -> list[str]:
    """Write settings out as options, without figures."""
    words = []
    for name, value in settings.to_dict().items():
        if isinstance(value, list) and value:
            words += [f"--{name}", *map(str, value)]
        elif value is not None and not isinstance(value, (list, bool)):
            words += [f"--{name}", str(value)]
    return [*words, "--no_figures"]
