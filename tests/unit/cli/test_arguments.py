"""The argument tree."""

import pytest

from edge.cli.arguments import COMMANDS, UsageError, build_parser, parse_arguments


def test_run_takes_a_config_and_how_to_log() -> None:
    args = parse_arguments(["run", "-c", "x.toml", "--log-level", "debug", "--log-format", "json"])
    assert (args.command, args.config, args.log_level, args.log_format) == ("run", "x.toml", "debug", "json")


def test_options_that_are_left_out_are_none_or_their_default() -> None:
    run = parse_arguments(["run"])
    assert (run.config, run.log_level, run.log_format) == (None, None, None)
    health = parse_arguments(["health"])
    assert (health.url, health.json, health.timeout_s) == (None, False, 5.0)
    assert parse_arguments(["health", "--timeout-s", "2.5"]).timeout_s == 2.5
    init = parse_arguments(["init"])
    assert (init.output, init.force) == (None, False)
    assert parse_arguments(["help"]).topic is None
    assert parse_arguments(["validate"]).json is False


def test_version_is_an_option_and_a_command() -> None:
    assert parse_arguments(["--version"]).command == "version"
    assert parse_arguments(["--version"]).json is False
    assert parse_arguments(["version", "--json"]).json is True


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "a command is missing"),
        (["runn"], "there is no command runn; did you mean run?"),
        (["xyz"], "there is no command xyz$"),
        (["run", "--confg", "x"], "unrecognized arguments"),
        (["run", "-c"], "expected one argument"),
        (["run", "extra"], "unrecognized arguments: extra"),
        (["run", "--log-level", "loud"], "invalid choice"),
        (["run", "--log-f", "json"], "unrecognized arguments"),
        (["health", "--timeout-s", "soon"], "invalid seconds value"),
        (["health", "--timeout-s", "0"], "invalid seconds value"),
        (["health", "--timeout-s", "inf"], "invalid seconds value"),
        (["--nothing"], "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line_is_a_sentence_and_the_usage(argv: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_arguments(argv)
    assert caught.value.usage.startswith("usage: mcp-edge")


def test_the_built_in_server_can_be_run_and_is_not_advertised() -> None:
    assert parse_arguments(["host-server"]).command == "host-server"
    shown = build_parser().format_help()
    assert "host-server" not in shown
    for command in COMMANDS:
        assert f"\n    {command} " in shown


@pytest.mark.parametrize(
    ("argv", "hint", "usage"),
    [
        (["validate", "foo.toml"], "arguments: foo.toml; did you mean -c foo.toml?", "mcp-edge validate"),
        (["run", "./foo"], "arguments: ./foo; did you mean -c ./foo?", "mcp-edge run"),
        (["init", "foo.toml"], "arguments: foo.toml; did you mean -o foo.toml?", "mcp-edge init"),
        (["run", "-c", "a.toml", "b.toml"], "arguments: b.toml", "mcp-edge run"),
        (["run", "extra"], "arguments: extra", "mcp-edge run"),
        (["run", "--confg", "x"], "arguments: --confg x; did you mean --config?", "mcp-edge run"),
        (["validate", "--jsn=1"], "arguments: --jsn=1; did you mean --json?", "mcp-edge validate"),
        (["health", "--zzz"], "arguments: --zzz", "mcp-edge health"),
        (["--versio"], "arguments: --versio; did you mean --version?", "mcp-edge [-h]"),
    ],
)
def test_what_a_command_does_not_take_leads_to_what_it_takes(argv: list[str], hint: str, usage: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arguments(argv)
    assert str(caught.value) == f"unrecognized {hint}"
    assert caught.value.usage.startswith(f"usage: {usage}")
