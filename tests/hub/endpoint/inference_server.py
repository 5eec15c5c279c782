"""A server that treats requests as the toolkit of Inference Endpoints does, around handlers.

It follows what the toolkit does with content types, queries, texts that stand for pictures, errors
and threads. Unlike there, one process may serve several repositories, each at a path of its own.

    python inference_server.py NAME=FOLDER[=TASK] ...

A line with the port says that all handlers are there.
"""

import base64
import importlib.util
import io
import json
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

THREADS = 32
IMAGE_TYPES = {f"image/{name}" for name in ("png", "jpeg", "jpg", "tiff", "bmp", "gif", "webp")}
BYTES_TYPES = {f"audio/{name}" for name in ("x-audio", "mpeg", "wav", "x-wav", "ogg", "flac")}
# A text under these names is a picture or a recording, wherever it lies in the inputs.
MEDIA_NAMES = {"inputs", "images", "image", "audios", "videos", "url", "path", "base64"}


def load_handler(folder: str | Path) -> Any:
    """Make the handler that lies in a folder."""
    name = "handler.EndpointHandler"
    spec = importlib.util.spec_from_file_location(name, Path(folder) / "handler.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


def picture(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body)).convert("RGB")


def read_body(body: bytes, content_type: str, task: str | None) -> dict[str, Any]:
    kind = content_type.split(";")[0].strip().lower()
    if kind == "application/json":
        return json.loads(body)
    if kind in IMAGE_TYPES or (kind == "application/octet-stream" and "image" in (task or "")):
        return {"inputs": picture(body)}
    if kind in BYTES_TYPES:
        return {"inputs": body}
    raise ValueError(f"Content type {content_type!r} is not supported.")


def with_pictures(value: Any, is_media: bool = True) -> Any:
    """Open the texts that stand for pictures."""
    if isinstance(value, str) and is_media:
        return picture(base64.b64decode(value, validate=True))
    if isinstance(value, list):
        return [with_pictures(item, is_media) for item in value]
    if isinstance(value, dict):
        return {name: with_pictures(item, name in MEDIA_NAMES) for name, item in value.items()}
    return value


def read_query(query: dict[str, str]) -> dict[str, Any]:
    known = {"true": True, "false": False}
    return {name: int(v) if v.isnumeric() else known.get(v, v) for name, v in query.items()}


async def answer(
    request: Request, handler: Any, task: str | None, threads: anyio.CapacityLimiter
) -> Response:
    try:
        content_type = request.headers.get("content-type", "")
        data = read_body(await request.body(), content_type, task)
        if "inputs" not in data:
            raise ValueError("The body needs inputs.")
        if request.query_params and "parameters" not in data:
            data["parameters"] = read_query(dict(request.query_params))
        if task is not None and task.startswith("image-"):
            data["inputs"] = with_pictures(data["inputs"])
        result = await anyio.to_thread.run_sync(partial(handler, data), limiter=threads)
        accepted = request.headers.get("accept", "*/*").split(",")
        if not {"*/*", "application/json"} & {kind.split(";")[0].strip() for kind in accepted}:
            raise ValueError("Only JSON is answered.")
        body, status = json.dumps(result, allow_nan=False), 200
    except Exception as error:
        body, status = json.dumps({"error": str(error)}), 400
    return Response(body, status, media_type="application/json")


async def health(request: Request) -> Response:
    return PlainTextResponse("Ok")


def make_app(handlers: dict[str, tuple[Any, str | None]]) -> Starlette:
    threads = anyio.CapacityLimiter(THREADS)

    def route(name: str, handler: Any, task: str | None) -> Route:
        async def endpoint(request: Request) -> Response:
            return await answer(request, handler, task, threads)

        return Route(f"/{name}", endpoint, methods=["POST"])

    routes = [route(name, *served) for name, served in handlers.items()]
    return Starlette(routes=[Route("/health", health), *routes])


def main(arguments: list[str]) -> None:
    handlers = {}
    for argument in arguments:
        name, folder, *task = argument.split("=")
        handlers[name] = (load_handler(folder), task[0] if task else None)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    # Connections stay open while a test waits.
    config = uvicorn.Config(make_app(handlers), log_level="warning", timeout_keep_alive=300)
    server = uvicorn.Server(config)
    server.run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1:])
