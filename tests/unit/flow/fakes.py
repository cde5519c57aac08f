"""The three services in memory, as far as a flow can tell them apart from real ones.

All write into one `Trace`, so that a test sees the order over all of them. Each call can
be made to wait (`gates`) and to fail (`failures`), before or after it had its effect.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from focus.cache.v1 import cache_pb2
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2
from focus.session.v1 import turn_pb2
from services.common.errors import Conflict, FocusError, InvalidRequest, NotFound
from services.flow.clients import Clients

PRINCIPAL = chat_pb2.Principal(tenant_id="t", person_id="p")


class Trace:
    """What happened, in order, with waits and failures to order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._called = asyncio.Event()
        self.gates: dict[str, asyncio.Event] = {}
        self.failures: defaultdict[str, deque[Exception | None]] = defaultdict(deque)
        self.lost: defaultdict[str, deque[FocusError]] = defaultdict(deque)

    def hold(self, call: str) -> asyncio.Event:
        """The next calls of this name wait until the event is set."""
        self.gates[call] = asyncio.Event()
        return self.gates[call]

    def note(self, what: str) -> None:
        self.calls.append(what)
        self._called.set()

    async def enter(self, call: str) -> None:
        self.note(call)
        gate = self.gates.get(call)
        if gate is not None:
            await gate.wait()
        failures = self.failures[call]
        if failures:
            failure = failures.popleft()
            if failure is not None:
                raise failure

    def leave(self, call: str) -> None:
        """Raises what the caller gets in place of the acknowledgement."""
        if self.lost[call]:
            raise self.lost[call].popleft()

    async def until(self, call: str, times: int = 1) -> None:
        """Waits until a call of this name was made so often."""
        while self.calls.count(call) < times:
            self._called.clear()
            await self._called.wait()


@dataclass
class Conversation:
    turns: list[turn_pb2.Turn] = field(default_factory=list)
    lease: str = ""
    fence: int = 0
    queue: list[str] = field(default_factory=list)
    freed: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryTurns:
    """TurnService: one lease a conversation, FIFO, fences, Idempotency-Keys."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.conversations: dict[str, Conversation] = {}
        self.keys: dict[str, tuple[bytes, Any]] = {}
        self.asks: dict[str, str] = {}
        self.renewed: list[str] = []
        # Turns to be stopped, and what the holders said they stopped.
        self.cancelled: list[str] = []
        self.stopped: list[str] = []

    def conversation(self) -> str:
        conversation_id = f"local-{uuid.uuid4()}"
        self.conversations[conversation_id] = Conversation()
        return conversation_id

    def _of(self, conversation_id: str) -> Conversation:
        if conversation_id not in self.conversations:
            raise NotFound("unknown")
        return self.conversations[conversation_id]

    def _saved(self, key: str, digest: bytes) -> Any:
        if not key or key not in self.keys:
            return None
        known, saved = self.keys[key]
        if known != digest:
            raise InvalidRequest("reused", ErrorReason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
        if saved is None:
            raise Conflict("in progress", ErrorReason.ERROR_REASON_IDEMPOTENCY_IN_PROGRESS, retry_after=1.0)
        return saved

    async def begin(self, request: turn_pb2.BeginTurnRequest, *, timeout: float) -> turn_pb2.BeginTurnResponse:
        await self.trace.enter("begin")
        conversation = self._of(request.conversation_id)
        saved = self._saved(request.idempotency_key, request.request_digest)
        if saved is not None:
            return turn_pb2.BeginTurnResponse(replayed=saved)
        if request.idempotency_key:
            self.keys[request.idempotency_key] = (request.request_digest, None)
        if conversation.lease not in ("", request.turn_id):
            if request.turn_id not in conversation.queue:
                conversation.queue.append(request.turn_id)
            place = conversation.queue.index(request.turn_id) + 1
            queued = turn_pb2.BeginTurnResponse.Queued(ticket=request.turn_id, position=place)
            self.trace.leave("begin")
            return turn_pb2.BeginTurnResponse(queued=queued)
        begun = self._grant(conversation, request.turn_id, request.replaces_turn_id)
        self.trace.leave("begin")
        return turn_pb2.BeginTurnResponse(begun=begun)

    def _grant(self, conversation: Conversation, turn_id: str, replaces: str = "") -> turn_pb2.BegunTurn:
        if conversation.lease != turn_id:
            conversation.lease = turn_id
            conversation.fence += 1
        begun = turn_pb2.BegunTurn(turn_id=turn_id, fence=conversation.fence, seq=len(conversation.turns) + 1)
        for turn in conversation.turns:
            if turn.turn_id == replaces:
                begun.replaced_question = turn.question
                break
            for role, text in ((chat_pb2.ROLE_USER, turn.question), (chat_pb2.ROLE_MODEL, turn.answer.text)):
                begun.history.append(chat_pb2.Message(role=role, parts=[chat_pb2.Part(text=text)]))
        return begun

    async def wait(
        self, request: turn_pb2.AwaitTurnRequest, *, timeout: float
    ) -> AsyncGenerator[turn_pb2.AwaitTurnResponse, None]:
        await self.trace.enter("wait")
        conversation = self._of(request.conversation_id)
        reached = False
        try:
            while conversation.lease or conversation.queue[:1] != [request.ticket]:
                yield turn_pb2.AwaitTurnResponse(position=conversation.queue.index(request.ticket) + 1)
                conversation.freed.clear()
                await conversation.freed.wait()
            conversation.queue.remove(request.ticket)
            reached = True
            yield turn_pb2.AwaitTurnResponse(begun=self._grant(conversation, request.ticket))
        finally:
            if not reached:
                self.trace.note("left the queue")
                conversation.queue.remove(request.ticket)

    async def commit(self, request: turn_pb2.CommitTurnRequest, *, timeout: float) -> turn_pb2.CommitTurnResponse:
        await self.trace.enter("commit")
        conversation = self._of(request.conversation_id)
        for turn in conversation.turns:
            if turn.turn_id == request.turn_id:
                return turn_pb2.CommitTurnResponse(turn=turn)
        if (conversation.lease, conversation.fence) != (request.turn_id, request.fence):
            raise Conflict("The lease is lost.")
        turn = turn_pb2.Turn(
            turn_id=request.turn_id,
            seq=len(conversation.turns) + 1,
            question=request.question,
            outcome=request.outcome,
            answer=request.answer,
            failure_reason=request.failure_reason,
            failure_message=request.failure_message,
        )
        turn.created_at.GetCurrentTime()
        conversation.turns.append(turn)
        self._free(conversation)
        for key, (digest, saved) in list(self.keys.items()):
            if saved is None:
                self.keys[key] = (digest, turn)
        self.trace.leave("commit")
        return turn_pb2.CommitTurnResponse(turn=turn)

    def _free(self, conversation: Conversation) -> None:
        conversation.lease = ""
        conversation.freed.set()

    async def abandon(self, request: turn_pb2.AbandonTurnRequest, *, timeout: float) -> turn_pb2.AbandonTurnResponse:
        await self.trace.enter("abandon")
        conversation = self._of(request.conversation_id)
        if conversation.lease == request.turn_id:
            self._free(conversation)
        return turn_pb2.AbandonTurnResponse()

    async def renew(self, request: turn_pb2.RenewHolderRequest, *, timeout: float) -> turn_pb2.RenewHolderResponse:
        await self.trace.enter("renew")
        self.renewed.append(request.holder_id)
        self.stopped.extend(request.stopped_turn_ids)
        self.cancelled = [turn for turn in self.cancelled if turn not in request.stopped_turn_ids]
        self.trace.leave("renew")
        return turn_pb2.RenewHolderResponse(cancelled_turn_ids=self.cancelled)

    async def cancel(self, request: turn_pb2.CancelTurnRequest) -> turn_pb2.CancelTurnResponse:
        await self.trace.enter("cancel")
        conversation = self.conversations.get(request.conversation_id, Conversation())
        for turn in conversation.turns:
            if turn.turn_id == request.turn_id:
                return turn_pb2.CancelTurnResponse(turn=turn)
        if request.turn_id not in (conversation.lease, *conversation.queue):
            raise NotFound("There is no such turn.", ErrorReason.ERROR_REASON_TURN_NOT_FOUND)
        if request.turn_id not in self.cancelled:
            self.cancelled.append(request.turn_id)
        return turn_pb2.CancelTurnResponse()

    async def release(
        self, request: turn_pb2.ReleaseHolderRequest, *, timeout: float
    ) -> turn_pb2.ReleaseHolderResponse:
        await self.trace.enter("release")
        return turn_pb2.ReleaseHolderResponse()

    async def begin_ask(self, request: turn_pb2.BeginAskRequest, *, timeout: float) -> turn_pb2.BeginAskResponse:
        await self.trace.enter("begin_ask")
        saved = self._saved(request.idempotency_key, request.request_digest)
        if saved is not None:
            return turn_pb2.BeginAskResponse(replayed=saved)
        self.keys[request.idempotency_key] = (request.request_digest, None)
        self.asks[request.ask_id] = request.idempotency_key
        return turn_pb2.BeginAskResponse(begun=turn_pb2.BeginAskResponse.BegunAsk())

    async def commit_ask(self, request: turn_pb2.CommitAskRequest, *, timeout: float) -> turn_pb2.CommitAskResponse:
        await self.trace.enter("commit_ask")
        key = self.asks[request.ask_id]
        self.keys[key] = (self.keys[key][0], request.outcome)
        self.trace.leave("commit_ask")
        return turn_pb2.CommitAskResponse(outcome=request.outcome)

    async def abandon_ask(self, request: turn_pb2.AbandonAskRequest, *, timeout: float) -> turn_pb2.AbandonAskResponse:
        await self.trace.enter("abandon_ask")
        key = self.asks.pop(request.ask_id, "")
        if key and self.keys[key][1] is None:
            del self.keys[key]
        return turn_pb2.AbandonAskResponse()


@dataclass
class Line:
    """What is known of one question. A lease lives until it is ended, or `expire` ends it."""

    answer: chat_pb2.Answer | None = None
    stored_at: float = 0.0
    stale: bool = False
    expired: bool = False
    due: bool = False
    lease: bytes = b""
    followed: bool = False
    events: dict[bytes, list[cache_pb2.FollowResponse]] = field(default_factory=dict)
    ends: dict[bytes, cache_pb2.FollowResponse | None] = field(default_factory=dict)
    # Who took over from whom.
    successors: dict[bytes, bytes] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryAnswers:
    """CacheService: exact questions of one tenant, leases, followers."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.lines: dict[bytes, Line] = {}
        self.looked: list[cache_pb2.LookupRequest] = []
        self.kept: list[cache_pb2.StoreRequest] = []
        self.released: list[cache_pb2.ReleaseRequest.Ended] = []
        self.verdicts: list[cache_pb2.FeedbackRequest] = []
        self._fills: dict[bytes, Line] = {}
        self._count = 0

    def line(self, question: cache_pb2.Question) -> Line:
        return self.lines.setdefault(question.SerializeToString(deterministic=True), Line())

    def the_line(self) -> Line:
        """Where only one question was asked."""
        (line,) = self.lines.values()
        return line

    def expire(self) -> None:
        """All fillers are gone without a word."""
        for line in self.lines.values():
            if line.lease:
                self._end(line, line.lease, None)

    def _grant(self, line: Line) -> cache_pb2.Fill:
        self._count += 1
        line.lease, line.followed = f"fill-{self._count}".encode(), False
        self._fills[line.lease] = line
        return cache_pb2.Fill(token=line.lease, leased=True, renew_every_ms=20)

    def _end(self, line: Line, token: bytes, end: cache_pb2.FollowResponse | None) -> None:
        line.ends[token] = end
        if line.lease == token:
            line.lease = b""
        line.tell()

    async def look_up(self, request: cache_pb2.LookupRequest, *, timeout: float) -> cache_pb2.LookupResponse:
        self.looked.append(request)
        await self.trace.enter("look_up")
        line, control = self.line(request.question), request.cache_control
        response = cache_pb2.LookupResponse()
        if line.answer is not None:
            hit = cache_pb2.LookupResponse.Hit(answer=line.answer, stale=line.stale, entry=b"entry")
            hit.stored_at.FromNanoseconds(int(line.stored_at * 1e9))
            if not line.expired and not control.no_cache:
                if request.may_refresh and line.due and not line.lease:
                    hit.refresh.CopyFrom(self._grant(line))
                return cache_pb2.LookupResponse(hit=hit)
            response.miss.stale_if_error.CopyFrom(hit)
        response.miss.SetInParent()
        if control.no_store or control.only_if_cached:
            return response
        if not request.single_flight or control.no_cache:
            response.miss.fill.token = b"loose"
        elif line.lease:
            line.followed = True
            response.following.token = line.lease
        else:
            response.miss.fill.CopyFrom(self._grant(line))
        return response

    async def store(self, request: cache_pb2.StoreRequest, *, timeout: float) -> cache_pb2.StoreResponse:
        await self.trace.enter("store")
        self.kept.append(request)
        line = self.line(request.question)
        keep = request.answer.finish_reason == chat_pb2.FINISH_REASON_STOP
        if keep:
            line.answer, line.stored_at = request.answer, time.time()
            line.stale = line.expired = line.due = False
        entry = b"entry" if keep else b""
        finished = cache_pb2.FollowResponse.Finished(answer=request.answer, entry=entry)
        self._end(line, request.fill_token, cache_pb2.FollowResponse(finished=finished))
        return cache_pb2.StoreResponse(stored=keep, entry=entry)

    async def renew(self, request: cache_pb2.RenewRequest, *, timeout: float) -> cache_pb2.RenewResponse:
        await self.trace.enter("renew fills")
        response = cache_pb2.RenewResponse()
        for one in request.renewals:
            line = self._fills[one.token]
            if line.lease != one.token:
                response.renewed.add(state=cache_pb2.LEASE_STATE_LOST)
                continue
            events = line.events.setdefault(one.token, [])
            if one.first == len(events):
                events.extend(cache_pb2.FollowResponse(piece=event) for event in one.events)
                line.tell()
            state = cache_pb2.LEASE_STATE_FOLLOWED if line.followed else cache_pb2.LEASE_STATE_HELD
            response.renewed.add(state=state, have=len(events))
        return response

    async def release(self, request: cache_pb2.ReleaseRequest, *, timeout: float) -> cache_pb2.ReleaseResponse:
        await self.trace.enter("release fills")
        for one in request.fills:
            self.released.append(one)
            end = cache_pb2.FollowResponse(failed=one.failure) if one.HasField("failure") else None
            self._end(self._fills[one.token], one.token, end)
        return cache_pb2.ReleaseResponse()

    async def follow(
        self, request: cache_pb2.FollowRequest, *, timeout: float
    ) -> AsyncGenerator[cache_pb2.FollowResponse, None]:
        await self.trace.enter("follow")
        token, line, sent = request.token, self._fills[request.token], 0
        line.followed = True
        while True:
            changed, events = line.changed, line.events.get(token, [])
            if sent < len(events):
                yield events[sent]
                sent += 1
            elif token not in line.ends:
                await changed.wait()
            elif (end := line.ends[token]) is not None:
                said = "".join(event.piece.delta for event in events)
                if rest := end.finished.answer.text[len(said) :]:
                    yield cache_pb2.FollowResponse(piece=cache_pb2.FillEvent(delta=rest))
                yield end
                return
            elif token in line.successors or line.lease:
                if sent:
                    yield cache_pb2.FollowResponse(restarted=cache_pb2.FollowResponse.Restarted())
                token, sent, line.followed = line.successors.get(token, line.lease), 0, True
            else:
                fill = self._grant(line)
                line.successors[token] = fill.token
                yield cache_pb2.FollowResponse(lead=cache_pb2.FollowResponse.Lead(fill=fill))
                return

    async def feedback(self, request: cache_pb2.FeedbackRequest) -> cache_pb2.FeedbackResponse:
        await self.trace.enter("feedback")
        if request.entry != b"entry":
            raise InvalidRequest("The entry is malformed or not this tenant's.")
        self.verdicts.append(request)
        return cache_pb2.FeedbackResponse(found=True)


class ScriptedModels:
    """LlmService: says `pieces`, waits at the gate "piece" before each but the first."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.pieces = ["Bra", "sí", "lia."]
        self.finish_reason = chat_pb2.FINISH_REASON_STOP
        # Quota is short: a stream begins with a place in the queue.
        self.queued = False
        self.prompts: list[llm_pb2.Prompt] = []

    def answer(self) -> chat_pb2.Answer:
        return chat_pb2.Answer(
            tier=chat_pb2.TIER_JUNIOR,
            model="scripted",
            confidence=0.9,
            finish_reason=self.finish_reason,
            usage=chat_pb2.Usage(prompt_tokens=10, output_tokens=3),
            cost_microusd=7,
        )

    async def complete(self, request: llm_pb2.CompleteRequest, *, timeout: float) -> llm_pb2.CompleteResponse:
        self.prompts.append(request.prompt)
        try:
            await self.trace.enter("complete")
        except asyncio.CancelledError:
            self.trace.note("stopped")
            raise
        answer = self.answer()
        answer.text = "".join(self.pieces)
        return llm_pb2.CompleteResponse(answer=answer)

    async def generate(
        self, request: llm_pb2.GenerateRequest, *, timeout: float
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]:
        self.prompts.append(request.prompt)
        finished = False
        try:
            await self.trace.enter("generate")
            if self.queued:
                yield llm_pb2.GenerateResponse(queued=llm_pb2.GenerateResponse.Queued(position=1))
            for piece in self.pieces:
                yield llm_pb2.GenerateResponse(delta=llm_pb2.GenerateResponse.Delta(text=piece))
                await self.trace.enter("piece")
            finished = True
            ended = llm_pb2.GenerateResponse.Finished(answer=self.answer())
            yield llm_pb2.GenerateResponse(finished=ended)
        finally:
            if not finished:
                self.trace.note("stopped")


class World:
    """All of them."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.turns = MemoryTurns(self.trace)
        self.answers = MemoryAnswers(self.trace)
        self.models = ScriptedModels(self.trace)
        self._processes: list[Clients] = []
        self.clients = self.process()

    def process(self) -> Clients:
        """The clients of another process."""
        self._processes.append(Clients(self.turns, self.answers, self.models))
        return self._processes[-1]

    async def close(self) -> None:
        self.trace.gates.clear()
        for clients in self._processes:
            await clients.close()
