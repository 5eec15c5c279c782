"""One attempt to bring a folder to the Hub, as a program of its own.

    python upload_attempt.py '{"repo": "owner/name", "folder": "run/to_upload/step-00000120"}'

A process of its own can be ended at any moment, shares no lock and no interpreter with training,
and imports nothing but huggingface_hub, so it starts at once. It prints one line of JSON:
`{"repo": "owner/name"}` when all is there, `{"kind": "403", "reason": "..."}` when it is not.
"""

import json
import os
import sys
import threading
import time
from typing import Any


def upload(repo: str, folder: str | None, private: bool | None, message: str) -> str:
    """Make a repository of models, unless it is there, and commit a folder's files to it.

    Args:
        repo: `"owner/name"`, or `"name"` for the owner of the token.
        folder: What to upload; `None` only makes the repository, which tells whether that may be.
        private: Whether a new repository is private; `None` leaves that to the Hub.
        message: The commit's.

    Returns:
        The repository's full name.

    Raises:
        Exception: Whatever huggingface_hub raises.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="unimiss_hf")
    full_name = api.create_repo(repo, private=private, exist_ok=True).repo_id
    if folder is not None:
        api.upload_folder(repo_id=full_name, folder_path=folder, commit_message=message)
    return full_name


def explain(error: Exception, repo: str) -> dict[str, str]:
    """Put an error of huggingface_hub into words that say what to do.

    Returns:
        `"kind"`, the same for errors of one cause, and `"reason"`, half a sentence.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    told = getattr(error, "server_message", None)
    detail = f" ({told.splitlines()[0]})" if told else ""
    text = (str(error) or type(error).__name__).splitlines()[0]
    if status == 401:
        reason = (
            f"the Hub does not accept the token, or there is none{detail}. Log in with "
            "`hf auth login`, or set HF_TOKEN to a token that may write"
        )
    elif status == 403:
        reason = (
            f"the Hub refuses to let this token write to {repo}{detail}. Give the token that "
            "right, or log in with another by `hf auth login`"
        )
    elif status == 404:
        reason = f"the Hub does not find {repo}{detail}. Look at the owner's name"
    elif status is not None:
        reason = f"the Hub answers with an error, {status}{detail}"
    elif isinstance(error, OSError) and error.filename:
        return {"kind": "file", "reason": f"{error.filename} cannot be read ({error.strerror})"}
    elif isinstance(error, ConnectionError) or type(error).__module__.startswith("httpx"):
        return {"kind": "unreachable", "reason": f"the Hub cannot be reached ({text})"}
    else:
        kind = type(error).__name__
        return {"kind": kind, "reason": f"the upload fails with {kind}: {text}"}
    return {"kind": str(status), "reason": reason}


def _end_with(parent: int) -> None:
    """End this process when the one that trains is no more: the next run uploads anew."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main(request: dict[str, Any]) -> None:
    """Carry out a request and print the answer."""
    parent = request.get("parent")
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    repo = request["repo"]
    try:
        full_name = upload(
            repo, request.get("folder"), request.get("private"), request.get("message", "Upload")
        )
    except Exception as error:
        # Whatever it is, training goes on, and the process that trains tells it.
        answer = explain(error, repo)
    else:
        answer = {"repo": full_name}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
