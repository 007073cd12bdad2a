"""The bill of materials: what is in the archive, in CycloneDX's words."""

import hashlib
import json
import re
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pyz
import sbom
import sums

TRIO = """\
Name: trio
Version: 0.35.0
Summary: A friendly library
License-Expression: MIT OR Apache-2.0
Requires-Dist: attrs>=23.2.0
Requires-Dist: exceptiongroup; python_version < "3.11"
Requires-Dist: Typing_Extensions ; extra == "more"
"""
ATTRS = "Name: attrs\nVersion: 26.1.0\nSummary: Classes\nLicense: MIT\n"
WHEELS = {
    name: {"version": "1", "file": f"{name}-1-py3-none-any.whl", "sha256": "ab" * 32}
    for name in ("trio", "attrs")
}
# What CycloneDX 1.6 demands of the members that are used here, in our own words; nothing else may be in it.
NAME = {"type": "string", "minLength": 1}
LICENCES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "oneOf": [
            {"required": ["expression"], "properties": {"expression": NAME}, "additionalProperties": False},
            {
                "required": ["license"],
                "properties": {"license": {"type": "object", "minProperties": 1, "maxProperties": 1}},
                "additionalProperties": False,
            },
        ]
    },
}
COMPONENT: dict[str, Any] = {
    "type": "object",
    "required": ["type", "name", "version", "purl", "hashes", "licenses", "bom-ref"],
    "properties": {
        "type": {"enum": ["library", "application"]},
        "bom-ref": NAME,
        "name": NAME,
        "version": NAME,
        "description": NAME,
        "purl": {"type": "string", "pattern": "^pkg:(pypi|generic)/[a-z0-9-]+@[^@]+$"},
        "licenses": LICENCES,
        "hashes": {
            "type": "array",
            "items": {
                "required": ["alg", "content"],
                "properties": {"alg": {"const": "SHA-256"}, "content": {"pattern": "^[0-9a-f]{64}$"}},
            },
        },
        "properties": {"type": "array", "items": {"properties": {"name": NAME, "value": NAME}}},
    },
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "required": [
        "bomFormat",
        "specVersion",
        "serialNumber",
        "version",
        "metadata",
        "components",
        "dependencies",
    ],
    "properties": {
        "$schema": {"const": "http://cyclonedx.org/schema/bom-1.6.schema.json"},
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "serialNumber": {"pattern": "^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
        "version": {"const": 1},
        "metadata": {"properties": {"component": COMPONENT}, "additionalProperties": False},
        "components": {"type": "array", "items": COMPONENT, "uniqueItems": True},
        "dependencies": {"type": "array", "items": {"required": ["ref", "dependsOn"]}, "uniqueItems": True},
    },
    "additionalProperties": False,
}


def about(*texts: str) -> list[Message]:
    return [HeaderParser().parsestr(text) for text in texts]


@pytest.fixture
def found() -> dict[str, Any]:
    return sbom.bill("cd" * 32, "1.2.3", about(TRIO, ATTRS), WHEELS)


def test_it_has_the_form_that_cyclonedx_demands(found: dict[str, Any]) -> None:
    jsonschema.validate(json.loads(json.dumps(found)), SCHEMA)


def test_every_library_is_in_it_with_its_wheel(found: dict[str, Any]) -> None:
    names = [(each["name"], each["version"], each["purl"]) for each in found["components"]]
    assert names == [
        ("attrs", "26.1.0", "pkg:pypi/attrs@26.1.0"),
        ("trio", "0.35.0", "pkg:pypi/trio@0.35.0"),
    ]
    assert found["components"][1]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert found["components"][1]["properties"][0]["value"] == "trio-1-py3-none-any.whl"


def test_what_needs_what_is_said_without_extras_and_what_is_not_there(found: dict[str, Any]) -> None:
    needs = {each["ref"]: each["dependsOn"] for each in found["dependencies"]}
    assert needs["pkg:pypi/trio@0.35.0"] == ["pkg:pypi/attrs@26.1.0"]
    assert needs["mcp-edge"] == ["pkg:pypi/attrs@26.1.0", "pkg:pypi/trio@0.35.0"]


def test_the_serial_number_is_that_of_the_content() -> None:
    one, same = (sbom.bill("cd" * 32, "1.2.3", about(TRIO), WHEELS) for _ in range(2))
    other = sbom.bill("ce" * 32, "1.2.3", about(TRIO), WHEELS)
    assert one == same
    assert one["serialNumber"] != other["serialNumber"]


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        ("License-Expression: MIT", {"license": {"id": "MIT"}}),
        ("License-Expression: MIT OR Apache-2.0", {"expression": "MIT OR Apache-2.0"}),
        ("License: BSD-3-Clause", {"license": {"id": "BSD-3-Clause"}}),
        ("License: Apache 2.0", {"license": {"id": "Apache-2.0"}}),
        ("Classifier: License :: OSI Approved :: MIT License", {"license": {"id": "MIT"}}),
        ("License: as you like it (but ask)", {"license": {"name": "as you like it (but ask)"}}),
        ("Version: 1", {"license": {"id": "NOASSERTION"}}),
    ],
)
def test_a_licence_is_an_identifier_where_there_is_one(lines: str, licence: dict[str, Any]) -> None:
    [metadata] = about(f"Name: x\n{lines}\n")
    assert sbom.licences(metadata) == [licence]


def test_pips_report_tells_which_wheels_were_taken_and_from_nowhere() -> None:
    report = {
        "install": [
            {
                "metadata": {"name": "Trio", "version": "0.35.0"},
                "download_info": {
                    "url": "https://files.example/a/b/trio-0.35.0-py3-none-any.whl",
                    "archive_info": {"hashes": {"sha256": "ab"}},
                },
            }
        ]
    }
    wheels = pyz.wheels_of(report)
    assert wheels == {"trio": {"version": "0.35.0", "file": "trio-0.35.0-py3-none-any.whl", "sha256": "ab"}}


def test_sums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    sums.write(tmp_path, "b", "a", "not-there")
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["a", "b"]
    assert lines[0].startswith(hashlib.sha256(b"1").hexdigest())
    assert all(re.fullmatch(r"[0-9a-f]{64}  [ab]", line) for line in lines)
