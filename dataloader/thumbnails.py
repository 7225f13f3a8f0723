"""thumbnails.parquet: one small JPEG an item, which encoding frames leaves in a data set's folder for pages to show."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.files import written_beside

FILE = "thumbnails.parquet"
JPEG = b"\xff\xd8\xff"  # how a JPEG file begins
MOST_BYTES = 20_000  # of a picture of 96 pixels, which has about 1,700; what is larger is none that was written here


def write_thumbnails(path: Path, thumbnails: Mapping[str, bytes]) -> None:
    """Item id -> JPEG, in this order."""
    columns = {
        "item_id": pa.array(list(thumbnails), pa.string()),
        "jpeg": pa.array(list(thumbnails.values()), pa.binary()),
    }
    with written_beside(path) as partial:
        pq.write_table(pa.table(columns), partial, compression="none")  # JPEG does not become smaller


def read_thumbnails(folder: Path, item_ids: Iterable[str]) -> dict[str, bytes]:
    """Item id -> JPEG of those of `item_ids` that a data set's folder has one of.

    Pictures are no part of the data: where the file cannot be read, a line on stderr says so and there are none.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path, columns=["item_id", "jpeg"])
        wanted = pc.is_in(table.column("item_id"), pa.array(dict.fromkeys(item_ids), pa.string()))
        ids, pictures = (table.filter(wanted).column(name).to_pylist() for name in ("item_id", "jpeg"))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        print(f"warning: {path}: no pictures, it is not the file that was written ({_first(error)})", file=sys.stderr)
        return {}
    found = {one: jpeg for one, jpeg in zip(ids, pictures, strict=True) if is_picture(jpeg)}
    if len(found) < len(ids):
        print(f"warning: {path}: {len(ids) - len(found)} of its pictures are none, and not shown", file=sys.stderr)
    return found


def is_picture(jpeg: object) -> bool:
    return isinstance(jpeg, bytes) and jpeg.startswith(JPEG) and len(jpeg) <= MOST_BYTES


def keep_thumbnails(folders: Sequence[Path], to: Path, kept: Collection[str]) -> None:
    """Write those of the items `kept` that these data sets' folders have, if any, to the file `to`."""
    found: dict[str, bytes] = {}
    for folder in folders:
        found |= read_thumbnails(folder, kept)
    if found:
        write_thumbnails(to, found)


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
