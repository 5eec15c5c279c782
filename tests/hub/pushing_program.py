"""Runs commands of `python -m unimiss_hf.hub` in one process, whose environment names the Hub.

Reads lines of JSON: the words of a command, or {"model": folder, "options": {...}} for
`model.push_to_hub`. Answers each with one: `{"status", "out", "err"}`.
"""

import contextlib
import io
import json
import os
import sys

from transformers import AutoModelForSemanticSegmentation

from unimiss_hf.hub.__main__ import main


def run(request: list | dict) -> dict:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if isinstance(request, list):
            try:
                status = main(request)
            except SystemExit as error:  # argparse's
                status = error.code
        else:
            model = AutoModelForSemanticSegmentation.from_pretrained(request["model"])
            if request.get("changed"):
                next(model.parameters()).data.add_(1.0)
            pushed = model.push_to_hub(**request["options"])
            status = 0
            print(pushed.commit)
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, dict) and "token" in request:
            os.environ["HF_TOKEN"] = request.pop("token")
        print(json.dumps(run(request)), flush=True)
