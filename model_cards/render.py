"""Writes the cards of the models that recipes make, from the recipes and the templates.

    python model_cards/render.py                # writes all
    python model_cards/render.py --check        # names those that are stale; writes none
    python model_cards/render.py --results unimiss-mit-btcv=runs/finetune_btcv/results.json

The cards hold no scores, as no weights are published with them; `--results` puts those of a run in.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unimiss_hf.finetuning.ready_card import PREFIX, model_name, ready_card
from unimiss_hf.pretraining.ready_card import ready_cards

FOLDER = Path(__file__).parent
RECIPES = FOLDER.parent / "recipes"


def render_all(results: Mapping[str, Any]) -> dict[str, str]:
    """Render every card.

    Args:
        results: By a model's name, the content of a `results.json` of its recipe's run.

    Returns:
        The texts by the names of the files.

    Raises:
        ValueError: If results are of a model that there is no recipe of, or are none.
    """
    recipes = {model_name(path): path for path in sorted(RECIPES.glob(f"{PREFIX}*.yaml"))}
    unknown = sorted(results.keys() - recipes.keys())
    if unknown:
        raise ValueError(
            f"There is no recipe of fine-tuning for {', '.join(unknown)}; there are "
            f"{', '.join(recipes)}."
        )
    cards = ready_cards(RECIPES / "pretrain_small.yaml")
    cards |= {name: ready_card(path, results.get(name)) for name, path in recipes.items()}
    return {f"{name}.md": text for name, text in cards.items()}


def stale_cards(cards: Mapping[str, str], folder: Path) -> list[str]:
    """Name the cards of a folder that are not as they should be, missing or nobody's."""
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    wrong = {name for name, text in cards.items() if there.get(name) != text}
    return sorted(wrong | (there.keys() - cards.keys()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the cards, or check them; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say which cards are stale")
    parser.add_argument(
        "--results",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="put the scores of a results.json into the card of a model",
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where the cards lie (default: %(default)s)"
    )
    words = parser.parse_args(arguments)
    try:
        cards = render_all(dict(_read_results(pair) for pair in words.results))
        if words.check:
            stale = stale_cards(cards, words.folder)
            for name in stale:
                print(f"{words.folder / name} is stale: run python model_cards/render.py")
            return 1 if stale else 0
        words.folder.mkdir(parents=True, exist_ok=True)
        for name, text in cards.items():
            (words.folder / name).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{len(cards)} cards are in {words.folder}.")
    return 0


def _read_results(pair: str) -> tuple[str, Any]:
    name, sign, path = pair.partition("=")
    if not sign:
        raise ValueError(f"--results is {pair!r}; wanted NAME=FILE, a model and a results.json.")
    try:
        return name, json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); wanted a results.json.") from error


if __name__ == "__main__":
    sys.exit(main())
