"""Opens models one after another, in a process whose environment names the Hub.

Reads lines of JSON, `{"model": ..., "token": ...}`, and answers each with one: `{"folder": ...}`,
the model's first position of a weight, or `{"error": ...}`.
"""

import json
import os
import sys

from unimiss_hf.saved_models import locate, open_config, open_encoder, open_processor


def open_model(request: dict) -> dict:
    os.environ.pop("HF_TOKEN", None)
    if request.get("token"):
        os.environ["HF_TOKEN"] = request["token"]
    name = request["model"]
    try:
        folder = locate(name)
        encoder = open_encoder(name, open_config(name))
        return {
            "folder": str(folder),
            "files": sorted(path.name for path in folder.iterdir()),
            "weight": next(encoder.parameters()).flatten()[0].item(),
            "window": open_processor(name, {}).window,
        }
    except (OSError, ValueError) as error:
        return {"error": str(error), "kind": type(error).__name__}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(open_model(json.loads(line))), flush=True)
