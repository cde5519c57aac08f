"""No two different questions share a key, whatever is moved between their fields."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.canonical import canonical
from services.cache.keys import Asked, Scope, key_of

ASKED = Asked("tenant", "person", Scope.TENANT, "What is the capital of Brazil?", 1, "Be brief.", 100, 0.5, "en")
SECRET = b"0123456789abcdef"


def key(asked: Asked) -> bytes:
    return key_of(SECRET, asked)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "tenant2"},
        {"scope": Scope.PERSON},
        {"scope": Scope.PUBLIC},
        {"text": "What is the capital of France?"},
        {"mode": 2},
        {"system_instruction": "be brief."},
        {"max_output_tokens": 101},
        {"temperature": 0.0},
        {"temperature": None},
        {"language": "pt"},
        {"other": b"thinking"},
    ],
)
def test_everything_an_answer_depends_on_changes_the_key(change: dict[str, object]) -> None:
    assert key(replace(ASKED, **change)) != key(ASKED)  # type: ignore[arg-type]


def test_colleagues_share_a_tenants_entry_and_not_a_persons() -> None:
    colleague = replace(ASKED, person="colleague")
    assert key(colleague) == key(ASKED)
    assert key(replace(colleague, scope=Scope.PERSON)) != key(replace(ASKED, scope=Scope.PERSON))


def test_public_entries_are_the_same_for_all_tenants() -> None:
    public = replace(ASKED, scope=Scope.PUBLIC)
    assert key(public) == key(replace(public, tenant="another", person=""))


def test_no_temperature_is_not_zero() -> None:
    assert key(replace(ASKED, temperature=None)) != key(replace(ASKED, temperature=0.0))


def test_another_secret_gives_other_keys() -> None:
    assert key_of(b"fedcba9876543210", ASKED) != key(ASKED)


small = st.text(alphabet="ab", max_size=3)


@given(st.lists(small, min_size=8, max_size=8))
def test_text_moved_between_fields_is_another_question(texts: list[str]) -> None:
    """Fields are length-prefixed: with plain concatenation many of these pairs would collide."""
    one = Asked(texts[0], texts[1], Scope.PERSON, texts[2] + ".x", 1, texts[3], 0, None, "")
    other = Asked(texts[4], texts[5], Scope.PERSON, texts[6] + ".x", 1, texts[7], 0, None, "")
    same = [one.tenant, one.person, canonical(one.text), one.system_instruction] == [
        other.tenant,
        other.person,
        canonical(other.text),
        other.system_instruction,
    ]
    assert (key(one) == key(other)) is same
