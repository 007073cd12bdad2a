"""The README's example is a config that loads."""

import re
from pathlib import Path

from edge.config.load import load

README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_example_config_loads() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    config = load(example, env={}, read_secret=lambda path: "secret", source="README.md")
    assert set(config.servers) == {"git", "plc"}
