import pytest

from services.session import email_address


@pytest.mark.parametrize(
    ("typed", "text", "key"),
    [
        ("ada@example.org", "ada@example.org", "ada@example.org"),
        ("  Ada.Lovelace@Example.ORG\n", "Ada.Lovelace@Example.ORG", "ada.lovelace@example.org"),
        ("ada+news@localhost", "ada+news@localhost", "ada+news@localhost"),
        ("o'neil@sub.example.co", "o'neil@sub.example.co", "o'neil@sub.example.co"),
        ("josé@éxample.fr", "josé@éxample.fr", "josé@éxample.fr"),
        ("jose\u0301@example.fr", "jos\u00e9@example.fr", "jos\u00e9@example.fr"),
        ("JOSÉ@EXAMPLE.FR", "JOSÉ@EXAMPLE.FR", "josé@example.fr"),
    ],
)
def test_addresses_are_compared_without_blanks_case_and_composition(typed: str, text: str, key: str) -> None:
    assert email_address.parse(typed) == email_address.EmailAddress(text, key)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "ada",
        "@example.org",
        "ada@",
        "ada@@example.org",
        "ada@b@example.org",
        "a da@example.org",
        "ada@exa mple.org",
        ".ada@example.org",
        "ada..b@example.org",
        "ada@example..org",
        "ada@.org",
        "ada@-example.org",
        "ada@example-.org",
        "ada@exam_ple,org",
        '"ada"@example.org',
        "Ada <ada@example.org>",
        "ada\x00@example.org",
        "ada\u200b@example.org",
        "ada\u202e@example.org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 64 + ".org",
        "a@" + ".".join(["b" * 60] * 5),
    ],
)
def test_what_can_be_no_address_is_none(typed: str) -> None:
    assert email_address.parse(typed) is None


def test_the_longest_address_has_254_characters() -> None:
    domain = ".".join(["b" * 60] * 3)
    longest = "a" * 64 + "@" + domain + "." + "c" * (254 - 65 - len(domain) - 1 - 3) + ".de"
    assert len(longest) == 254
    assert email_address.parse(longest)
    assert email_address.parse("x" + longest[1:-3] + "c.de") is None
