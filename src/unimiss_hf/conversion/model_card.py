"""The model card of a converted checkpoint."""

from importlib import resources

from huggingface_hub import ModelCard, ModelCardData

from .report import ConversionReport

_TAGS = [
    "medical-imaging",
    "ct",
    "radiography",
    "3d",
    "self-supervised-learning",
    "unimiss",
    "unimiss_mit",
]


def make_card(report: ConversionReport) -> ModelCard:
    """Render the card of a converted checkpoint from `card_template.md`.

    Args:
        report: What was converted; the card names the file, not where it lay.

    Returns:
        A card whose metadata were read back from its text.

    Raises:
        ValueError: If the metadata in the text are not those that were meant.
    """
    data = ModelCardData(
        library_name="transformers",
        license="mit",
        pipeline_tag="image-feature-extraction",
        tags=list(_TAGS),
    )
    template = resources.files(__package__).joinpath("card_template.md")
    card = ModelCard.from_template(
        data,
        template_str=template.read_text(encoding="utf-8"),
        report=report,
        name=report.folder.resolve().name,
        millions=lambda parameters: f"{parameters / 1e6:.2f} M",
    )
    if card.data.to_dict() != data.to_dict():
        raise ValueError(
            f"The model card's metadata read {card.data.to_dict()} instead of {data.to_dict()}."
        )
    card.text += "\n"  # which Jinja takes off
    return card
