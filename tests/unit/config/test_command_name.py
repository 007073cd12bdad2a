"""What a server is called after its command: as a person would, and never by what may be a secret."""

import pytest

from edge.config.command_name import name_of_command


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("uvx mcp-server-git", "mcp-server-git"),
        ("npx -y @scope/server@1.2", "server"),
        ("python3.11 -m my_server", "my_server"),
        ("python -u my_server.py", "my_server"),
        ("/opt/bin/serve.py --port 1", "serve"),
        ("python", "server"),
        ("", "server"),
    ],
)
def test_a_server_is_called_as_a_person_would(command: str, name: str) -> None:
    assert name_of_command(command.split()) == name


@pytest.mark.parametrize(
    "command",
    [
        "env GITHUB_TOKEN=ghp_abcdef123456 npx -y mcp-x",
        "/usr/bin/env API_KEY=hunter2 uvx mcp-x",
        "env -i -u hunter2 -C /hunter2 PASSWORD=hunter2 mcp-x",
        "API_KEY=hunter2 mcp-x",
        "uvx --index-url https://user:hunter2@host/hunter2 mcp-x",
        "npx --registry=https://host/?token=hunter2 mcp-x",
    ],
)
def test_what_is_no_program_is_skipped(command: str) -> None:
    assert name_of_command(command.split()) == "mcp-x"


@pytest.mark.parametrize(
    "command",
    ["env ghp_abcdef123456", "run /x/0123456789abcdef0123456789abcdef", "sk-abcdefgh12345678", "env -S A=1"],
)
def test_what_looks_like_a_token_is_no_name(command: str) -> None:
    assert name_of_command(command.split()) == "server"
