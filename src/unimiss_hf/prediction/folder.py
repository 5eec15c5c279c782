"""The folder of predictions: a table, a list of bad inputs, files of each input."""

import csv
import io
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..data.input_preparation import BadInput
from ..data.input_reporting import write_bad_inputs
from ..data.resumable_output import ResumableOutput
from ..data.whole_files import put_in_place

TABLE = "predictions.csv"
ERRORS = "errors.csv"
DESCRIPTION = "predictions.json"

# They may differ between predictions that may stand side by side: the weights' digest decides.
_NAMES = ("model", "package_version")
# Rows not yet written are lost when the process is killed, and predicted anew.
_SECONDS_BETWEEN_TABLES = 30.0


class PredictionFolder(ResumableOutput):
    """Keeps the rows of predictions, and which inputs have theirs.

    A row is written behind the files that it names, so an input with a row is finished. Each file
    is whole or not there. As long as the folder is open, no other process can write to it.

    Args:
        folder: Where to write.

    Raises:
        ValueError: If `folder` is a file, or holds something else than predictions.
        OSError: If it cannot be written to, or another process writes to it now.
    """

    def __init__(self, folder: Path):
        super().__init__(folder, folder, str(folder))
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}
        self._columns: list[str] = []
        self._unwritten = False
        self._written_at = time.monotonic()
        if folder.is_file():
            raise ValueError(f"The output {folder} is a file; wanted the name of a folder.")
        if folder.is_dir() and not (folder / DESCRIPTION).exists():
            others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
            if others:
                raise ValueError(
                    f"The output {folder} is not empty and holds no predictions: found "
                    f"{', '.join(sorted(others)[:3])}. Give a new folder, so that no file of yours "
                    "is replaced."
                )

    def begin(self, description: dict[str, Any], columns: Sequence[str]) -> None:
        """Find the rows of earlier runs.

        Args:
            description: All that predictions depend on, as plain JSON values.
            columns: Of the table: the first is "name", the second "files", in the folder, with
                semicolons between them.

        Raises:
            ValueError: If earlier predictions were made with other settings.
            OSError: If the folder cannot be read or written.
        """
        self._columns = list(columns)
        known = self.folder / DESCRIPTION
        if known.exists():
            self._require_same(json.loads(known.read_text(encoding="utf-8")), description)
        with self.explained(), put_in_place(known, self.folder) as partial:
            partial.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        table = self.folder / TABLE
        if not table.exists():
            return
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if all((self.folder / name).exists() for name in row["files"].split(";")):
                    self.rows[row["name"]] = row

    def add(self, row: dict[str, Any]) -> None:
        """Take the row of an input whose files are written; write the table now and then.

        Raises:
            OSError: If the table cannot be written.
        """
        self.rows[row["name"]] = row
        self._unwritten = True
        if time.monotonic() - self._written_at >= _SECONDS_BETWEEN_TABLES:
            self.write_rows()

    def write_rows(self) -> None:
        """Write the rows, if there are new ones.

        Raises:
            OSError: If they cannot be written; the table of before remains.
        """
        if not self._unwritten:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows.values())
        with self.explained(), put_in_place(self.folder / TABLE, self.folder) as partial:
            partial.write_text(text.getvalue(), encoding="utf-8")
        self._unwritten, self._written_at = False, time.monotonic()

    def write_bad_inputs(self, bad: Iterable[BadInput]) -> None:
        """List the inputs that gave no prediction; those of earlier runs stay as long as they do.

        Raises:
            OSError: If the list cannot be written.
        """
        with self.explained():
            write_bad_inputs(self.folder / ERRORS, list(bad), self.rows)

    def _require_same(self, earlier: dict[str, Any], now: dict[str, Any]) -> None:
        changes = [
            f"{name} {earlier.get(name)!r} (now {now[name]!r})"
            for name in now
            if name not in _NAMES and earlier.get(name) != now[name]
        ]
        if changes:
            raise ValueError(
                f"{self.folder} holds predictions made with other settings: {'; '.join(changes)}. "
                "Give another output, or delete it to begin anew."
            )
