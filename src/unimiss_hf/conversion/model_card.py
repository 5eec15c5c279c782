"""The model card of a converted checkpoint."""

from huggingface_hub import ModelCard

from ..hub.card_rendering import FEATURES_ENDPOINT, render_card
from ..hub.input_description import describe_images, describe_volumes
from ..hub.widget import EXAMPLE, widget_field
from ..image_processing_mit import MiTImageProcessor
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
    processor = MiTImageProcessor()
    return render_card(
        "converted.md",
        {"license": "mit", "widget": widget_field()},
        report=report,
        name=report.folder.resolve().name,
        features=512,
        encoder_parameters=report.encoder_parameters,
        decoder_parameters=report.decoder_parameters,
        head_parameters=report.head_parameters,
        num_prototypes=report.num_prototypes,
        images=describe_images(processor),
        volumes=describe_volumes(processor),
        compute=None,
        widget=EXAMPLE,
        **FEATURES_ENDPOINT,
    )
