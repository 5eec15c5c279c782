"""Cards, rendered from the templates in `card_templates`."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from huggingface_hub import ModelCard, ModelCardData

_TAGS = [
    "medical-imaging",
    "ct",
    "radiography",
    "3d",
    "self-supervised-learning",
    "unimiss",
    "unimiss_mit",
]
FEATURES_ENDPOINT = {
    "num_axes": 2,
    "endpoint_example": "chest.png",
    "endpoint_answer": "The answer is a list with the features of the image or volume: `[[...]]`.",
}
"""What a card says of an endpoint of a pretrained model, which takes images and volumes."""


def render_card(template: str, metadata: dict[str, Any], **values: Any) -> ModelCard:
    """Render a model card.

    Args:
        template: Name of a file in `card_templates`.
        metadata: What the card's YAML says beside or instead of what is true of a pretrained MiT;
            `None` leaves a field out.
        values: What else the template asks for.

    Returns:
        A card whose metadata were read back from its text.

    Raises:
        ValueError: If the metadata in the text are not those that were meant.
        jinja2.UndefinedError: If a value that the template asks for is missing.
    """
    data = ModelCardData(
        **{
            "library_name": "transformers",
            "pipeline_tag": "image-feature-extraction",
            "tags": list(_TAGS),
            **metadata,
        }
    )
    text = render_text(
        template, {"cell": table_cell}, card_data=data.to_yaml(), millions=_millions, **values
    )
    # Parts that are left out leave their blank lines.
    card = ModelCard(re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n")
    if card.data.to_dict() != data.to_dict():
        raise ValueError(
            f"The model card's metadata read {card.data.to_dict()} instead of {data.to_dict()}."
        )
    return card


def render_text(
    template: str, filters: Mapping[str, Callable[..., str]] | None = None, **values: Any
) -> str:
    """Fill in a template.

    Args:
        template: Name of a file in `card_templates`.
        filters: Functions that it calls by these names.
        values: What it asks for.

    Raises:
        jinja2.UndefinedError: If a value that the template asks for is missing.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "card_templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    templates.filters.update(filters or {})
    return templates.get_template(template).render(**values)


def table_cell(text: str) -> str:
    """Have a text stand in a cell of a table, whatever it holds."""
    return " ".join(text.split()).replace("|", "\\|")


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M"
