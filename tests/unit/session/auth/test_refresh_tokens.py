import pytest

from services.session import refresh_tokens


def test_a_token_reads_back_as_itself() -> None:
    token = refresh_tokens.first()
    assert refresh_tokens.parse(token.text) == token
    assert token.text.startswith("fr_")
    assert len(token.text) == 67


def test_a_salt_gives_one_successor_of_the_same_family() -> None:
    token, salt = refresh_tokens.first(), refresh_tokens.salt()
    successor = token.successor(salt)
    assert successor == token.successor(salt)
    assert successor.family == token.family
    assert len(successor.secret) == 32
    others = {token, successor, token.successor(refresh_tokens.salt()), successor.successor(salt)}
    assert len({other.digest for other in others}) == 4


@pytest.mark.parametrize(
    "text",
    ["", "fr_", "fr_" + "A" * 63, "fr_" + "A" * 65, "fk_" + "A" * 64, "fr_" + "A" * 63 + "=", "fr_" + "Ä" * 64],
)
def test_what_is_no_token_of_ours_is_none(text: str) -> None:
    assert refresh_tokens.parse(text) is None
