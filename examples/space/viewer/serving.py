"""Starting the server, which asks nothing of any other machine once the models are open."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .models import open_models
from .page import Page
from .samples import find_samples, index_samples, offered_samples
from .settings import Settings
from .uploads import LARGEST_UPLOAD

_SYSTEM_FONTS = ["system-ui", "sans-serif"]
# The browser itself refuses what is neither of this server nor in the page.
_POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"


def serve(settings: Settings) -> None:
    """Open the models, index the samples, and serve the page until interrupted.

    Raises:
        OSError, ValueError, ImportError: If a model or a sample cannot be opened, or the port is
            taken.
    """
    _require_free(settings.host, settings.port)
    # What is on the disk goes, too, when a container stops.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    models = open_models(settings)
    samples = find_samples(settings.samples)
    print("Indexing patches of the samples ...", flush=True)
    indices = index_samples(models, samples)
    with tempfile.TemporaryDirectory(prefix="unimiss_space_") as folder:
        # Where uploads arrive; what is in it goes when the server does.
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = Page(models, offered_samples(samples), indices, Path(folder)).build()
        page.queue(max_size=32).launch(
            server_name=settings.host,
            server_port=settings.port,
            share=False,
            ssr_mode=False,
            max_file_size=LARGEST_UPLOAD,
            state_session_capacity=64,
            footer_links=[],
            theme=gr.themes.Default(font=_SYSTEM_FONTS, font_mono=["monospace"]),
            css_paths=[Path(__file__).parent / "style.css"],
            app_kwargs={"middleware": [Middleware(_ContentPolicy)]},
        )


def _require_free(host: str, port: int) -> None:
    """Refuse a port that is taken before models are opened, which takes a while."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"{host}:{port} cannot be served at ({error.strerror}): another page may be "
                "running there. Give another --port."
            ) from error


class _ContentPolicy:
    """Adds the policy to every answer."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self.app(scope, receive, send_with_policy)
