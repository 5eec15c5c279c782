"""Pieces of the page in HTML. Names of files and of classes are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from .neighbours import Neighbour
from .rendering import data_address, draw_neighbour
from .segmentations import Segment

CLICK_ON_PICTURE = """
element.addEventListener('click', (event) => {
  const picture = event.target.closest('img.plane');
  if (!picture) return;
  const box = picture.getBoundingClientRect();
  trigger('click', {
    right: (event.clientX - box.left) / box.width,
    down: (event.clientY - box.top) / box.height,
  });
});
"""
"""What tells the server where a picture was clicked, as shares of its width and height."""


def heading_html(is_random: bool) -> str:
    """The title, what the page is not, and a warning if the encoder knows nothing yet."""
    warning = (
        '<p class="warning"><b>Random weights.</b> The features are of a network that has learnt '
        "nothing.</p>"
        if is_random
        else ""
    )
    return (
        "<h1>One network for radiographs and CT</h1>"
        "<p>See the slices of an image, what a UniMiSS network makes of its patches, and where "
        "similar patches lie, in 2D and 3D alike. Uploads stay on the machine that runs this page "
        "and are deleted from its disk once the models have seen them; the rest goes when you "
        f"leave. This is not a medical device: nothing here is a finding.</p>{warning}"
    )


def formats_html() -> str:
    """What may be dropped."""
    return note_html(
        "PNG, JPEG, TIFF, NIfTI (.nii, .nii.gz), DICOM, or all slices of a DICOM series at once. "
        "Or one of these samples:"
    )


def search_html() -> str:
    """How to look for neighbours."""
    return (
        "<h2>Nearest neighbours of a patch</h2>"
        '<p class="note">Click on the picture, or give a row and a column of the slice that is '
        "shown. The number is the cosine of the patches' centred features: 1 is alike, 0 is "
        "unrelated.</p>"
    )


def picture_html(address: str, text: str, sides: tuple[str, str, str, str] | None) -> str:
    """A plane with letters at its sides.

    Args:
        address: Of the picture.
        text: What it shows, for those who cannot see it.
        sides: What lies at the left, right, top and bottom.
    """
    places = zip(("left", "right", "top", "bottom"), sides or (), strict=False)
    letters = "".join(f'<span class="side {place}">{letter}</span>' for place, letter in places)
    picture = f'<img class="plane" src="{address}" alt="{escape(text)}">'
    return f'<div class="stage">{picture}{letters}</div>'


def empty_picture_html() -> str:
    """What stands where the picture will be."""
    return '<div class="stage empty"><p>Drop an image, or choose a sample.</p></div>'


def status_html(text: str, kind: str = "ready") -> str:
    """A line that screen readers say; `kind` is "ready", "busy" or "error"."""
    role = "alert" if kind == "error" else "status"
    return f'<p class="state {kind}" role="{role}">{escape(text)}</p>'


def legend_html(segments: Sequence[Segment]) -> str:
    """The segments with their colours and sizes."""
    rows = "".join(
        f'<tr><th scope="row"><span class="swatch" style="background:{segment.colour}"></span>'
        f"{escape(segment.name)}</th><td>{_size(segment)}</td></tr>"
        for segment in segments
    )
    return (
        '<table class="legend"><caption>Segments</caption><thead><tr><th scope="col">segment</th>'
        f'<th scope="col">size</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _size(segment: Segment) -> str:
    if segment.volume_ml is None:
        return f"{segment.voxels:,} pixels"
    return f"{segment.volume_ml:,.1f} ml"


def note_html(text: str) -> str:
    """A sentence in small print."""
    return f'<p class="note">{escape(text)}</p>'


def neighbours_html(groups: Mapping[str, Sequence[Neighbour] | str]) -> str:
    """Galleries of neighbours, the most alike first.

    Args:
        groups: By title, what was found, or why there is nothing.
    """
    sections = "".join(
        f'<section class="neighbours"><h3>{escape(title)}</h3>'
        + (
            note_html(found)
            if isinstance(found, str)
            else f"<ol>{''.join(map(_neighbour_html, found))}</ol>"
        )
        + "</section>"
        for title, found in groups.items()
    )
    return f'<div class="groups">{sections}</div>'


def _neighbour_html(neighbour: Neighbour) -> str:
    place = escape(neighbour.image.name.split(".")[0])
    if neighbour.image.is_volume:
        place += f", slice {int(neighbour.edges[0].mean()) + 1}"
    address = data_address(draw_neighbour(neighbour))
    return (
        f'<li><figure><img src="{address}" alt="Patch of {place}">'
        f"<figcaption><b>{neighbour.similarity:.2f}</b> {place}</figcaption></figure></li>"
    )


def models_html(names: Mapping[str, str]) -> str:
    """Which models are open."""
    items = "".join(
        f"<li>{escape(what)}: <code>{escape(name)}</code></li>" for what, name in names.items()
    )
    return f'<ul class="models">{items}</ul>'
