"""Measures what frozen features know, by nearest neighbours and a linear classifier.

    python examples/probe.py --model FOLDER_OR_HUB_NAME
    python examples/probe.py --model FOLDER_OR_HUB_NAME --dataset FOLDER

Without a data set, it tells the organs of the sample CT apart: no label of yours is needed.
"""

import sys

from transformers.utils.logging import disable_progress_bar

from unimiss_hf.probing import as_text, parse_settings, run_probe


def main() -> int:
    disable_progress_bar()
    try:
        settings = parse_settings()
        results = run_probe(settings)
    except (ValueError, OSError, TypeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for result in results:
        print(as_text(result), end="\n\n")
    print(f"Scores: {settings.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
