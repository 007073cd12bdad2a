"""Names in a merged catalogue."""

import hashlib
import re

import pytest

from edge.proto.naming import Naming, assign


def names(pairs: list[tuple[str, str]], naming: Naming) -> list[str | None]:
    return [named.name if named else None for named in assign(pairs, naming)[0]]


def digest(server: str, name: str) -> str:
    return hashlib.sha256(f"{server}\0{name}".encode()).hexdigest()[:8]


PAIRS = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "z")]


async def test_always_puts_the_server_before_every_name() -> None:
    assert names(PAIRS, Naming()) == ["a__x", "a__y", "b__x", "b__z"]
    assert names(PAIRS, Naming(separator=".")) == ["a.x", "a.y", "b.x", "b.z"]


async def test_on_collision_puts_it_before_names_that_several_servers_have() -> None:
    given, problems = assign(PAIRS, Naming(prefix="on-collision"))
    assert [(named.name, named.is_prefixed) for named in given if named] == [
        ("a__x", True),
        ("y", False),
        ("b__x", True),
        ("z", False),
    ]
    assert problems == []


async def test_never_gives_the_name_to_the_first_server_and_reports_the_others() -> None:
    given, problems = assign(PAIRS, Naming(prefix="never"))
    assert [named.name if named else None for named in given] == ["x", "y", None, "z"]
    assert problems == ["'x' of b is hidden by the one of a"]


@pytest.mark.parametrize("prefix", ["always", "on-collision", "never"])
async def test_of_a_server_with_a_name_twice_the_first_one_counts(prefix: str) -> None:
    given, problems = assign([("a", "x"), ("a", "x")], Naming(prefix=prefix))  # type: ignore[arg-type]  # parametrized
    assert given[0] is not None
    assert given[0].is_prefixed is (prefix == "always")
    assert given[1] is None
    assert problems == ["'x' of a comes twice; the first one counts"]


async def test_a_name_that_is_too_long_ends_in_a_hash_of_whose_it_is() -> None:
    fits, long = "n" * 61, "n" * 62
    assert names([("a", fits), ("a", long)], Naming()) == [f"a__{fits}", f"a__{'n' * 52}_{digest('a', long)}"]
    assert len(names([("a", long)], Naming())[0] or "") == 64


@pytest.mark.parametrize("name", ["read file", "naïve", "a/b", "x\n", "漢字"])
async def test_characters_that_clients_refuse_are_replaced(name: str) -> None:
    (published,) = names([("a", name)], Naming())
    assert published == f"a__{re.sub('[^A-Za-z0-9_.-]', '_', name)}_{digest('a', name)}"


async def test_a_shortened_name_does_not_depend_on_what_else_there_is() -> None:
    long = "n" * 100
    assert names([("a", "z" * 99), ("b", "x"), ("a", long)], Naming())[2] == names([("a", long)], Naming())[0]


async def test_a_shortened_name_never_takes_one_that_needs_no_change() -> None:
    made_up = f"n_{digest('a', 'n ')}"[: 3 + 9]
    shortened = names([("a", "n ")], Naming(prefix="never"))[0]
    assert shortened is not None
    given, problems = assign([("a", "n "), ("b", shortened)], Naming(prefix="never"))
    assert given[1] is not None
    assert given[1].name == shortened
    assert given[0] is not None
    assert given[0].name.startswith("n__")
    assert given[0].name not in (shortened, made_up)
    assert problems == []


async def test_two_names_that_would_be_the_same_are_told_apart_and_reported() -> None:
    given, problems = assign([("a", "b__c"), ("a__b", "c")], Naming())
    assert [named.name for named in given if named] == ["a__b__c", f"a__b__c_{digest('a__b', 'c')}"]
    assert problems == ["'c' of a__b and 'b__c' of a would both be 'a__b__c'; the former gets a hash"]


async def test_a_limit_that_leaves_no_room_for_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="max_name_chars must be at least 16"):
        Naming(max_name_chars=15)
