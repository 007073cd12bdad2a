"""The README's examples are configs that load."""

import re
from pathlib import Path

from edge.config.load import load

README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_example_configs_load_one_after_the_other() -> None:
    servers, uplink = re.findall(r"^```toml\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    config = load(f"{servers}\n{uplink}", env={}, read_secret=lambda path: "secret", source="README.md")
    assert set(config.servers) == {"git", "plc"}
    assert set(config.uplinks) == {"hq"}
