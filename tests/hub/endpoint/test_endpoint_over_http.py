"""An endpoint over real HTTP, in a process of its own, as the toolkit runs it.

One server takes all that follows, right and wrong; the last tests look at what it has become.
"""

import base64
import gzip
import io
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import inference_server
import nibabel
import numpy as np
import psutil
import pytest
from PIL import Image
from transformers import pipeline

from dicom_files import write_radiograph, write_series
from test_received_files_mit import GZIP_BOMB, png_claiming, with_shape, zipped

BYTES = {"Content-Type": "audio/x-audio"}
# Above what it holds when it is warm, for what allocators keep of threads and of large inputs. The
# volume below takes ten times as much while it is prepared.
MOST_KEPT = 64 * 2**20


class Server:
    """A running server: requests, and what its process holds."""

    def __init__(self, process, port):
        self.process = psutil.Process(process.pid)
        self.port = port
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)

    def post(self, name, content, headers=BYTES, **parameters):
        return self.client.post(f"/{name}", content=content, headers=headers, params=parameters)

    def post_json(self, name, inputs, **parameters):
        return self.client.post(f"/{name}", json={"inputs": inputs, "parameters": parameters})

    def memory(self):
        return self.process.memory_info().rss


@pytest.fixture(scope="module")
def server(endpoint_folders, tmp_path_factory):
    """The server, warm: it has had one request of each kind. `strict` is of an image task."""
    folders = {
        **endpoint_folders,
        "strict": f"{endpoint_folders['classification']}=image-classification",
    }
    errors = (tmp_path_factory.mktemp("server") / "errors.txt").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", inference_server.__file__]
        + [f"{name}={folder}" for name, folder in folders.items()],
        env={
            "PATH": "",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TMPDIR": str(tmp_path_factory.mktemp("of_server")),
            "HOME": str(tmp_path_factory.mktemp("home")),
            "UNIMISS_MAX_DECODED_BYTES": str(2**27),
            "UNIMISS_MAX_VOXELS": str(2**26),
        },
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    port = process.stdout.readline()
    assert port, Path(errors.name).read_text()[-3000:]
    server = Server(process, int(port))
    yield server
    server.client.close()
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def expected(endpoint_folders, volume, grey_levels):
    """What the pipelines answer, by endpoint, of the picture and of the volume."""
    inputs = {"png": Image.fromarray(grey_levels), "nii.gz": volume}
    return {
        (name, kind): pipeline(f"medical-{task}", str(endpoint_folders[name]), device="cpu")(item)
        for name, task in (
            ("features", "feature-extraction"),
            ("classification", "image-classification"),
            ("segmentation", "image-segmentation"),
        )
        for kind, item in inputs.items()
    }


def thorax(*shape):
    """The bytes of a NIfTI file, 1 mm, with a box in it."""
    voxels = np.full(shape, -1000, np.int16)
    voxels[tuple(slice(length // 4, -length // 4) for length in shape)] = 50
    return nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes()


def refusal(response):
    """The sentence of a request that was refused."""
    assert response.status_code == 400, response.text[:500]
    return response.json()["error"]


def labels_of(answer):
    return np.asarray(
        nibabel.Nifti1Image.from_bytes(
            gzip.decompress(base64.b64decode(answer["segmentation"]))
        ).dataobj
    )


def require_same_labels(found, wanted):
    # Two classes may be equal to rounding in a voxel, which differs between processes.
    assert found.shape == wanted.shape
    assert np.mean(found == wanted) > 0.999


def test_a_picture_is_classified(server, files, expected):
    wanted = expected["classification", "png"]
    posted = {
        "bytes": server.post("classification", files["png"]),
        "opened by the toolkit": server.post(
            "classification", files["png"], {"Content-Type": "image/png"}
        ),
        "text": server.post_json("classification", base64.b64encode(files["png"]).decode()),
        "text, opened by the toolkit": server.post_json(
            "strict", base64.b64encode(files["png"]).decode()
        ),
        "file": server.post_json("strict", {"file": base64.b64encode(files["png"]).decode()}),
    }
    for name, response in posted.items():
        assert response.status_code == 200, (name, response.text)
        found = response.json()
        assert [entry["label"] for entry in found] == [entry["label"] for entry in wanted], name
        for entry, other in zip(found, wanted, strict=True):
            assert entry["score"] == pytest.approx(other["score"], abs=1e-5), name


@pytest.mark.parametrize("kind", ["jpg", "tif", "bmp", "16.png"])
def test_other_pictures_come_as_bytes(server, files, kind):
    answer = server.post("classification", files[kind], top_k=2)
    assert [set(entry) for entry in answer.json()] == [{"label", "score"}] * 2


def test_a_volume_is_segmented_on_its_own_grid(server, files, expected):
    wanted = expected["segmentation", "nii.gz"]
    for response in (
        server.post("segmentation", files["nii.gz"]),
        server.post("segmentation", files["nii"], output="nifti"),
        server.post_json("segmentation", base64.b64encode(files["nii.gz"]).decode()),
    ):
        answer = response.json()
        require_same_labels(labels_of(answer), np.asarray(wanted["segmentation"].dataobj))
        names = [entry["label"] for entry in answer["segments_info"]]
        assert names == ["air", "lung", "bone"]


def test_a_volume_reaches_an_image_task_as_a_file(server, files):
    text = base64.b64encode(files["nii.gz"]).decode()
    assert server.post_json("strict", {"file": text}).status_code == 200
    assert server.post("strict", files["nii.gz"]).status_code == 200
    # The toolkit takes these for pictures.
    assert "cannot identify image" in refusal(server.post_json("strict", text))
    octets = {"Content-Type": "application/octet-stream"}
    assert "cannot identify image" in refusal(server.post("strict", files["nii.gz"], octets))


def test_a_picture_has_masks(server, files, expected):
    labels = np.asarray(expected["segmentation", "png"]["segmentation"])
    found = np.zeros_like(labels)
    for entry in server.post("segmentation", files["png"]).json():
        mask = Image.open(io.BytesIO(base64.b64decode(entry["mask"])))
        found[np.asarray(mask) > 0] = ["air", "lung", "bone"].index(entry["label"])
    require_same_labels(found, labels)


def test_features_with_and_without_patches(server, files, expected):
    wanted = expected["features", "nii.gz"]["pooled"]
    (pooled,) = server.post("features", files["nii.gz"]).json()
    np.testing.assert_allclose(pooled, wanted, rtol=1e-4, atol=1e-5)
    query = {"patches": "true", "overlap": "0.25", "spacing": "[6, 3, 3]"}
    answer = server.post("features", files["nii.gz"], **query).json()
    assert len(answer["patches"]) == np.prod(answer["shape"])


def test_dicom_files_and_series(server, tmp_path, grey_levels):
    path = write_radiograph(tmp_path / "xray.dcm", grey_levels.astype(np.uint16) * 16)
    text = base64.b64encode(path.read_bytes()).decode()
    as_bytes = server.post("classification", path.read_bytes())
    assert as_bytes.status_code == 200
    assert server.post_json("classification", text).json() == as_bytes.json()
    hu = np.random.default_rng(0).integers(-1000, 500, (12, 40, 44))
    paths = write_series(tmp_path / "series", hu)
    answer = server.post("segmentation", zipped({p.name: p.read_bytes() for p in paths})).json()
    assert labels_of(answer).shape == (44, 40, 12)


def test_arrays_in_json(server):
    array = np.random.default_rng(0).random((40, 48)).round(3)
    assert server.post_json("features", array.tolist()).status_code == 200


@pytest.mark.parametrize(
    ("content", "headers", "message"),
    [
        (b'{"inputs": ', {"Content-Type": "application/json"}, "Expecting value"),
        (b"{}", {"Content-Type": "application/json"}, "needs inputs"),
        (b"", {"Content-Type": "application/json"}, "Expecting value"),
        (b'{"inputs": 5}', {"Content-Type": "application/json"}, "got the int 5"),
        (b"", BYTES, "Nothing came. Send a PNG"),
        (b"%PDF-1.7 text", BYTES, "13 bytes that came are of no known kind"),
        (b"text", {"Content-Type": "text/plain"}, "not supported"),
        (b"text", {"Content-Type": "image/png"}, "cannot identify image"),
        (GZIP_BOMB, BYTES, "holds no NIfTI or MGH file"),
        (png_claiming(30000, 30000), BYTES, "decompression bomb"),
        (png_claiming(30000, 30000), {"Content-Type": "image/png"}, "decompression bomb"),
        (png_claiming(8200, 8200), BYTES, "67240000 pixels) exceeds limit of 67108864"),
    ],
)
def test_what_cannot_be_answered_is_told(server, content, headers, message):
    assert message in refusal(server.post("segmentation", content, headers))


def test_bombs_and_claims_are_told(server, volume, files):
    behind = gzip.compress(volume.to_bytes()) + GZIP_BOMB
    assert "bytes after decompression" in refusal(server.post("segmentation", behind))
    claim = with_shape(volume, 30000, 30000, 30000)
    assert "27000000000000 voxels" in refusal(server.post("segmentation", claim))
    cut = files["nii.gz"][: len(files["nii.gz"]) // 2]
    assert "ended before the end-of-stream" in refusal(server.post("segmentation", cut))
    assert "would have shape" in refusal(
        server.post("segmentation", files["nii"], spacing="[0.01, 0.01, 0.01]")
    )


def test_unknown_parameters_are_told(server, files):
    assert "no parameter colour" in refusal(server.post("features", files["png"], colour="red"))
    assert "no parameter mirror" in refusal(server.post_json("features", "", mirror=[0]))


def test_a_body_that_ends_early_is_not_answered(server, files):
    head = (
        "POST /segmentation HTTP/1.1\r\nHost: endpoint\r\nContent-Type: audio/x-audio\r\n"
        f"Content-Length: {len(files['nii'])}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode() + files["nii"][:5000])
        connection.shutdown(socket.SHUT_WR)
        reply = connection.recv(2**16)
    assert not reply.startswith(b"HTTP/1.1 200")
    assert server.client.get("/health").text == "Ok"


def test_the_process_stays_up_and_its_memory_returns(server, files, volume):
    alone = {
        (name, kind): server.post(name, files[kind]).json()
        for name in ("features", "classification", "segmentation", "overlapping")
        for kind in ("png", "nii.gz")
    }
    server.post("segmentation", thorax(200, 200, 40))  # Takes several windows.
    warm = server.memory()

    # 32 at once: right and wrong ones, small and large.
    requests = (list(alone) * 4)[:28] + [("segmentation", "cut")] * 2 + [("features", "bomb")] * 2
    bodies = {
        **files,
        "cut": files["nii.gz"][:-100],
        "bomb": gzip.compress(volume.to_bytes()) + GZIP_BOMB,
    }

    def post(request):
        name, kind = request
        return server.post(name, bodies[kind])

    with ThreadPoolExecutor(32) as threads:
        responses = list(threads.map(post, requests))
    for request, response in zip(requests, responses, strict=True):
        if request in alone:
            assert response.json() == alone[request]
        else:
            assert refusal(response)

    # A third of a million voxels are left of it for the network.
    body = thorax(512, 512, 160)
    assert len(body) > 80e6
    labels = labels_of(server.post("segmentation", body, overlap="0").json())
    assert labels.shape == (512, 512, 160)
    assert "cut off" in refusal(server.post("segmentation", body[: len(body) // 2]))

    deadline = time.monotonic() + 20
    while server.memory() > warm + MOST_KEPT and time.monotonic() < deadline:
        time.sleep(0.2)
    assert server.memory() < warm + MOST_KEPT
    for (name, kind), answer in alone.items():
        assert server.post(name, files[kind]).json() == answer


def test_nothing_is_left_on_the_disk(server):
    folder = Path(server.process.environ()["TMPDIR"])
    assert list(folder.rglob("endpoint-*")) == []
    assert json.loads(server.post("features", b"").text)["error"]
