"""A Hub on this machine, over real HTTP, which can be slow, refuse, fail or be gone.

It speaks what huggingface_hub and datasets need to make, fill and read model and data set
repositories: each commit is kept as the files that the repository then holds.
"""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from card_validation import card_errors

TOKEN = "hf_loopback"
# As the real one, it takes large files apart from the commit that names them.
LARGE_BYTES = 50_000


@dataclass(frozen=True)
class Commit:
    """A commit: its message, and all files of the repository behind it."""

    sha: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """A repository, how it was asked for, and its branches.

    Attributes:
        request: What the client sent to make it.
        branches: Commits by the branch's name, the newest last.
        gate: Whether only those who are granted access may download files.
        granted: The tokens of those.
    """

    request: dict[str, Any]
    branches: dict[str, list[Commit]] = field(default_factory=lambda: {"main": []})
    gate: bool = False
    granted: set[str] = field(default_factory=set)

    @property
    def commits(self) -> list[Commit]:
        return self.branches["main"]

    def add(self, message: str, files: dict[str, bytes], branch: str = "main") -> Commit:
        commits = self.branches[branch]
        sha = hashlib.sha1(f"{branch} {len(commits)} {message}".encode()).hexdigest()
        commits.append(Commit(sha, message, files))
        return commits[-1]

    def at(self, revision: str) -> Commit | None:
        commits = self.branches.get(revision.removeprefix("refs/heads/"))
        if commits:
            return commits[-1]
        every = (commit for commits in self.branches.values() for commit in commits)
        return next((commit for commit in every if commit.sha == revision), None)


class LoopbackHub:
    """A Hub at `endpoint` while the context lasts; programs find it by `environment`.

    Attributes:
        repositories: By kind, `"models"` or `"datasets"`, and name, `"owner/name"`.
        requests: Every request so far, as `"POST /api/repos/create"`.
        delay: Seconds before each answer; may be changed at any time.
        silent: Whether requests are taken and not answered while it lasts.
        drops: How many of the next transfers of large files break off half-way, by the method,
            `"GET"` or `"PUT"`.

    ```python
    >>> with LoopbackHub() as hub:
    ...     subprocess.run(command, env={**os.environ, **hub.environment})
    ...     hub.files("owner/name")["README.md"]
    ```
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []
        self.large: dict[str, bytes] = {}
        self.delay = 0.0
        self.silent = False
        self.drops = {"GET": 0, "PUT": 0}
        self.lock = threading.RLock()
        self._failures = 0
        self._status = 500
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Begin to take requests; again at the same port after [`close`]."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_of(self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Be gone: connections are refused from here on."""
        self.silent = False
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a program's environment needs so that this is the Hub, with a token to write."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def fail(self, status: int, times: int = 10**9) -> None:
        """Answer the next requests with an error status; `times=0` ends that."""
        with self.lock:
            self._status, self._failures = status, times

    def files(self, name: str, kind: str = "models") -> dict[str, bytes]:
        """The files of a repository, by path; none if there is no such repository."""
        repository = self.repositories.get((kind, name))
        return repository.commits[-1].files if repository else {}

    def messages(self, name: str, kind: str = "models") -> list[str]:
        """The messages of a repository's commits, but for the one that made it."""
        repository = self.repositories.get((kind, name))
        return [commit.message for commit in repository.commits[1:]] if repository else []

    def drops_now(self, method: str, size: int) -> bool:
        """Whether this transfer is one of those that break off."""
        with self.lock:
            if size < LARGE_BYTES or self.drops[method] == 0:
                return False
            self.drops[method] -= 1
            return True

    def next_failure(self) -> int | None:
        with self.lock:
            if self._failures > 0:
                self._failures -= 1
                return self._status
            return None


def _handler_of(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"hub": hub})


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            # The other side went away, as one that is killed does.
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Print nothing: the tests read what the programs print."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    # ------------------------------------------------------------------------------- requests

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        length = int(self.headers.get("Content-Length", 0))
        if self.command == "PUT" and self.hub.drops_now("PUT", length):
            self.rfile.read(length // 2)
            self._hang_up()
            return
        body = self._body()
        self.hub.requests.append(f"{self.command} {path}")
        time.sleep(self.hub.delay)
        while self.hub.silent:
            time.sleep(0.05)
        status = self.hub.next_failure()
        if status is not None:
            self._refuse(status, "This Hub was told to fail.")
            return
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.command in ("POST", "PUT") and not self._may_write():
            self._refuse(401, "Invalid username or password.")
        elif path == "/api/whoami-v2":
            self._answer({"name": "owner", "type": "user", "orgs": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body))
        elif match := re.fullmatch(r"/large/([0-9a-f]{64})", path):
            self._take_large(match[1], body)
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._announce_large(json.loads(body))
        elif match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?", path):
            self._repository_request(match[1], match[2], match[3] or "", query, body)
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._send_file("datasets" if match[1] else "models", match[2], match[3], match[4])
        else:
            self._refuse(404, f"This Hub does not know {path}.")

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _token(self) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" else None

    def _may_write(self) -> bool:
        # A large file's own address is a secret, so no token goes with it; anyone may ask about a
        # card.
        is_open = self.path.startswith(("/large/", "/api/validate-yaml"))
        return is_open or self._token() == TOKEN

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _repository_request(
        self, kind: str, name: str, rest: str, query: dict[str, str], body: bytes
    ) -> None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or self._is_hidden(repository):
            self._refuse_repository()
            return
        verb, _, argument = rest.partition("/")
        if verb in ("preupload", "commit") and argument not in repository.branches:
            self._refuse(404, f"Revision {argument} not found", "RevisionNotFound")
        elif verb == "preupload":
            held = repository.branches[argument][-1].files
            self._answer({"files": [_mode(file, held) for file in json.loads(body)["files"]]})
        elif verb == "commit":
            self._commit(kind, name, repository, argument, body)
        elif verb == "branch":
            self._make_branch(repository, argument)
        elif verb == "refs":
            branches = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": commits[-1].sha}
                for branch, commits in repository.branches.items()
            ]
            self._answer({"branches": branches, "converts": [], "tags": []})
        else:
            revision, _, folder = argument.partition("/")
            commit = repository.at(revision or "main")
            if commit is None:
                self._refuse(404, f"Revision {revision} not found", "RevisionNotFound")
            elif verb in ("", "revision"):
                siblings = [{"rfilename": path} for path in sorted(commit.files)]
                self._answer(
                    {
                        "id": name,
                        "sha": commit.sha,
                        "private": repository.request.get("visibility") == "private",
                        "tags": [],
                        "downloads": 0,
                        "likes": 0,
                        "siblings": siblings,
                    }
                )
            elif verb == "tree":
                recursive = query.get("recursive", "false").lower() in ("true", "1")
                self._send_tree(commit, folder, recursive)
            elif verb == "paths-info":
                paths = self._form(body).get("paths", [])
                self._answer([entry for path in paths for entry in _entries(commit, path)])
            else:
                self._refuse(404, f"This Hub does not know {rest} of a repository.")

    def _is_hidden(self, repository: Repository) -> bool:
        return repository.request.get("visibility") == "private" and self._token() != TOKEN

    def _refuse_repository(self) -> None:
        # Whoever is not logged in does not learn whether there is one.
        status = 404 if self._token() else 401
        self._refuse(status, "Repository not found", "RepoNotFound")

    def _form(self, body: bytes) -> dict[str, list[str]]:
        if "json" in self.headers.get("Content-Type", ""):
            return json.loads(body)
        return parse_qs(body.decode())

    # ------------------------------------------------------------------------------- writing

    def _create(self, request: dict[str, Any]) -> None:
        kind = f"{request.get('type') or 'model'}s"
        name = f"{request.get('organization') or 'owner'}/{request['name']}"
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'datasets' else ''}{name}"
        with self.hub.lock:
            if (kind, name) in self.hub.repositories:
                self._answer({"url": url, "error": "You already created this repo"}, 409)
                return
            repository = self.hub.repositories[kind, name] = Repository(request)
            repository.add("initial commit", {".gitattributes": b""})
        self._answer({"url": url, "name": name, "id": "0"})

    def _validate(self, request: dict[str, Any]) -> None:
        found = card_errors(request["content"], request.get("repoType") or "model")
        errors = [{"message": message} for message in found]
        self._answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _announce_large(self, request: dict[str, Any]) -> None:
        objects = []
        for large in request["objects"]:
            answer = {"oid": large["oid"], "size": large["size"]}
            if large["oid"] not in self.hub.large:
                href = f"{self.hub.endpoint}/large/{large['oid']}"
                answer["actions"] = {"upload": {"href": href}}
            objects.append(answer)
        self._answer({"transfer": "basic", "objects": objects})

    def _take_large(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._refuse(400, "The content is not what was announced.")
            return
        self.hub.large[oid] = body
        self._answer({})

    def _make_branch(self, repository: Repository, branch: str) -> None:
        with self.hub.lock:
            if branch in repository.branches:
                self._refuse(409, f"Reference already exists: {branch}")
                return
            repository.branches[branch] = [repository.commits[-1]]
        self._answer({})

    def _commit(
        self, kind: str, name: str, repository: Repository, branch: str, body: bytes
    ) -> None:
        message = ""
        with self.hub.lock:
            files = dict(repository.branches[branch][-1].files)
            for line in body.splitlines():
                entry = json.loads(line)
                key, value = entry["key"], entry["value"]
                if key == "header":
                    message = value["summary"]
                elif key == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif key == "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                elif key == "deletedFile":
                    files.pop(value["path"])
                elif key == "deletedFolder":
                    folder = f"{value['path'].rstrip('/')}/"
                    files = {k: v for k, v in files.items() if not k.startswith(folder)}
                else:
                    self._refuse(400, f"This Hub does not know {key} in a commit.")
                    return
            commit = repository.add(message, files, branch)
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'datasets' else ''}{name}"
        self._answer({"commitUrl": f"{url}/commit/{commit.sha}", "commitOid": commit.sha})

    # ------------------------------------------------------------------------------- reading

    def _send_tree(self, commit: Commit, folder: str, recursive: bool) -> None:
        entries = []
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        below = [path.removeprefix(prefix) for path in commit.files if path.startswith(prefix)]
        if prefix and not below:
            self._refuse(404, f"{folder} not found", "EntryNotFound")
            return
        for part in sorted({part for path in below for part in _ancestors(path)}):
            if recursive or "/" not in part:
                entries += _entries(commit, prefix + part)
        self._answer(entries)

    def _send_file(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or self._is_hidden(repository):
            self._refuse_repository()
            return
        if repository.gate and self._token() not in repository.granted:
            status = 403 if self._token() else 401
            self._refuse(status, f"Access to model {name} is restricted.", "GatedRepo")
            return
        commit = repository.at(revision)
        if commit is None:
            self._refuse(404, "Not found", "RevisionNotFound")
            return
        if path not in commit.files:
            self._refuse(404, f"{path} not found", "EntryNotFound", {"X-Repo-Commit": commit.sha})
            return
        content = commit.files[path]
        headers = {
            "X-Repo-Commit": commit.sha,
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            self._send(200, content, headers)
            return
        first, last = int(span[1]), min(int(span[2] or len(content) - 1), len(content) - 1)
        if first > last:
            self._send(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], headers)

    # ------------------------------------------------------------------------------- answers

    def _answer(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(
        self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        told = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        content = json.dumps({"error": message}).encode()
        kind = {"Content-Type": "application/json"}
        self._send(status, content, {**kind, **told, **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET" and self.hub.drops_now("GET", len(content)):
            self.wfile.write(content[: len(content) // 2])
            self._hang_up()
        elif self.command != "HEAD":
            self.wfile.write(content)


def _mode(file: dict[str, Any], held: dict[str, bytes]) -> dict[str, Any]:
    """How a file is to be sent, and the digest of what the repository holds under its name."""
    large = file["size"] >= LARGE_BYTES
    answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular"}
    content = held.get(file["path"])
    if content is not None:
        git = hashlib.sha1(f"blob {len(content)}\0".encode() + content)
        answer["oid"] = (hashlib.sha256(content) if large else git).hexdigest()
    return {**answer, "shouldIgnore": False}


def _ancestors(path: str) -> list[str]:
    """A path and the folders that it lies in: `a/b/c` gives `a`, `a/b` and itself."""
    parts = path.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _entries(commit: Commit, path: str) -> list[dict[str, Any]]:
    """What the Hub says of a path: one entry, or none if there is no such path."""
    if path in commit.files:
        content = commit.files[path]
        oid = hashlib.sha1(content).hexdigest()
        return [{"type": "file", "path": path, "size": len(content), "oid": oid}]
    if any(other.startswith(f"{path}/") for other in commit.files):
        return [{"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest()}]
    return []
