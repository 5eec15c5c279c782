"""Starts the page: slices, features, segments and neighbours of radiographs and CT.

    python examples/space/app.py --encoder FOLDER_OR_HUB_NAME [--segmenter-3d ...] [--samples ...]

Without options, the models are those of the environment: UNIMISS_ENCODER and so on.
"""

import sys

from viewer.serving import serve
from viewer.settings import parse_settings


def main() -> int:
    try:
        serve(parse_settings())
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
