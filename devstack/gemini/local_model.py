"""The local backend: answers of a real, very small model, SmolLM2-135M-Instruct, for people to try the system with.

Both tiers are the same 135 million weights; only the work differs.

- The junior (model names with "lite") makes one greedy pass and stays short: it ends at the first sentence after 48
  tokens.
- The senior (all others) drafts the opening sentence five times, once greedily and four times with temperature, keeps
  the draft that most others agree with, and writes on from it, up to three times as long. The tokens of the drafts it
  threw away are reported as thought tokens, which is what they are.

So the senior is steadier and about four times slower (median 1.1 s against 0.3 s for a short question on one thread),
but hardly wiser (38 against 36 of 64 questions): what the weights do not hold neither tier knows. Images, tools,
temperature and thinking budgets of the caller are accepted and have no effect.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from devstack.gemini import confidence, drafts, prompt, schema_output
from devstack.gemini.ask import CONFIDENCE_MARK, Ask, Turn
from devstack.gemini.backend import Piece, Usage
from devstack.gemini.catalogue import is_junior
from devstack.gemini.drafts import Draft
from devstack.gemini.engine import Engine, Token
from devstack.gemini.render import text_part
from devstack.gemini.schema_output import FREE_OBJECT, TextObject

JUNIOR_TOKENS = 48
SENIOR_TOKENS = 144
# An answer ends at the first sentence after its tokens, at the latest at this multiple of them.
HARD_FACTOR = 3
JSON_TOKENS = 320

DRAFTS = 5
DRAFT_TEMPERATURE = 0.7

# The library's words -> Google's.
FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS"}

_SENTENCE_MARKS = (".", "!", "?", '."', '!"', '?"')


class LocalBackend:
    """Answers with the engine; see the module for how the tiers differ."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def load(cls, *, threads: int, parallel: int) -> "LocalBackend":
        """Loads the model; see ``Engine.load``."""
        return cls(Engine.load(threads=threads, parallel=parallel))

    async def close(self) -> None:
        """Waits for running generations."""
        await self._engine.close()

    async def complete(self, ask: Ask) -> list[Piece]:
        """The whole answer, one piece for each candidate."""
        texts = [""] * ask.candidates
        last: list[Piece | None] = [None] * ask.candidates
        async with aclosing(self._said(ask)) as said:
            async for index, text, usage, finish in said:
                texts[index] += text
                last[index] = Piece(b"", usage, finish, index)
        pieces = [piece for piece in last if piece is not None]
        for piece in pieces:
            piece.parts = text_part(texts[piece.index])
            piece.tokens = piece.usage.candidates
        return pieces

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece]:
        """Token by token."""
        async with aclosing(self._said(ask)) as said:
            async for index, text, usage, finish in said:
                yield Piece(text_part(text), usage, finish, index)

    async def _said(self, ask: Ask) -> AsyncGenerator[tuple[int, str, Usage, str | None]]:
        """(candidate, text, cumulative usage, finish reason) for each token."""
        turns = _to_last_question(ask.turns)
        for index in range(ask.candidates):
            usage = Usage(ask.prompt_tokens)
            shape = TextObject.of(ask.schema)
            if not ask.wants_json:
                answer = self._text(ask, turns, usage, index, judged=ask.wants_confidence)
            elif shape is not None:
                answer = _in_json(shape, self._text(ask, turns, usage, index, judged=True))
            else:
                answer = self._json(ask, turns, usage, index)
            async with aclosing(answer) as tokens:
                async for text, finish in tokens:
                    yield index, text, Usage(usage.prompt, usage.candidates, usage.thoughts), finish

    async def _text(
        self, ask: Ask, turns: list[Turn], usage: Usage, index: int, *, judged: bool
    ) -> AsyncGenerator[tuple[str, str | None]]:
        """The answer's text; where it is ``judged``, the confidence prefix comes first."""
        junior = is_junior(ask.model)
        budget = _Budget(JUNIOR_TOKENS if junior else SENIOR_TOKENS, ask.config.get("maxOutputTokens"))
        opening = None if junior else await self._opening(ask, turns, usage, index, budget.hard)
        text = ""
        ready: list[Token] = []
        async with aclosing(self._written(ask, turns, index, opening, budget.hard)) as tokens:
            async for token in tokens:
                ready.append(token)
                if judged:
                    if not confidence.opening_is_whole(ready):
                        continue
                    figure = confidence.of_tokens(ready)
                    yield _prefix(figure if opening is None else round((figure + 100 * opening.agreement) / 2)), None
                    judged = False
                for one in ready:
                    if budget.over(text, one.text):
                        yield "", budget.reason
                        return
                    text += one.text
                    budget.used += 1
                    usage.candidates += 1
                    yield one.text, one.finish and FINISH_REASONS[one.finish]
                ready.clear()

    async def _written(
        self, ask: Ask, turns: list[Turn], index: int, opening: "_Opening | None", limit: int
    ) -> AsyncGenerator[Token]:
        """The opening's tokens, if there is one, and those that follow; the last one says why it is the last."""
        begun = opening.tokens if opening is not None else ()
        for token in begun:
            yield token
        if len(begun) >= limit or (begun and begun[-1].finish is not None):
            return
        rendered = prompt.render(turns, begin="".join(token.text for token in begun))
        options = self._options(ask, index if opening is None else 0)
        async with aclosing(self._engine.generate(rendered, max_tokens=limit - len(begun), **options)) as tokens:
            async for token in tokens:
                yield token

    async def _opening(self, ask: Ask, turns: list[Turn], usage: Usage, index: int, limit: int) -> "_Opening":
        """The draft that most others agree with; those thrown away are booked as thoughts."""
        rendered = prompt.render(turns)
        length = min(limit, confidence.OPENING_TOKENS)

        async def draft(number: int) -> Draft:
            options = self._options(ask, 0)
            if number:
                options |= {"temperature": DRAFT_TEMPERATURE, "seed": index * DRAFTS + number}
            tokens: list[Token] = []
            async with aclosing(self._engine.generate(rendered, max_tokens=length, **options)) as made:
                async for token in made:
                    tokens.append(token)
                    if confidence.opening_is_whole(tokens):
                        break
            return Draft(tuple(tokens))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(draft(number)) for number in range(DRAFTS)]
        made = [task.result() for task in tasks]
        chosen, agreement = drafts.choose(turns[-1].text, made)
        usage.thoughts += sum(len(one.tokens) for one in made) - len(chosen.tokens)
        tokens = chosen.tokens
        if tokens and tokens[-1].finish == "length" and len(tokens) < limit:
            # That was the draft's limit; the answer goes on.
            tokens = (*tokens[:-1], Token(tokens[-1].text, tokens[-1].logprob))
        return _Opening(tokens, agreement)

    async def _json(
        self, ask: Ask, turns: list[Turn], usage: Usage, index: int
    ) -> AsyncGenerator[tuple[str, str | None]]:
        """An object that fits the schema, in one piece: its confidence is known only at its end."""
        schema = ask.schema or FREE_OBJECT
        filled = schema_output.has_confidence(schema)
        wanted = schema_output.json_schema(schema_output.without_confidence(schema) if filled else schema)
        limit = min(JSON_TOKENS, ask.config.get("maxOutputTokens") or JSON_TOKENS)
        options = self._options(ask, index) | {"json_schema": wanted}
        async with aclosing(self._engine.generate(prompt.render(turns), max_tokens=limit, **options)) as made:
            tokens = [token async for token in made]
        usage.candidates += len(tokens)
        text = "".join(token.text for token in tokens)
        if filled:
            text = schema_output.with_confidence(schema, text, confidence.of_tokens(tokens))
        cut = bool(tokens) and tokens[-1].finish == "length"
        yield text, "MAX_TOKENS" if cut else "STOP"

    def _options(self, ask: Ask, index: int) -> dict[str, Any]:
        """Greedy for the first candidate, sampled for further ones."""
        options: dict[str, Any] = {"temperature": DRAFT_TEMPERATURE if index else 0.0}
        if index:
            options["seed"] = index
        if ask.config.get("stopSequences"):
            options["stop"] = ask.config["stopSequences"]
        return options


@dataclass(frozen=True, slots=True)
class _Opening:
    """The senior's chosen first sentence, and how far (0..1) its drafts agreed."""

    tokens: tuple[Token, ...]
    agreement: float


class _Budget:
    """How long an answer may get: the caller's limit is hard, the tier's ends at a sentence."""

    def __init__(self, soft: int, callers: int | None) -> None:
        self.soft = soft
        self.hard = min(soft * HARD_FACTOR, callers) if callers else soft * HARD_FACTOR
        self.used = 0
        self.reason = "STOP"

    def over(self, text: str, following: str) -> bool:
        """True when the answer ends before ``following``; ``reason`` then says why."""
        if self.used >= self.hard:
            self.reason = "MAX_TOKENS"
            return True
        whole = text.rstrip().endswith(_SENTENCE_MARKS) and (not following or following[0].isspace())
        return self.used >= self.soft and whole


async def _in_json(
    shape: TextObject, answer: AsyncGenerator[tuple[str, str | None]]
) -> AsyncGenerator[tuple[str, str | None]]:
    """Wraps a judged text as the only text property of a JSON object, streaming."""
    figure: int | None = None
    async with aclosing(answer) as tokens:
        async for text, finish in tokens:
            if figure is None:
                figure = int(text.removeprefix(CONFIDENCE_MARK).partition("]")[0])
                said = shape.begin(figure)
            else:
                said = json.dumps(text, ensure_ascii=False)[1:-1]
            if finish == "STOP":
                said += shape.end(figure)
            yield said, finish


def _prefix(figure: int) -> str:
    return f"{CONFIDENCE_MARK}{figure}]]\n"


def _to_last_question(turns: list[Turn]) -> list[Turn]:
    """The turns up to the last that asks something; a greeting if none does."""
    for end in range(len(turns), 0, -1):
        if turns[end - 1].role == "user" and turns[end - 1].text.strip():
            return turns[:end]
    return [Turn("user", "Hello!")]
