"""The model card of a converted checkpoint."""

from huggingface_hub import ModelCard

from ..hub.card_rendering import render_card
from .report import ConversionReport


def make_card(report: ConversionReport) -> ModelCard:
    """Render the card of a converted checkpoint.

    Args:
        report: What was converted; the card names the file, not where it lay.

    Returns:
        A card whose metadata were read back from its text.

    Raises:
        ValueError: If the metadata in the text are not those that were meant.
    """
    return render_card(
        "converted.md",
        {"license": "mit"},
        report=report,
        name=report.folder.resolve().name,
        features=512,
        encoder_parameters=report.encoder_parameters,
        decoder_parameters=report.decoder_parameters,
        head_parameters=report.head_parameters,
        num_prototypes=report.num_prototypes,
    )
