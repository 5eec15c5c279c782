"""The page: its parts, and which of them answers what."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from . import fragments
from .analysis import Analysis, analyse
from .images import Source
from .looking import (
    LAYERS,
    describe_view,
    draw_view,
    find_neighbours,
    first_view,
    layers_of,
    mark_voxel,
    shown_plane,
    slice_label,
    turned_to,
)
from .models import Models
from .neighbours import PatchIndex
from .planes import AXES
from .rendering import data_address
from .samples import Sample
from .segmentations import save_segmentation
from .sessions import Session, Sessions, View
from .uploads import take_uploads
from .windows import OWN, level_and_width, window_names

_FAILURES = (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError)
_GONE = "This image is not open any more. Drop it again."


class Page:
    """The page of one set of models.

    Args:
        models: What is open.
        samples: Images that the page offers.
        indices: Patches of samples, by dimension.
        folder: For the files of sessions; the server must be allowed to give them out.
    """

    def __init__(
        self,
        models: Models,
        samples: Sequence[Sample],
        indices: Mapping[int, PatchIndex],
        folder: Path,
    ):
        self._models = models
        self._samples = samples
        self._indices = indices
        self._folder = folder
        self._sessions = Sessions(folder)
        # Of samples alone, which are nobody's: as many as the page offers.
        self._of_samples: dict[Path, Analysis] = {}

    def build(self) -> gr.Blocks:
        """Lay out the page."""
        with gr.Blocks(
            title="UniMiSS: one network for radiographs and CT",
            analytics_enabled=False,
            delete_cache=(600, 7200),
        ) as blocks:
            gr.HTML(fragments.heading_html(self._models.is_random), elem_id="heading")
            self._build_inputs()
            with gr.Row():
                with gr.Column(scale=3, min_width=320):
                    self._build_picture()
                with gr.Column(scale=2, min_width=300):
                    self._build_controls()
            self._build_neighbours()
            with gr.Accordion("Models", open=False):
                gr.HTML(fragments.models_html(self._models.names))
            self._connect()
            blocks.unload(self._leave)
        return blocks

    # ------------------------------------------------------------------------------ the parts

    def _build_inputs(self) -> None:
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self.files = gr.File(
                    label="A radiograph or a CT",
                    file_count="multiple",
                    height=150,
                    elem_id="upload",
                )
            with gr.Column(scale=2, min_width=300):
                gr.HTML(fragments.formats_html())
                with gr.Row(elem_id="samples"):
                    self.sample_buttons = [
                        gr.Button(sample.name, size="md", min_width=130) for sample in self._samples
                    ]
        self.status = gr.HTML(fragments.status_html("No image is open."), elem_id="status")

    def _build_picture(self) -> None:
        self.picture = gr.HTML(
            fragments.empty_picture_html(),
            js_on_load=fragments.CLICK_ON_PICTURE,
            elem_id="picture",
        )
        self.slice = gr.Slider(
            1,
            2,
            1,
            step=1,
            label="Slice",
            info="Arrow keys, Page Up and Page Down scroll.",
            visible=False,
            elem_id="slice",
        )
        self.axis = gr.Radio(list(AXES), value=AXES[0], label="Plane", visible=False)

    def _build_controls(self) -> None:
        with gr.Column(visible=False) as self.controls:
            self.layer = gr.Radio([LAYERS[0]], value=LAYERS[0], label="Layer", elem_id="layer")
            self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the layer")
            self.window = gr.Radio([OWN], value=OWN, label="Window", elem_id="window")
            with gr.Row():
                self.level = gr.Number(0, label="Level", min_width=100)
                self.width = gr.Number(1, label="Width", min_width=100)
            self.legend = gr.HTML(elem_id="legend")
            self.classes = gr.Label(label="Classification", visible=False, show_heading=False)
            self.download = gr.DownloadButton(
                "Download the segmentation", interactive=False, elem_id="download"
            )

    def _build_neighbours(self) -> None:
        with gr.Column(visible=False) as self.search:
            gr.HTML(fragments.search_html())
            with gr.Row():
                self.row = gr.Number(1, label="Row", precision=0, minimum=1, min_width=100)
                self.column = gr.Number(1, label="Column", precision=0, minimum=1, min_width=100)
                self.find = gr.Button("Find neighbours", min_width=140, elem_id="find")
            self.neighbours = gr.HTML(elem_id="neighbours")

    def _connect(self) -> None:
        opened = [
            self.files,
            self.status,
            self.picture,
            self.slice,
            self.axis,
            self.controls,
            self.layer,
            self.window,
            self.level,
            self.width,
            self.legend,
            self.classes,
            self.download,
            self.search,
            self.row,
            self.column,
            self.neighbours,
        ]
        # Models work on one image at a time; looking at images does not wait for them.
        slow = {"concurrency_id": "models", "concurrency_limit": 1, "show_progress": "hidden"}
        slow["api_visibility"] = "private"
        quick = {"concurrency_limit": None, "show_progress": "hidden"}
        quick["api_visibility"] = "private"
        self.files.upload(self._open_upload, self.files, opened, **slow)
        for number, button in enumerate(self.sample_buttons):
            button.click(self._sample_opener(number), None, opened, **slow)
        shown = [self.picture, self.status]
        for control, change in (
            (self.slice, lambda view, value: replace(view, index=int(value) - 1)),
            (self.layer, lambda view, value: replace(view, layer=value)),
            (self.opacity, lambda view, value: replace(view, opacity=value)),
        ):
            control.input(
                self._changer(change), control, shown, trigger_mode="always_last", **quick
            )
        for number, name in ((self.level, "level"), (self.width, "width")):
            number.input(
                self._changer(_number_changer(name)),
                number,
                shown,
                trigger_mode="always_last",
                **quick,
            ).then(lambda: OWN, None, self.window, **quick)
        self.window.input(
            self._choose_window, self.window, [*shown, self.level, self.width], **quick
        )
        self.axis.input(self._turn, self.axis, [*shown, self.slice, self.row, self.column], **quick)
        found = [*shown, self.neighbours, self.row, self.column]
        self.picture.click(self._click, None, found, **quick)
        self.find.click(self._find, [self.row, self.column], found, **quick)

    # ------------------------------------------------------------------------------- opening

    def _open_upload(self, paths: list[str] | None, request: gr.Request) -> Iterator[dict]:
        session = self._sessions.start(request.session_hash)
        if not paths:
            return
        with tempfile.TemporaryDirectory(dir=session.path) as folder:
            yield {self.status: _busy("Reading"), self.files: None}
            try:
                source = take_uploads(paths, Path(folder))
                yield from self._show_steps(session, analyse(source, self._models))
            except _FAILURES as error:
                yield self._failed(session, error)

    def _sample_opener(self, number: int) -> Callable[[gr.Request], Iterator[dict]]:
        def open_sample(request: gr.Request) -> Iterator[dict]:
            session = self._sessions.start(request.session_hash)
            yield {self.status: _busy("Reading")}
            try:
                yield from self._show_steps(session, self._sample_steps(number))
            except _FAILURES as error:
                yield self._failed(session, error)

        return open_sample

    def _sample_steps(self, number: int) -> Iterator[Analysis]:
        path = self._samples[number].path
        if path not in self._of_samples:
            source: Source = str(path)
            for analysis in analyse(source, self._models):
                yield analysis
            self._of_samples[path] = analysis
        yield self._of_samples[path]

    def _show_steps(self, session: Session, steps: Iterator[Analysis]) -> Iterator[dict]:
        for analysis in steps:
            if session.view is None:
                session.analysis, session.view = analysis, first_view(analysis)
            session.analysis = analysis
            if analysis.segmentation is not None and session.saved is None:
                if session.view.layer == LAYERS[0]:
                    session.view = replace(session.view, layer="segments")
                session.saved = save_segmentation(
                    analysis.segmentation, session.path, analysis.image.name
                )
            session.status = self._status(analysis)
            # All of it each time: the browser may pass over one of two answers at once.
            yield self._state_of_page(session)

    def _failed(self, session: Session, error: BaseException) -> dict:
        """A sentence; where nothing was opened, what was shown before goes."""
        told = {self.status: _error(self._without_folder(error))}
        if session.view is not None:
            return told
        hidden = (self.slice, self.axis, self.controls, self.search)
        return {
            **told,
            **{part: gr.update(visible=False) for part in hidden},
            self.picture: fragments.empty_picture_html(),
        }

    def _status(self, analysis: Analysis) -> str:
        about = f"{analysis.image.name}: {analysis.image.description}."
        if analysis.next_step:
            return _busy(f"{about} {analysis.next_step}")
        notes = map(self._without_folder, analysis.notes)
        return fragments.status_html(" ".join((about, *notes)))

    def _state_of_page(self, session: Session) -> dict:
        analysis, view = session.analysis, session.view
        image = analysis.image
        row, column = _places(session)
        return {
            self.files: None,
            self.status: session.status,
            self.picture: _picture(session),
            self.slice: _slice(session),
            self.axis: gr.update(value=AXES[view.axis], visible=image.is_volume),
            self.controls: gr.update(visible=True),
            self.window: gr.update(choices=window_names(image.is_hounsfield), value=view.window),
            self.level: view.level,
            self.width: view.width,
            self.layer: gr.update(choices=layers_of(analysis), value=view.layer),
            self.legend: self._legend(analysis),
            self.classes: gr.update(value=analysis.classes, visible=analysis.classes is not None),
            self.download: gr.update(
                value=session.saved and str(session.saved),
                interactive=session.saved is not None,
            ),
            self.search: gr.update(visible=analysis.features is not None),
            self.row: row,
            self.column: column,
            self.neighbours: "",
        }

    def _legend(self, analysis: Analysis) -> str:
        if analysis.segmentation is not None:
            return fragments.legend_html(analysis.segmentation.segments)
        if analysis.dimension in self._models.segmenters:
            return ""
        return fragments.note_html(f"No model that segments {analysis.dimension}D images is open.")

    # ------------------------------------------------------------------------------- looking

    def _changer(self, change: Callable[[View, Any], View]) -> Callable[..., tuple]:
        def changed(value: Any, request: gr.Request) -> tuple:
            return self._redraw(request, lambda session: change(session.view, value))

        return changed

    def _redraw(self, request: gr.Request, change: Callable[[Session], View]) -> tuple:
        """The picture after a change of the view, and the status, if there is something to say."""
        session = self._session(request)
        if session is None:
            return gr.skip(), _error(_GONE)
        before = session.view
        try:
            session.view = change(session)
            picture = _picture(session)
        except _FAILURES as error:
            session.view, session.has_error = before, True
            return gr.skip(), _error(str(error))
        mended, session.has_error = session.has_error, False
        return picture, session.status if mended else gr.skip()

    def _choose_window(self, name: str, request: gr.Request) -> tuple:
        session = self._session(request)
        if session is None or name == OWN:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        level, width = level_and_width(name, session.analysis.image.values)
        shown = self._redraw(
            request, lambda each: replace(each.view, window=name, level=level, width=width)
        )
        return *shown, level, width

    def _turn(self, name: str, request: gr.Request) -> tuple:
        shown = self._redraw(
            request, lambda each: turned_to(each.view, AXES.index(name), each.analysis)
        )
        session = self._session(request)
        if session is None:
            return *shown, gr.skip(), gr.skip(), gr.skip()
        return *shown, _slice(session), *_places(session)

    # ---------------------------------------------------------------------------- neighbours

    def _click(self, event: gr.EventData, request: gr.Request) -> tuple:
        return self._mark(request, float(event.right), float(event.down))

    def _find(self, row: float | None, column: float | None, request: gr.Request) -> tuple:
        session = self._session(request)
        if session is None or row is None or column is None:
            text = _GONE if session is None else "Give a row and a column."
            return gr.skip(), _error(text), gr.skip(), gr.skip(), gr.skip()
        rows, columns = _rows_and_columns(session)
        return self._mark(request, (column - 0.5) / columns, (row - 0.5) / rows)

    def _mark(self, request: gr.Request, right: float, down: float) -> tuple:
        session = self._session(request)
        if session is None:
            return gr.skip(), _error(_GONE), gr.skip(), gr.skip(), gr.skip()
        try:
            mark_voxel(session, shown_plane(session).voxel_at(right, down))
            groups = find_neighbours(session, self._indices)
        except _FAILURES as error:
            return gr.skip(), _error(str(error)), gr.skip(), gr.skip(), gr.skip()
        rows, columns = _rows_and_columns(session)
        return (
            _picture(session),
            gr.skip(),
            fragments.neighbours_html(groups),
            min(int(down * rows) + 1, rows),
            min(int(right * columns) + 1, columns),
        )

    def _session(self, request: gr.Request) -> Session | None:
        """The visitor's session, once an image is open in it."""
        session = self._sessions.get(request.session_hash)
        return session if session is not None and session.view is not None else None

    def _without_folder(self, message: object) -> str:
        """A message without the names of temporary folders, which say nothing to a visitor."""
        words = str(message) or type(message).__name__
        return re.sub(rf"{re.escape(str(self._folder))}/(?:[^/\s]+/)*", "", words)

    def _leave(self, request: gr.Request) -> None:
        self._sessions.drop(request.session_hash)


def _picture(session: Session) -> str:
    return fragments.picture_html(
        data_address(draw_view(session)), describe_view(session), shown_plane(session).sides
    )


def _rows_and_columns(session: Session) -> tuple[int, int]:
    rows, columns = (session.analysis.image.shape[axis] for axis in shown_plane(session).axes)
    return rows, columns


def _slice(session: Session) -> dict:
    image, view = session.analysis.image, session.view
    return gr.update(
        maximum=max(image.shape[view.axis], 2),
        value=view.index + 1,
        label=slice_label(session),
        visible=image.is_volume,
    )


def _places(session: Session) -> tuple[dict, dict]:
    """The fields of row and column, with the middle of the slice that is shown."""
    rows, columns = _rows_and_columns(session)
    return (
        gr.update(value=(rows + 1) // 2, maximum=rows, label=f"Row (1 to {rows})"),
        gr.update(value=(columns + 1) // 2, maximum=columns, label=f"Column (1 to {columns})"),
    )


def _busy(text: str) -> str:
    return fragments.status_html(f"{text} …", "busy")


def _error(text: str) -> str:
    return fragments.status_html(text, "error")


def _number_changer(name: str) -> Callable[[View, float | None], View]:
    def change(view: View, value: float | None) -> View:
        # Of a number that is being typed, there is nothing at first, or a sign alone.
        return view if value is None else replace(view, **{"window": OWN, name: value})

    return change
