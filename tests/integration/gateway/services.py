"""The services behind a gateway as one gRPC server in the test's process, over `tests.unit.flow.fakes`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from focus.cache.v1 import cache_pb2_grpc
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from focus.llm.v1 import llm_pb2_grpc
from focus.session.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    conversation_pb2,
    conversation_pb2_grpc,
    turn_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)
from services.common.errors import Conflict, InvalidRequest, NotFound, Unauthenticated, Unavailable
from services.common.rpc.server import serving
from services.common.settings import GrpcSettings
from tests.unit.flow.fakes import World

FOREVER = 3600.0


class TurnServicer(turn_pb2_grpc.TurnServiceServicer):
    def __init__(self, world: World) -> None:
        self._turns = world.turns

    async def BeginTurn(self, request: Any, context: Any) -> Any:
        return await self._turns.begin(request, timeout=FOREVER)

    async def AwaitTurn(self, request: Any, context: Any) -> Any:
        events = self._turns.wait(request, timeout=FOREVER)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def CommitTurn(self, request: Any, context: Any) -> Any:
        return await self._turns.commit(request, timeout=FOREVER)

    async def AbandonTurn(self, request: Any, context: Any) -> Any:
        return await self._turns.abandon(request, timeout=FOREVER)

    async def CancelTurn(self, request: Any, context: Any) -> Any:
        if request.principal.tenant_id == "tenant-b":
            raise NotFound("There is no such turn.", ErrorReason.ERROR_REASON_TURN_NOT_FOUND)
        return await self._turns.cancel(request)

    async def RenewHolder(self, request: Any, context: Any) -> Any:
        return await self._turns.renew(request, timeout=FOREVER)

    async def ReleaseHolder(self, request: Any, context: Any) -> Any:
        return await self._turns.release(request, timeout=FOREVER)

    async def BeginAsk(self, request: Any, context: Any) -> Any:
        return await self._turns.begin_ask(request, timeout=FOREVER)

    async def CommitAsk(self, request: Any, context: Any) -> Any:
        return await self._turns.commit_ask(request, timeout=FOREVER)

    async def AbandonAsk(self, request: Any, context: Any) -> Any:
        return await self._turns.abandon_ask(request, timeout=FOREVER)


class CacheServicer(cache_pb2_grpc.CacheServiceServicer):
    def __init__(self, world: World) -> None:
        self._answers = world.answers

    async def Lookup(self, request: Any, context: Any) -> Any:
        return await self._answers.look_up(request, timeout=FOREVER)

    async def Store(self, request: Any, context: Any) -> Any:
        return await self._answers.store(request, timeout=FOREVER)

    async def Renew(self, request: Any, context: Any) -> Any:
        return await self._answers.renew(request, timeout=FOREVER)

    async def Release(self, request: Any, context: Any) -> Any:
        return await self._answers.release(request, timeout=FOREVER)

    async def Follow(self, request: Any, context: Any) -> Any:
        messages = self._answers.follow(request, timeout=FOREVER)
        try:
            async for message in messages:
                yield message
        finally:
            await messages.aclose()

    async def Feedback(self, request: Any, context: Any) -> Any:
        return await self._answers.feedback(request)


class LlmServicer(llm_pb2_grpc.LlmServiceServicer):
    def __init__(self, world: World) -> None:
        self._models = world.models

    async def Complete(self, request: Any, context: Any) -> Any:
        return await self._models.complete(request, timeout=FOREVER)

    async def Generate(self, request: Any, context: Any) -> Any:
        events = self._models.generate(request, timeout=FOREVER)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """One person, Ada, who may register once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.registered: set[str] = set()
        self.key_id = str(uuid.uuid4())
        self.tokens = auth_pb2.TokenSet(
            access_token="access",
            expires_in=180,
            refresh_token="fr_1",
            principal=chat_pb2.Principal(tenant_id="t", person_id="p"),
        )

    async def SignUp(self, request: Any, context: Any) -> Any:
        await self._world.trace.enter("sign_up")
        if request.email in self.registered:
            raise Conflict("That address is registered already.", ErrorReason.ERROR_REASON_EMAIL_TAKEN)
        self.registered.add(request.email)
        return auth_pb2.SignUpResponse(tokens=self.tokens)

    async def IssueToken(self, request: Any, context: Any) -> Any:
        if request.password != "correct horse battery":
            raise Unauthenticated("They do not belong together.", ErrorReason.ERROR_REASON_SIGN_IN_FAILED)
        return auth_pb2.IssueTokenResponse(tokens=self.tokens)

    async def RefreshToken(self, request: Any, context: Any) -> Any:
        if request.refresh_token != "fr_1":
            raise Unauthenticated("It was used before.", ErrorReason.ERROR_REASON_REFRESH_TOKEN_REUSED)
        return auth_pb2.RefreshTokenResponse(tokens=self.tokens)

    async def Logout(self, request: Any, context: Any) -> Any:
        return auth_pb2.LogoutResponse()

    async def CreateApiKey(self, request: Any, context: Any) -> Any:
        return auth_pb2.CreateApiKeyResponse(key_id=str(uuid.uuid4()), api_key="fk_" + "k" * 43)

    async def ListApiKeys(self, request: Any, context: Any) -> Any:
        fresh, used = auth_pb2.ApiKey(key_id=self.key_id), auth_pb2.ApiKey(key_id=str(uuid.uuid4()), label="reports")
        fresh.created_at.FromSeconds(1_700_000_000)
        used.created_at.FromSeconds(1_600_000_000)
        used.last_used_at.FromSeconds(1_650_000_000)
        return auth_pb2.ListApiKeysResponse(keys=[fresh, used])

    async def RevokeApiKey(self, request: Any, context: Any) -> Any:
        if request.key_id != self.key_id:
            raise NotFound("The store says: no such key.", ErrorReason.ERROR_REASON_API_KEY_NOT_FOUND)
        return auth_pb2.RevokeApiKeyResponse()

    async def ExchangeApiKey(self, request: Any, context: Any) -> Any:
        raise Unavailable("The store is away.", ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, retry_after=1.0)


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """Says a day for which it was asked."""

    async def GetUsage(self, request: Any, context: Any) -> Any:
        if request.to_day < request.from_day:
            raise InvalidRequest("The store says: the wrong way round.", metadata={"field": "to_day"})
        used = usage_pb2.GetUsageResponse.Used(
            day=request.from_day,
            model="m",
            tier=chat_pb2.TIER_SENIOR,
            calls=3,
            estimated_calls=1,
            prompt_tokens=31,
            output_tokens=9,
            cost_microusd=2**40,
        )
        return usage_pb2.GetUsageResponse(used=[used], cost_microusd=2**40)


class ConversationServicer(conversation_pb2_grpc.ConversationServiceServicer):
    """Conversations of `MemoryTurns`, each known to who made it only."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owners: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._secrets: dict[str, str] = {}

    def _one(self, request: Any) -> conversation_pb2.Conversation:
        conversation_id = request.conversation_id
        if self._owners.get(conversation_id) != request.principal.tenant_id or conversation_id in self._deleted:
            raise NotFound(f"The store says: no conversation {conversation_id}.")
        return self._view(conversation_id)

    def _view(self, conversation_id: str) -> conversation_pb2.Conversation:
        turns = self._world.turns.conversations[conversation_id].turns
        return conversation_pb2.Conversation(
            conversation_id=conversation_id, title=self._titles[conversation_id], turn_count=len(turns)
        )

    async def CreateConversation(self, request: Any, context: Any) -> Any:
        await self._world.trace.enter("create")
        conversation_id = self._world.turns.conversation()
        self._owners[conversation_id] = request.principal.tenant_id
        self._titles[conversation_id] = request.title
        return conversation_pb2.CreateConversationResponse(conversation=self._view(conversation_id))

    async def GetConversation(self, request: Any, context: Any) -> Any:
        await self._world.trace.enter("get")
        _check_cursor(request.page_token)
        found = self._one(request)
        turns = self._world.turns.conversations[found.conversation_id].turns
        return conversation_pb2.GetConversationResponse(
            conversation=found,
            turns=turns[: request.page_size],
            next_page_token="more" * (len(turns) > request.page_size),
        )

    async def ListConversations(self, request: Any, context: Any) -> Any:
        _check_cursor(request.page_token)
        mine = [name for name, owner in self._owners.items() if owner == request.principal.tenant_id]
        return conversation_pb2.ListConversationsResponse(
            conversations=[self._view(name) for name in mine[: request.page_size]]
        )

    async def RenameConversation(self, request: Any, context: Any) -> Any:
        self._one(request)
        self._titles[request.conversation_id] = request.title
        return conversation_pb2.RenameConversationResponse(conversation=self._view(request.conversation_id))

    async def DeleteConversation(self, request: Any, context: Any) -> Any:
        self._one(request)
        self._deleted.add(request.conversation_id)
        return conversation_pb2.DeleteConversationResponse()

    async def RestoreConversation(self, request: Any, context: Any) -> Any:
        self._deleted.discard(request.conversation_id)
        return conversation_pb2.RestoreConversationResponse(conversation=self._one(request))

    async def EraseTurn(self, request: Any, context: Any) -> Any:
        self._one(request)
        for turn in self._world.turns.conversations[request.conversation_id].turns:
            if turn.turn_id == request.turn_id:
                turn.question, turn.answer.text, turn.erased = "", "", True
                return conversation_pb2.EraseTurnResponse(turn=turn)
        raise NotFound("No such turn.", ErrorReason.ERROR_REASON_TURN_NOT_FOUND)

    async def SearchTurns(self, request: Any, context: Any) -> Any:
        hits = [
            conversation_pb2.SearchTurnsResponse.Found(
                conversation_id=name,
                title=self._titles[name],
                turn_id=turn.turn_id,
                seq=turn.seq,
                snippet=turn.question,
            )
            for name, owner in self._owners.items()
            for turn in self._world.turns.conversations[name].turns
            if owner == request.principal.tenant_id and request.query in turn.question
        ]
        return conversation_pb2.SearchTurnsResponse(found=hits)

    async def ExportConversation(self, request: Any, context: Any) -> Any:
        found = self._one(request)
        yield conversation_pb2.ExportConversationResponse(chunk=b"# ")
        yield conversation_pb2.ExportConversationResponse(chunk=found.title.encode())

    async def CreateShare(self, request: Any, context: Any) -> Any:
        self._one(request)
        share = conversation_pb2.Share(share_id=str(uuid.uuid4()), conversation_id=request.conversation_id)
        secret = "fs_" + uuid.uuid4().hex
        self._secrets[secret] = share.share_id + " " + request.conversation_id
        return conversation_pb2.CreateShareResponse(share=share, secret=secret)

    async def ListShares(self, request: Any, context: Any) -> Any:
        self._one(request)
        return conversation_pb2.ListSharesResponse(
            shares=[
                conversation_pb2.Share(share_id=value.split()[0], conversation_id=value.split()[1])
                for value in self._secrets.values()
            ]
        )

    async def WithdrawShare(self, request: Any, context: Any) -> Any:
        for secret, value in list(self._secrets.items()):
            if value.startswith(request.share_id):
                del self._secrets[secret]
                return conversation_pb2.WithdrawShareResponse()
        raise NotFound("No such link.", ErrorReason.ERROR_REASON_SHARE_NOT_FOUND)

    async def GetSharedConversation(self, request: Any, context: Any) -> Any:
        if request.secret not in self._secrets:
            raise NotFound("No such link.", ErrorReason.ERROR_REASON_SHARE_NOT_FOUND)
        conversation_id = self._secrets[request.secret].split()[1]
        turns = self._world.turns.conversations[conversation_id].turns
        return conversation_pb2.GetSharedConversationResponse(conversation=self._view(conversation_id), turns=turns)

    async def SetRetention(self, request: Any, context: Any) -> Any:
        return conversation_pb2.SetRetentionResponse()


def _check_cursor(token: str) -> None:
    if token not in ("", "more"):
        raise InvalidRequest("That cursor is not from this list.", ErrorReason.ERROR_REASON_CURSOR_INVALID)


@asynccontextmanager
async def services(world: World) -> AsyncIterator[str]:
    """host:port of all services."""

    def register(server: grpc.aio.Server) -> None:
        turn_pb2_grpc.add_TurnServiceServicer_to_server(TurnServicer(world), server)
        cache_pb2_grpc.add_CacheServiceServicer_to_server(CacheServicer(world), server)  # type: ignore[abstract]
        llm_pb2_grpc.add_LlmServiceServicer_to_server(LlmServicer(world), server)  # type: ignore[abstract]
        auth_pb2_grpc.add_AuthServiceServicer_to_server(AuthServicer(world), server)
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server(ConversationServicer(world), server)
        usage_pb2_grpc.add_UsageServiceServicer_to_server(UsageServicer(), server)

    async with serving(GrpcSettings(stop_grace_seconds=0), register, []) as running:
        yield f"127.0.0.1:{running.port}"
