"""Tiny prepared folders, and a server that sends them as servers of large files do."""

import contextlib
import functools
import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from unimiss_hf.data.prepared import RADIOGRAPH_FEATURES, VOLUME_FEATURES, encode_volume

SPACING = (3.0, 1.0, 1.0)
_FEATURES = {"volumes": VOLUME_FEATURES, "radiographs": RADIOGRAPH_FEATURES}


def voxels_of(index: int, shape: Sequence[int] = (9, 20, 21)) -> np.ndarray:
    """A volume, int16 HU, whose values pass the range of a CT at both ends."""
    generator = np.random.default_rng(index)
    return generator.integers(-2000, 4000, shape).astype(np.int16)


def pixels_of(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (12, 10 + index), dtype=np.uint8)


def volume_row(index: int, content: bytes | None = None) -> dict[str, Any]:
    voxels = voxels_of(index)
    content = encode_volume(voxels, SPACING) if content is None else content
    return {
        "volume": {"bytes": content, "path": f"lidc/{index}"},
        **_metadata(index, voxels.shape),
        "spacing": list(SPACING),
    }


def radiograph_row(index: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(pixels_of(index)).save(file, "PNG")
    content = {"bytes": file.getvalue(), "path": f"lidc/{index}"}
    return {"image": content, **_metadata(index, pixels_of(index).shape)}


def write_prepared(
    folder: Path,
    volumes: Sequence[Sequence[dict[str, Any]]] = (),
    radiographs: Sequence[Sequence[dict[str, Any]]] = (),
    split: str = "train",
    **options: Any,
) -> Path:
    """Write rows, one sequence for each shard, as `prepare` leaves them."""
    options = {"compression": "none", "use_dictionary": False, "row_group_size": 1, **options}
    parts: dict[str, Any] = {}
    for part, shards in (("volumes", volumes), ("radiographs", radiographs)):
        for number, rows in enumerate(shards):
            file = f"{part}/{split}-{number:05}-of-{len(shards):05}.parquet"
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(
                pa.Table.from_pylist(rows, _FEATURES[part].arrow_schema), path, **options
            )
            listed = parts.setdefault(part, {}).setdefault(split, [])
            size = path.stat().st_size
            listed.append({"file": file, "num_samples": len(rows), "num_bytes": size})
    note = {"format_version": 1, "spacing": list(SPACING), "parts": parts}
    (folder / "prepared.json").write_text(json.dumps(note))
    return folder


def tiny_folder(folder: Path, **options: Any) -> Path:
    """Seven volumes in three shards, and eight radiographs in two."""
    volumes = [[volume_row(index) for index in shard] for shard in ((0, 1, 2), (3, 4), (5, 6))]
    radiographs = [[radiograph_row(i) for i in shard] for shard in (range(5), range(5, 8))]
    return write_prepared(folder, volumes, radiographs, **options)


@contextlib.contextmanager
def served(folder: Path, *, ranges: bool = True, failures: int = 0) -> Iterator["Server"]:
    """A server of a folder on this machine.

    Args:
        folder: what to serve.
        ranges: whether it sends parts of files.
        failures: requests for parts that are refused before one is answered.
    """
    handler = functools.partial(_Handler, directory=str(folder))
    server = Server(("127.0.0.1", 0), handler)
    server.ranges, server.failures = ranges, failures
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    ranges, failures, bytes_sent = True, 0, 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not self.server.ranges or wanted is None or not path.is_file():
            super().do_GET()
            return
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
            return
        content = path.read_bytes()
        start, end = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
        self.send_header("Content-Length", str(end + 1 - start))
        self.end_headers()
        self.wfile.write(content[start : end + 1])
        self.server.bytes_sent += end + 1 - start

    def end_headers(self) -> None:
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def _metadata(index: int, shape: Sequence[int]) -> dict[str, Any]:
    return {
        "name": f"lidc/{index}",
        "source": "LIDC-IDRI",
        "source_name": str(index),
        "license": "CC BY 3.0",
        "patient": "",
        "original_shape": list(shape),
        "original_spacing": list(SPACING),
    }
