"""The scripted backend: deterministic answers, rendered once and sent often.

An answer whose text has no placeholders is encoded when it is first given and then reused as bytes. There is no model
behind it, so its speed and its token counts say nothing about one.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from devstack.gemini import tokens
from devstack.gemini.ask import CONFIDENCE_MARK, Ask
from devstack.gemini.backend import Piece, Usage
from devstack.gemini.render import text_part
from devstack.gemini.schema_output import instance
from devstack.gemini.script import DEFAULT_RULES, Rule, Script

ECHO_CHARACTERS = 2000
CHUNK_WORDS = 6

_STEER = re.compile(r"confidence=(\d{1,3})")
_WORDS = re.compile(r"\S+\s*")
_PLACEHOLDER = re.compile(r"\{(last|first|turns|history|digest|model|calls)\}")


@dataclass(slots=True)
class Rendered:
    """An answer as bytes: whole, and in chunks with their token counts."""

    whole: bytes
    whole_tokens: int
    chunks: list[tuple[bytes, int]]


class _Answering:
    """A rule at work: its compiled pattern, its count of answers and its rendered texts."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.pattern = re.compile(rule.match) if rule.match else None
        self.any_model = rule.model == "*"
        self.calls = 0
        source = rule.text if rule.chunks is None else "".join(rule.chunks)
        self.fixed = source is not None and _PLACEHOLDER.search(source) is None
        self.rendered: dict[str, Rendered] = {}

    def fits(self, ask: Ask, last: str) -> bool:
        rule = self.rule
        if rule.times is not None and self.calls >= rule.times:
            return False
        if not self.any_model and not fnmatchcase(ask.model, rule.model):
            return False
        return self.pattern is None or self.pattern.search(last) is not None


class ScriptedBackend:
    """Answers by script; see ``Rule``."""

    def __init__(self, script: Script | None = None) -> None:
        self._rules: list[_Answering] = []
        self.load(script or Script())

    def load(self, script: Script, *, append: bool = False) -> None:
        """Puts a script in force, in front of the present one or in its place. Counts of replaced rules are lost."""
        previous = self._rules[: -len(DEFAULT_RULES)] if append else []
        fresh = [_Answering(rule) for rule in script.rules]
        self._rules = fresh + previous + [_Answering(rule) for rule in DEFAULT_RULES]

    async def complete(self, ask: Ask) -> list[Piece]:
        """The whole answer after the rule's delay."""
        answering = self._choose(ask)
        rule = answering.rule
        if rule.delay_seconds or rule.chunk_delay_seconds:
            await asyncio.sleep(rule.delay_seconds)
        rendered = self._render(answering, ask)
        usage = self._usage(rule, ask, rendered.whole_tokens)
        return [
            Piece(rendered.whole, usage, rule.finish_reason, index, rendered.whole_tokens)
            for index in range(ask.candidates)
        ]

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece]:
        """Chunk by chunk, at times fixed from the start so that delays do not add up."""
        answering = self._choose(ask)
        rule = answering.rule
        rendered = self._render(answering, ask)
        usage = self._usage(rule, ask, rendered.whole_tokens)
        loop = asyncio.get_running_loop()
        due = loop.time() + rule.delay_seconds
        for candidate in range(ask.candidates):
            sent = 0
            last = len(rendered.chunks) - 1
            for number, (parts, size) in enumerate(rendered.chunks):
                wait = due - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                due += rule.chunk_delay_seconds
                sent += size
                so_far = usage if number == last else Usage(usage.prompt, sent, usage.thoughts, usage.cached)
                yield Piece(parts, so_far, rule.finish_reason if number == last else None, candidate, size)

    async def close(self) -> None:
        """Nothing to free."""

    def _choose(self, ask: Ask) -> _Answering:
        last = ask.last_text
        answering = next(one for one in self._rules if one.fits(ask, last))
        answering.calls += 1
        return answering

    def _usage(self, rule: Rule, ask: Ask, size: int) -> Usage:
        given = rule.usage
        return Usage(
            ask.prompt_tokens if given.prompt is None else given.prompt,
            size if given.candidates is None else given.candidates,
            given.thoughts or 0,
            given.cached or 0,
        )

    def _render(self, answering: _Answering, ask: Ask) -> Rendered:
        rule = answering.rule
        wants_json = ask.wants_json and rule.text is None and rule.chunks is None
        prefix = "" if ask.wants_json else self._prefix(answering, ask)
        if not answering.fixed or wants_json or answering.rule.thoughts:
            return self._encode(answering, ask, prefix)
        rendered = answering.rendered.get(prefix)
        if rendered is None:
            rendered = answering.rendered[prefix] = self._encode(answering, ask, prefix)
        return rendered

    def _encode(self, answering: _Answering, ask: Ask, prefix: str) -> Rendered:
        rule = answering.rule
        if rule.function_call is not None:
            call = json.dumps([{"functionCall": rule.function_call.model_dump()}], ensure_ascii=False).encode()
            size = tokens.estimate(len(call))
            return Rendered(call, size, [(call, size)])
        texts = self._texts(answering, ask, prefix)
        chunks = [(text_part(text), tokens.estimate(len(text))) for text in texts]
        whole = text_part("".join(texts))
        size = sum(one for _, one in chunks)
        if rule.thoughts and ask.include_thoughts:
            thought = json.dumps({"text": rule.thoughts, "thought": True}, ensure_ascii=False).encode()
            chunks.insert(0, (b"[%s]" % thought, 0))
            whole = b"[%s,%s" % (thought, whole[1:])
        return Rendered(whole, size, chunks)

    def _texts(self, answering: _Answering, ask: Ask, prefix: str) -> list[str]:
        rule = answering.rule
        sources = rule.chunks or [rule.text or ""]
        if not answering.fixed:
            values = self._placeholders(answering, ask)
            sources = [_fill(source, values) for source in sources]
        if ask.wants_json and ask.schema is not None and rule is DEFAULT_RULES[-1]:
            figure = self._confidence(answering, ask)
            sources = [json.dumps(instance(ask.schema, sources[0], figure), ensure_ascii=False)]
        if rule.chunk_chars is not None:
            whole = prefix + "".join(sources)
            return [whole[at : at + rule.chunk_chars] for at in range(0, len(whole), rule.chunk_chars)] or [""]
        if rule.chunks is None:
            words = _WORDS.findall(sources[0])
            sources = ["".join(words[at : at + CHUNK_WORDS]) for at in range(0, len(words), CHUNK_WORDS)] or [""]
        return [prefix + sources[0], *sources[1:]] if prefix else sources

    def _prefix(self, answering: _Answering, ask: Ask) -> str:
        if not ask.wants_confidence:
            return ""
        if answering.rule.prefix is not None:
            return answering.rule.prefix
        figure = self._confidence(answering, ask)
        return "" if figure is None else f"{CONFIDENCE_MARK}{figure}]]\n"

    def _confidence(self, answering: _Answering, ask: Ask) -> int | None:
        rule = answering.rule
        if any(rule is one for one in DEFAULT_RULES):
            steered = _STEER.search(ask.last_text)
            if steered is not None:
                return min(100, int(steered[1]))
        if isinstance(rule.confidence, list):
            return rule.confidence[(answering.calls - 1) % len(rule.confidence)]
        if rule.confidence == "random":
            return int(_digest(ask), 16) % 101
        return rule.confidence

    def _placeholders(self, answering: _Answering, ask: Ask) -> dict[str, str]:
        first = next((turn.text for turn in ask.turns if turn.role == "user"), "")
        return {
            "last": ask.last_text[:ECHO_CHARACTERS],
            "first": first[:ECHO_CHARACTERS],
            "turns": str(len(ask.turns)),
            "history": str(len(ask.turns) - 1),
            "digest": _digest(ask),
            "model": ask.model,
            "calls": str(answering.calls),
        }


def _digest(ask: Ask) -> str:
    """Eight hexadecimal digits that depend on the contents alone."""
    whole = "\x1e".join(f"{turn.role}\x1f{turn.text}" for turn in ask.turns)
    return hashlib.blake2b(whole.encode(errors="surrogatepass"), digest_size=4).hexdigest()


def _fill(text: str, values: dict[str, str]) -> str:
    """Placeholders filled in one pass, so that a filled-in text is not itself filled; other braces stay."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)
