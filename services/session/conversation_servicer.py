"""ConversationService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from focus.session.v1 import conversation_pb2, conversation_pb2_grpc
from services.common.errors import InvalidRequest
from services.session import export, messages
from services.session.conversations import Conversations

Context = grpc.aio.ServicerContext[Any, Any]

_WRITERS = {
    conversation_pb2.EXPORT_FORMAT_JSON: export.as_json,
    conversation_pb2.EXPORT_FORMAT_MARKDOWN: export.as_markdown,
}


class ConversationServicer(conversation_pb2_grpc.ConversationServiceServicer):
    """Translates between protobuf and `Conversations`; errors are translated around it."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def CreateConversation(
        self, request: conversation_pb2.CreateConversationRequest, context: Context
    ) -> conversation_pb2.CreateConversationResponse:
        made = await self._conversations.create(messages.principal(request.principal), request.title)
        return conversation_pb2.CreateConversationResponse(conversation=messages.conversation_message(made))

    async def GetConversation(
        self, request: conversation_pb2.GetConversationRequest, context: Context
    ) -> conversation_pb2.GetConversationResponse:
        conversation, page = await self._conversations.get(
            messages.principal(request.principal), request.conversation_id, request.page_size, request.page_token
        )
        return conversation_pb2.GetConversationResponse(
            conversation=messages.conversation_message(conversation),
            turns=[messages.turn_message(turn) for turn in page.turns],
            next_page_token=page.next_token,
        )

    async def ListConversations(
        self, request: conversation_pb2.ListConversationsRequest, context: Context
    ) -> conversation_pb2.ListConversationsResponse:
        page, next_token = await self._conversations.listed(
            messages.principal(request.principal), request.page_size, request.page_token
        )
        return conversation_pb2.ListConversationsResponse(
            conversations=[messages.conversation_message(conversation) for conversation in page],
            next_page_token=next_token,
        )

    async def RenameConversation(
        self, request: conversation_pb2.RenameConversationRequest, context: Context
    ) -> conversation_pb2.RenameConversationResponse:
        renamed = await self._conversations.rename(
            messages.principal(request.principal), request.conversation_id, request.title
        )
        return conversation_pb2.RenameConversationResponse(conversation=messages.conversation_message(renamed))

    async def DeleteConversation(
        self, request: conversation_pb2.DeleteConversationRequest, context: Context
    ) -> conversation_pb2.DeleteConversationResponse:
        until = await self._conversations.delete(messages.principal(request.principal), request.conversation_id)
        return conversation_pb2.DeleteConversationResponse(restorable_until=messages.timestamp(until))

    async def RestoreConversation(
        self, request: conversation_pb2.RestoreConversationRequest, context: Context
    ) -> conversation_pb2.RestoreConversationResponse:
        restored = await self._conversations.restore(messages.principal(request.principal), request.conversation_id)
        return conversation_pb2.RestoreConversationResponse(conversation=messages.conversation_message(restored))

    async def EraseTurn(
        self, request: conversation_pb2.EraseTurnRequest, context: Context
    ) -> conversation_pb2.EraseTurnResponse:
        turn = await self._conversations.erase(
            messages.principal(request.principal), request.conversation_id, request.turn_id
        )
        return conversation_pb2.EraseTurnResponse(turn=messages.turn_message(turn))

    async def SearchTurns(
        self, request: conversation_pb2.SearchTurnsRequest, context: Context
    ) -> conversation_pb2.SearchTurnsResponse:
        found, next_token = await self._conversations.search(
            messages.principal(request.principal), request.query, request.page_size, request.page_token
        )
        return conversation_pb2.SearchTurnsResponse(
            found=[messages.found_message(one) for one in found], next_page_token=next_token
        )

    async def ExportConversation(
        self, request: conversation_pb2.ExportConversationRequest, context: Context
    ) -> AsyncIterator[conversation_pb2.ExportConversationResponse]:
        write = _WRITERS.get(request.format)
        if write is None:
            raise InvalidRequest("format must be JSON or Markdown.", metadata={"field": "format"})
        principal = messages.principal(request.principal)
        conversation, turns = await self._conversations.whole(principal, request.conversation_id)
        async for chunk in export.chunks(write(conversation, turns)):
            yield conversation_pb2.ExportConversationResponse(chunk=chunk)

    async def CreateShare(
        self, request: conversation_pb2.CreateShareRequest, context: Context
    ) -> conversation_pb2.CreateShareResponse:
        share, secret = await self._conversations.share(messages.principal(request.principal), request.conversation_id)
        return conversation_pb2.CreateShareResponse(share=messages.share_message(share), secret=secret)

    async def ListShares(
        self, request: conversation_pb2.ListSharesRequest, context: Context
    ) -> conversation_pb2.ListSharesResponse:
        shares = await self._conversations.shares(messages.principal(request.principal), request.conversation_id)
        return conversation_pb2.ListSharesResponse(shares=[messages.share_message(share) for share in shares])

    async def WithdrawShare(
        self, request: conversation_pb2.WithdrawShareRequest, context: Context
    ) -> conversation_pb2.WithdrawShareResponse:
        await self._conversations.withdraw(messages.principal(request.principal), request.share_id)
        return conversation_pb2.WithdrawShareResponse()

    async def GetSharedConversation(
        self, request: conversation_pb2.GetSharedConversationRequest, context: Context
    ) -> conversation_pb2.GetSharedConversationResponse:
        conversation, page = await self._conversations.shared(request.secret, request.page_size, request.page_token)
        return conversation_pb2.GetSharedConversationResponse(
            conversation=messages.conversation_message(conversation),
            turns=[messages.turn_message(turn) for turn in page.turns],
            next_page_token=page.next_token,
        )

    async def SetRetention(
        self, request: conversation_pb2.SetRetentionRequest, context: Context
    ) -> conversation_pb2.SetRetentionResponse:
        await self._conversations.set_retention(messages.principal(request.principal), request.days)
        return conversation_pb2.SetRetentionResponse()
