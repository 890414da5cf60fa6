"""Landing files of a test, written as a person's tools would write them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Content = str | bytes | pa.Table


def write_files(folder: Path, files: Mapping[str, Content]) -> None:
    """Make a folder anew with some files; a text is UTF-8, its surrogates single bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        if isinstance(content, pa.Table):
            pq.write_table(content, folder / name)
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
