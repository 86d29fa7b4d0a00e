"""Files of zip archives, unpacked within the budget."""

import io
import zipfile

from numlstm.budget import spend
from numlstm.convert.assembly import Refused

_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack all at once
_PIECE = 2**20


def unpacked(archive: zipfile.ZipFile, name: str) -> io.BytesIO:
    """Return a file of an archive; what it says of its size counts for nothing.

    Raises
    ------
    WeightsError
        If it is packed otherwise than by deflate.
    """
    entry = archive.getinfo(name)
    if entry.compress_type not in _PACKED:
        raise Refused(
            f"{name[:100]} is packed by method {entry.compress_type}, expected deflate or none",
            "pack the files of the archive anew",
        )
    data = io.BytesIO()
    with archive.open(entry) as file:
        while piece := file.read(_PIECE):
            spend(f"what {name[:100]} unpacks to", 2 * len(piece), 10 * len(piece))
            data.write(piece)
    data.seek(0)
    return data
