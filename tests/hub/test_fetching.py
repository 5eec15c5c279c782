"""Models of a Hub on this machine, over real HTTP, with huggingface_hub as it is."""

from pathlib import Path

import fetching_program
import pytest
from asked_programs import ask

from loopback_hub import TOKEN, LoopbackHub, Repository
from small_pyramid import SMALLEST_PYRAMID
from unimiss_hf import MiTConfig, MiTForPreTraining, MiTImageProcessor
from unimiss_hf.hub.fetching import commit_of, fetch_model, split_revision
from unimiss_hf.saved_models import locate


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a Hub with repositories of all kinds answered, by a word for each request."""
    work = tmp_path_factory.mktemp("fetching")
    cache = work / "cache"
    with LoopbackHub() as hub:
        first, second = (_repository(hub, "clinic/open", work / name) for name in ("one", "two"))
        pinned, newest = first.sha, second.sha
        _repository(hub, "clinic/gated", work / "one")
        hub.repositories["models", "clinic/gated"].gate = True
        hub.repositories["models", "clinic/gated"].granted.add("hf_granted")
        _repository(hub, "clinic/private", work / "one")
        hub.repositories["models", "clinic/private"].request["visibility"] = "private"
        hub.repositories["models", "clinic/empty"] = Repository({})
        hub.repositories["models", "clinic/empty"].add("first", {"notes.txt": b"nothing"})
        requests = {
            "pinned": {"model": f"clinic/open@{pinned}"},
            "newest": {"model": "clinic/open"},
            "again": {"model": "clinic/open"},
            "no revision": {"model": "clinic/open@v9"},
            "gated, no login": {"model": "clinic/gated"},
            "gated, not granted": {"model": "clinic/gated", "token": TOKEN},
            "gated, granted": {"model": "clinic/gated", "token": "hf_granted"},
            "private, no login": {"model": "clinic/private"},
            "private": {"model": "clinic/private", "token": TOKEN},
            "absent": {"model": "clinic/opne", "token": TOKEN},
            "no model": {"model": "clinic/empty"},
            "no name": {"model": "clinic/öffen"},
            "no folder": {"model": "./clinic/open"},
        }
        # The connection breaks off in the middle of the first large file.
        hub.drops["GET"] = 1
        environment = {**hub.environment, "HF_HUB_CACHE": str(cache)}
        online = ask(fetching_program, list(requests.values()), environment)
        assert hub.drops["GET"] == 0
        downloads = [line for line in hub.requests if line.startswith("GET /clinic/open/resolve")]
    offline = ask(
        fetching_program,
        [
            {"model": "clinic/open"},
            {"model": f"clinic/open@{pinned}"},
            {"model": "clinic/other"},
            {"model": "clinic/open@v9"},
        ],
        {**environment, "HF_HUB_OFFLINE": "1"},
    )
    # Its address is right, and nobody is there any more.
    gone = ask(fetching_program, [{"model": "clinic/open"}, {"model": "clinic/other"}], environment)
    return {
        **dict(zip(requests, online, strict=True)),
        "offline": offline,
        "gone": gone,
        "commits": (pinned, newest),
        "downloads": downloads,
    }


def _repository(hub: LoopbackHub, name: str, folder: Path):
    """Put a model into a repository, each folder's with other weights."""
    if not folder.exists():
        model = MiTForPreTraining(MiTConfig(**SMALLEST_PYRAMID))
        next(model.encoder.parameters()).data.fill_({"one": 1.0, "two": 2.0}[folder.name])
        model.save_pretrained(folder)
        MiTImageProcessor(window="lung").save_pretrained(folder)
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        (folder / "curves.png").write_bytes(b"picture" * 10_000)
        (folder / "training_state").mkdir()
        (folder / "training_state" / "run.json").write_text("{}")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    repository = hub.repositories.setdefault(("models", name), Repository({}))
    return repository.add(f"Upload {folder.name}", files)


def test_a_commit_is_pinned(answers):
    pinned, newest = answers["commits"]
    assert Path(answers["pinned"]["folder"]).name == pinned
    assert Path(answers["newest"]["folder"]).name == newest
    assert answers["pinned"]["weight"] == 1.0
    assert answers["newest"]["weight"] == 2.0
    assert commit_of(Path(answers["newest"]["folder"])) == newest


def test_a_dropped_connection_is_taken_up(answers):
    assert answers["pinned"]["window"] == "lung"
    large = [line for line in answers["downloads"] if line.endswith("model.safetensors")]
    # One download broke off and was asked for again; the other commit's is another file.
    assert len(large) == 3


def test_what_opening_does_not_take_stays_there(answers):
    assert {"config.json", "model.safetensors", "modeling_mit.py", "README.md"} <= set(
        answers["newest"]["files"]
    )
    assert {"curves.png", "training_state"} & set(answers["newest"]["files"]) == set()
    asked = "".join(answers["downloads"])
    assert "curves.png" not in asked and "training_state" not in asked


def test_what_is_in_the_cache_is_not_downloaded_again(answers):
    assert answers["again"] == answers["newest"]
    assert len(answers["downloads"]) == len(set(answers["downloads"])) + 1  # the one that broke off


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ("no revision", "clinic/open has no revision v9. Give a branch, a tag or a whole commit"),
        ("gated, no login", "clinic/gated is gated, and no login was sent. Ask for access at http"),
        ("gated, not granted", "is gated, and this login may not download it (yet)."),
        ("private, no login", "no model clinic/private, or it is private and this login may not"),
        ("absent", "The Hub has no model clinic/opne, or it is private"),
        ("no model", "clinic/empty has no config.json"),
        ("no name", "'clinic/öffen' is no name of a model on the Hub"),
        ("no folder", "There is no folder ./clinic/open with a model."),
    ],
)
def test_refusals_say_what_to_do(answers, request_, told):
    assert told in answers[request_]["error"]


def test_access_that_is_granted_opens(answers):
    assert answers["gated, granted"]["weight"] == 1.0
    assert answers["private"]["weight"] == 1.0


def test_the_cache_serves_without_a_network(answers):
    newest, pinned, other, revision = answers["offline"]
    assert newest == answers["newest"]
    assert pinned == answers["pinned"]
    for answer, name in ((other, "clinic/other"), (revision, "clinic/open@v9")):
        assert f"{name} is not in the cache, or not whole, and HF_HUB_OFFLINE=1" in answer["error"]


def test_the_cache_serves_where_the_hub_is_gone(answers):
    newest, other = answers["gone"]
    assert newest == answers["newest"]
    assert "clinic/other is not in the cache, or not whole, and the Hub cannot" in other["error"]


def test_names_are_split_at_their_revision():
    assert split_revision("owner/name") == ("owner/name", None)
    assert split_revision("owner/name@v1") == ("owner/name", "v1")
    with pytest.raises(ValueError, match="names no revision after the @"):
        fetch_model("owner/name@")


def test_a_file_is_no_model(tmp_path):
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(FileNotFoundError, match="is a file; wanted the folder"):
        locate(str(path))
