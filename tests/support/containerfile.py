"""packaging/oci/Containerfile taken apart."""

from tests.support.peers import ROOT

OCI = ROOT / "packaging" / "oci"


def containerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments; lines that go on are one."""
    text = (OCI / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]
