"""The command `python -m unimiss_hf.hub`."""

import argparse
import signal
import sys
from pathlib import Path

_PROGRAM = "python -m unimiss_hf.hub"
_USAGE = f"""usage: {_PROGRAM} push FOLDER OWNER/NAME [options]

push   put a model, or that of a finished run, on the Hub: weights, configuration, image
       processor, code, card, licence, log and figures, in one commit

{_PROGRAM} push --help lists the options.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status.

    0: done. 1: an error. 2: mistyped. 130: stopped by Ctrl-C.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] in (["-h"], ["--help"]):
        print(_USAGE, end="")
        return 0
    if not words or words[0] != "push":
        told = f"{_PROGRAM}: error: no command {words[0]!r}\n" if words else ""
        print(f"{_USAGE}{told}", end="", file=sys.stderr)
        return 2
    options = _push_parser().parse_args(words[1:])

    # What follows takes seconds to import, which --help and mistyped words need not wait for.
    from .pushing import push

    try:
        pushed = push(
            options.folder,
            options.repository,
            private=options.private,
            revision=options.revision,
            license=options.license,
            exclude=options.exclude,
            message=options.message,
            dry_run=options.dry_run,
        )
    except (OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to go on.", file=sys.stderr)
        return 128 + signal.SIGINT
    if options.dry_run:
        print(f"Nothing was sent. Without --dry-run it goes to {pushed.address}.")
        return 0
    print(f"Pushed: {pushed.address}")
    print(f"To pin it: {options.repository}@{pushed.commit}")
    return 0


def _push_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} push",
        allow_abbrev=False,
        description="Put a model on the Hub in one commit. Optimiser states, prepared images, "
        "names of cases and files with absolute paths never go. The token is that of HF_TOKEN or "
        "of `hf auth login`. A call that was cut off is made again: it sends what is missing.",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=Path,
        help="a folder that save_pretrained wrote, or a run's, whose model, log and figures go",
    )
    parser.add_argument(
        "repository", metavar="OWNER/NAME", help="model on the Hub; made if it is not there"
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to put it on (default: main)")
    parser.add_argument(
        "--license",
        metavar="ID",
        help="the weights' licence, such as cc-by-4.0 (default: what the card says)",
    )
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave files out, such as 'figures/*'; may be given several times",
    )
    parser.add_argument("--message", help="of the commit")
    parser.add_argument(
        "--dry-run", action="store_true", help="list what would go and what would stay; no network"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
