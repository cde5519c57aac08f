"""The rule files against lists of questions in two languages, and against answers."""

from pathlib import Path

import pytest

from services.cache.rules import Rules

LISTS = Path(__file__).parent / "questions"
RULES = Rules.load()


def read(name: str) -> list[str]:
    return (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def caught(questions: list[str], rules: Rules = RULES) -> list[str]:
    return [question for question in questions if rules.time_dependent(question)]


@pytest.mark.parametrize("name", ["time_dependent", "harmless"])
def test_the_lists_are_long_enough_and_without_repetition(name: str) -> None:
    questions = read(name)
    assert len(questions) >= 100
    assert len(set(questions)) == len(questions)


def test_every_time_dependent_question_is_recognised() -> None:
    questions = read("time_dependent")
    assert caught(questions) == questions


def test_no_harmless_question_is_taken_for_one() -> None:
    assert caught(read("harmless")) == []


@pytest.mark.parametrize(("language", "missed_at_least"), [("en", 60), ("pt", 40)])
def test_control_without_one_languages_rules_its_questions_are_missed(
    language: str, missed_at_least: int, tmp_path: Path
) -> None:
    """What the test above would say if a rule file were lost."""
    source = Path(__file__).parents[3] / "services" / "cache" / "rules"
    for file in source.glob("*.toml"):
        text = file.read_text(encoding="utf-8")
        if file.name == "questions.toml":
            rules = text.split("[[rule]]")
            text = "[[rule]]".join([rules[0], *(one for one in rules[1:] if f'language = "{language}"' not in one)])
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    questions = read("time_dependent")
    assert len(questions) - len(caught(questions, Rules.load(tmp_path))) >= missed_at_least


@pytest.mark.parametrize(
    "text", ["qual a cotacao do dolar", "QUE HORAS SAO?", "What’s today’s date?", "  what   TIME is it ??"]
)
def test_writing_does_not_matter(text: str) -> None:
    assert RULES.time_dependent(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "As an AI language model, I do not have opinions.",
        "Unfortunately, I don't have access to that information.",
        "Desculpe, mas não posso ajudar com isso.",
        "Infelizmente não tenho acesso a essas informações.",
        "Como um modelo de linguagem, não tenho opiniões.",
    ],
)
def test_refusals_are_recognised(text: str) -> None:
    assert RULES.refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "The capital of Brazil is Brasília.",
        "A capital do Brasil é Brasília.",
        "Penguins cannot fly because their wings became flippers.",
        "Não há vida conhecida em Marte.",
        "The word sorry comes from Old English.",
    ],
)
def test_plain_answers_are_no_refusals(text: str) -> None:
    assert not RULES.refusal(text)
    assert not RULES.dated(text)


@pytest.mark.parametrize(
    "text",
    [
        "As of my last update, the CEO is Jane Doe.",
        "As of today, the price is 5 dollars.",
        "Até o momento, ninguém sabe.",
        "Na data de hoje o valor é 10.",
    ],
)
def test_answers_that_date_themselves_are_recognised(text: str) -> None:
    assert RULES.dated(text)


@pytest.mark.parametrize(
    "content", ["", "[[rule]]\nlanguage = 'en'\n", "[[rule]]\nlanguage='en'\nwhy='x'\npattern='('\n"]
)
def test_a_rule_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: str) -> None:
    for name in ("questions.toml", "answers.toml", "refusals.toml"):
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"questions\.toml cannot be used"):
        Rules.load(tmp_path)
