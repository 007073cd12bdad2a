"""Secrets do not show, placeholders are replaced, and where a secret comes from."""

import copy
from collections.abc import Callable

import pytest

from edge.config.secrets import Expanded, Secret, SecretRef, as_written, expand, fetch_secret, inserted_into


def no_file(path: str) -> str:
    raise AssertionError(f"{path} was read")


def file_with(text: str) -> Callable[[str], str]:
    return lambda path: text


def test_a_secret_is_only_seen_where_it_is_revealed() -> None:
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert (repr(secret), str(secret), f"{secret}", f"{[secret]}") == ("***", "***", "***", "[***]")


def test_secrets_are_compared_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_placeholders_are_replaced_and_the_text_shows_as_it_was_written() -> None:
    text = expand("Bearer ${TOKEN}-${X}", {"TOKEN": "hunter2", "X": "y"})
    assert text == "Bearer hunter2-y"
    assert text.encode() == b"Bearer hunter2-y"
    assert repr(text) == "'Bearer ${TOKEN}-${X}'"
    assert as_written(text) == "Bearer ${TOKEN}-${X}"
    assert inserted_into([text, "plain"]) == {"hunter2", "y"}


@pytest.mark.parametrize(
    ("text", "value"), [("a$b", "a$b"), ("$$", "$"), ("$${A}", "${A}"), ("$", "$"), ("5$ 5", "5$ 5")]
)
def test_a_dollar_without_a_placeholder(text: str, value: str) -> None:
    got = expand(text, {"A": "x"})
    assert got == value
    assert not isinstance(got, Expanded)
    assert as_written(got) == value


def test_values_are_not_looked_into_again() -> None:
    assert expand("${A}", {"A": "${B} $$", "B": "x"}) == "${B} $$"


def test_all_variables_that_are_missing_or_empty_are_named_once() -> None:
    with pytest.raises(ValueError) as caught:
        expand("${A} ${B} ${A} ${", {"B": ""})
    assert str(caught.value) == (
        "environment variable A is not set; environment variable B is empty;"
        " a placeholder is written ${NAME}; a plain ${ is written $${"
    )


@pytest.mark.parametrize("text", ["${}", "${a b}", "${1}", "${A", "x${"])
def test_what_only_looks_like_a_placeholder_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a placeholder is written \$\{NAME\}"):
        expand(text, {"A": "x", "1": "x"})


def test_a_copy_of_expanded_text_still_hides_it() -> None:
    text = copy.deepcopy(expand("${A}", {"A": "hunter2"}))
    assert (text, repr(text)) == ("hunter2", "'${A}'")
    assert repr(Expanded("hunter2")) == "'***'"


def test_a_secret_from_the_environment() -> None:
    assert fetch_secret("env", "TOKEN", {"TOKEN": "a b"}, no_file) == Secret("a b")


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("TOKEN", "environment variable TOKEN is not set"),
        ("EMPTY", "environment variable EMPTY is empty"),
        ("ghp_abc123", "the variable it names is not set"),
    ],
)
def test_a_variable_that_is_missing_or_empty_is_named_unless_it_may_be_the_secret_itself(
    where: str, text: str
) -> None:
    with pytest.raises(ValueError) as caught:
        fetch_secret("env", where, {"EMPTY": ""}, no_file)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("text", "value"), [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")]
)
def test_a_file_gives_its_text_without_its_last_line_end(text: str, value: str) -> None:
    assert fetch_secret("file", "/x", {}, file_with(text)) == Secret(value)


@pytest.mark.parametrize("text", ["", "\n", "\r\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^/x is empty$"):
        fetch_secret("file", "/x", {}, file_with(text))


def test_a_file_that_cannot_be_read_is_named_with_the_reason() -> None:
    def refused(path: str) -> str:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ValueError, match=r"^cannot read /x: Permission denied$"):
        fetch_secret("file", "/x", {}, refused)


def test_an_error_of_the_system_without_words_is_named_by_its_type() -> None:
    def refused(path: str) -> str:
        raise OSError

    with pytest.raises(ValueError, match=r"^cannot read /x: OSError$"):
        fetch_secret("file", "/x", {}, refused)


def test_a_file_that_is_no_text_is_refused_without_showing_any_of_it() -> None:
    def binary(path: str) -> str:
        return b"hunter2\xff".decode()

    with pytest.raises(ValueError) as caught:
        fetch_secret("file", "/x", {}, binary)
    assert str(caught.value) == "cannot read /x: it is not a short UTF-8 text file"
    assert caught.value.__suppress_context__


def test_a_credential_is_a_file_in_the_directory_of_systemd() -> None:
    paths: list[str] = []

    def read(path: str) -> str:
        paths.append(path)
        return "hunter2\n"

    assert fetch_secret("credential", "hq", {"CREDENTIALS_DIRECTORY": "/run/c"}, read) == Secret("hunter2")
    assert paths == ["/run/c/hq"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd"])
def test_a_credential_is_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="without a slash"):
        fetch_secret("credential", name, {"CREDENTIALS_DIRECTORY": "/run/c"}, no_file)


def test_a_credential_needs_systemds_directory() -> None:
    with pytest.raises(ValueError, match=r"\$CREDENTIALS_DIRECTORY, which is not set"):
        fetch_secret("credential", "hq", {}, no_file)


def test_a_reference_gives_the_secret_as_it_is_now_and_shows_nothing() -> None:
    env = {"TOKEN": "old"}
    reference = SecretRef("env", "TOKEN")
    assert reference.read(env, read_secret=str) == Secret("old")
    env["TOKEN"] = "new"
    assert reference.read(env, read_secret=str) == Secret("new")
    assert "TOKEN" not in repr(reference)
    assert (reference == SecretRef("env", "TOKEN"), reference == SecretRef("file", "TOKEN")) == (True, False)


def test_a_reference_to_what_is_gone_says_so() -> None:
    with pytest.raises(ValueError, match="environment variable TOKEN is not set"):
        SecretRef("env", "TOKEN").read({}, read_secret=str)
