"""dist/SHA256SUMS: the digests of what is shipped, for `sha256sum -c`."""

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"


def write(folder: Path, *names: str) -> None:
    """For those of these files that are there, in the order of their names."""
    present = sorted(name for name in names if (folder / name).is_file())
    text = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in present
    )
    (folder / SUMS).write_text(text)
