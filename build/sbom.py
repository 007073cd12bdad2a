"""dist/mcp-edge.cdx.json: what is in the archive, as a bill of materials in CycloneDX 1.6 (JSON).

Each library with its version, the wheel it was unpacked from and that wheel's digest, its licence and what it needs.
The same archive gives the same bytes: there is no time in it, and the serial number is made from the rest.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

OWN_NAME = "mcp-edge"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/schema/bom-1.6.schema.json")
SPDX_WORDS = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")
# How packages without a License-Expression say it, and the SPDX identifier that it means.
IDENTIFIERS = {
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
}


def write(target: Path, archive: Path, version: str, libraries: Path, wheels: Path) -> None:
    """`libraries` holds the unpacked wheels, `wheels` is the file that tells which they are (pyz.stage_libraries)."""
    about = [HeaderParser().parsestr(file.read_text()) for file in libraries.glob("*.dist-info/METADATA")]
    found = bill(digest_of(archive), version, about, json.loads(wheels.read_text()))
    target.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def bill(
    archive_sha256: str, version: str, about: list[Message], wheels: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """The document. `about` are the libraries' METADATA; `wheels` as pyz.wheels_of gives it."""
    known = {normal(name): wheel for name, wheel in wheels.items()}
    metadata = {normal(str(each["Name"])): each for each in about}
    own: dict[str, Any] = {
        "type": "application",
        "bom-ref": OWN_NAME,
        "name": OWN_NAME,
        "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "purl": f"pkg:generic/{OWN_NAME}@{version}",
        "hashes": [{"alg": "SHA-256", "content": archive_sha256}],
    }
    components = [component(name, metadata[name], known[name]) for name in sorted(metadata)]
    references = {name: purl(name, str(metadata[name]["Version"])) for name in metadata}
    needs = [{"ref": OWN_NAME, "dependsOn": sorted(references.values())}]
    needs += [
        {
            "ref": references[name],
            "dependsOn": [references[need] for need in needed(metadata[name]) if need in references],
        }
        for name in sorted(metadata)
    ]
    content = {"metadata": {"component": own}, "components": components, "dependencies": needs}
    serial = uuid.uuid5(NAMESPACE, json.dumps(content, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **content,
    }


def component(name: str, metadata: Message, wheel: Mapping[str, str]) -> dict[str, Any]:
    version = str(metadata["Version"])
    return {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": str(metadata["Name"]),
        "version": version,
        "description": str(metadata["Summary"]),
        "licenses": licences(metadata),
        "purl": purl(name, version),
        "hashes": [{"alg": "SHA-256", "content": wheel["sha256"]}],
        "properties": [{"name": f"{OWN_NAME}:wheel", "value": wheel["file"]}],
    }


def licences(metadata: Message) -> list[dict[str, Any]]:
    """As an SPDX identifier or expression where the package says one, else in its own words."""
    kinds = [kind for kind in metadata.get_all("Classifier", []) if kind.startswith("License ::")]
    said = metadata["License-Expression"] or metadata["License"] or (kinds or ["NOASSERTION"])[0]
    said = IDENTIFIERS.get(said, said)
    if not SPDX_WORDS.fullmatch(said):
        return [{"license": {"name": said.splitlines()[0]}}]
    return [{"expression": said}] if " " in said else [{"license": {"id": said}}]


def needed(metadata: Message) -> list[str]:
    """Names of what a library needs, without what is for extras only."""
    found = set()
    for line in metadata.get_all("Requires-Dist", []):
        name, _, marker = line.partition(";")
        if "extra" not in marker:
            found.add(normal(re.split(r"[^\w.-]", name.strip(), maxsplit=1)[0]))
    return sorted(found)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"
