"""The command `python -m unimiss_hf.data`."""

import argparse
import signal
import sys
from dataclasses import fields
from pathlib import Path

from .preparing.settings import PreparationSettings

_PROGRAM = "python -m unimiss_hf.data"
_USAGE = f"""usage: {_PROGRAM} prepare SOURCE... OUT [options]
       {_PROGRAM} push OUT OWNER/NAME [options]

prepare   make one data set in shards of folders of CT and radiographs
push      put a prepared data set on the Hub

{_PROGRAM} COMMAND --help lists a command's options.
{_PROGRAM}.sample FOLDER writes a small data set to try everything on.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status.

    0: done. 1: an error, or too many images failed. 2: mistyped. 128 and a signal's number: stopped
    by it.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] in (["-h"], ["--help"]):
        print(_USAGE, end="")
        return 0
    if not words or words[0] not in _COMMANDS:
        told = f"{_PROGRAM}: error: no command {words[0]!r}\n" if words else ""
        print(f"{_USAGE}{told}", end="", file=sys.stderr)
        return 2
    try:
        return _COMMANDS[words[0]](words[1:])
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to go on.", file=sys.stderr)
        return 128 + signal.SIGINT


def _prepare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} prepare",
        allow_abbrev=False,
        description="Make one data set in shards of CT volumes and radiographs: each volume once, "
        "RAS+, resampled, int16 HU, so that crops are read without decompressing it; each "
        "radiograph as PNG. The same command goes on with what an earlier run left.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a folder, at any depth, of NIfTI, MGH, MetaImage, DICOM, PNG, JPEG, TIFF or .npy "
        "files, or of a known data set as it is downloaded; or single files. Images that are added "
        "later go into an OUT of their own",
    )
    parser.add_argument("output", metavar="OUT", help="folder to write")
    for setting in fields(PreparationSettings):
        options = {name: v for name, v in setting.metadata.items() if name != "content"}
        parser.add_argument(f"--{setting.name}", default=setting.default, **options)
    values = vars(parser.parse_intermixed_args(arguments))
    sources, output = values.pop("sources"), values.pop("output")
    settings = PreparationSettings(**values)

    # What follows takes seconds to import, which --help and mistyped words need not wait for.
    from .preparing.loop import prepare

    result = prepare(sources, output, settings)
    if result.stopped_by is not None:
        print(
            f"Stopped by {result.stopped_by}: {result.num_prepared} of {result.num_images} images "
            f"are in {result.num_shards} complete shards of {result.output}."
        )
        print("Run the same command again to go on.")
        return 128 + signal.Signals[result.stopped_by]
    if result.num_new:
        speed = result.num_new / max(result.seconds, 1e-3)
        print(f"{result.num_new} images in {result.seconds:.0f} s: {speed:.2f} images/s")
    print(
        f"{'Prepared' if result.num_new else 'Nothing to do'}: {result.output} holds "
        f"{result.num_prepared} of {result.num_images} images in {result.num_shards} shards, "
        f"{result.output_bytes / 1e6:.1f} MB of {result.source_bytes / 1e6:.1f} MB of files."
    )
    if not result.num_failed:
        return 0
    too_many = result.num_failed > settings.max_bad_fraction * result.num_images
    share = f"{result.num_failed} of {result.num_images} images failed"
    if too_many:
        print("\n".join(result.causes), file=sys.stderr)
        print(
            f"error: {share}, more than --max_bad_fraction {settings.max_bad_fraction:g}: see "
            f"{result.report}. What was prepared can be used; --retry_failed tries them again.",
            file=sys.stderr,
        )
        return 1
    print(f"{share}: see {result.report}. --retry_failed tries them again.")
    return 0


def _push(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} push",
        allow_abbrev=False,
        description="Put a prepared data set on the Hub: the shards, prepared.json and the card. "
        "report.csv stays here. The same command goes on with what an earlier run left.",
    )
    parser.add_argument("folder", metavar="OUT", type=Path, help="folder that prepare completed")
    parser.add_argument("repository", metavar="OWNER/NAME", help="data set on the Hub; made if new")
    parser.add_argument("--private", action="store_true", help="make a new data set private")
    parser.add_argument("--revision", help="branch to put it on (default: main)")
    options = parser.parse_args(arguments)

    from .preparing.push import push

    address = push(
        options.folder, options.repository, private=options.private, revision=options.revision
    )
    print(f"Pushed: {address}")
    return 0


_COMMANDS = {"prepare": _prepare, "push": _push}


if __name__ == "__main__":
    sys.exit(main())
