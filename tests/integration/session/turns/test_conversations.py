"""Conversations as their callers see them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from devstack.valkey import Valkey
from focus.chat.v1 import chat_pb2
from focus.session.v1 import conversation_pb2, turn_pb2
from services.common.errors import Exhausted, FocusError, InvalidRequest, NotFound
from services.common.rpc import client
from tests.integration.session.turns.fleet import Caller, fleet, new_id, principal, settings


async def call(caller: Caller, method: str, **fields: Any) -> Any:
    """An RPC of ConversationService by its name, on the caller's behalf."""
    request_type = getattr(conversation_pb2, f"{method}Request")
    if "principal" in request_type.DESCRIPTOR.fields_by_name:
        fields = {"principal": caller.me, **fields}
    return await client.unary(getattr(caller.conversations, method), request_type(**fields), timeout=20)


async def export(caller: Caller, conversation: str, form: int) -> str:
    request = conversation_pb2.ExportConversationRequest(
        principal=caller.me,
        conversation_id=conversation,
        format=form,  # type: ignore[arg-type]
    )
    chunks = [
        answer.chunk async for answer in client.stream(caller.conversations.ExportConversation, request, timeout=20)
    ]
    assert all(len(chunk) <= 65536 for chunk in chunks)
    return b"".join(chunks).decode()


async def searched(caller: Caller, query: str, **fields: Any) -> list[str]:
    found = await call(caller, "SearchTurns", query=query, **fields)
    return [one.snippet for one in found.found]


async def indexed(database_url: str) -> None:
    """Until every turn can be found."""
    connection = await asyncpg.connect(database_url)
    async with asyncio.timeout(20):
        while await connection.fetchval("SELECT count(*) FROM turns, pg_sleep(0.02) WHERE search IS NULL"):
            pass
    await connection.close()


async def reason_of(call: Any) -> str:
    with pytest.raises(FocusError) as err:
        await call
    return err.value.reason_name


async def test_pages_of_turns(caller: Caller) -> None:
    conversation = await caller.conversation()
    for n in range(5):
        await caller.turn(conversation, f"q{n}")
    seen, token = [], ""
    for _ in range(3):
        page = await call(caller, "GetConversation", conversation_id=conversation, page_size=2, page_token=token)
        seen.append([turn.question for turn in page.turns])
        token = page.next_page_token
    assert seen == [["q0", "q1"], ["q2", "q3"], ["q4"]]
    assert token == ""
    assert page.conversation.turn_count == 5
    assert page.conversation.title == "q0"


async def test_large_turns_make_small_pages(caller: Caller) -> None:
    """A page fits into a message, whatever was said."""
    conversation = await caller.conversation()
    for n in range(12):
        begun = await caller.begun(conversation)
        await caller.commit(conversation, begun, f"q{n}", answer=chat_pb2.Answer(text="x" * 1_000_000))
    seen, token = 0, ""
    while True:
        page = await call(caller, "GetConversation", conversation_id=conversation, page_size=200, page_token=token)
        seen += len(page.turns)
        token = page.next_page_token
        if not token:
            break
    assert seen == 12


async def test_pages_of_conversations(caller: Caller) -> None:
    made = [await caller.conversation() for _ in range(5)]
    seen, token = [], ""
    for _ in range(3):
        page = await call(caller, "ListConversations", page_size=2, page_token=token)
        seen += [conversation.conversation_id for conversation in page.conversations]
        token = page.next_page_token
        await caller.turn(made[0])  # nothing that happens meanwhile moves anything
    assert seen == made[::-1]
    assert token == ""


@pytest.mark.parametrize("token", ["x", "W10", "é"])
async def test_forged_page_tokens_are_refused(caller: Caller, token: str) -> None:
    conversation = await caller.conversation()
    assert await reason_of(call(caller, "ListConversations", page_token=token)) == "CURSOR_INVALID"
    got = call(caller, "GetConversation", conversation_id=conversation, page_token=token)
    assert await reason_of(got) == "CURSOR_INVALID"
    assert await reason_of(call(caller, "SearchTurns", query="x", page_token=token)) == "CURSOR_INVALID"


async def test_page_token_of_another_list_is_refused(caller: Caller) -> None:
    one, other = await caller.conversation(), await caller.conversation()
    for _ in range(2):
        await caller.turn(one)
    page = await call(caller, "GetConversation", conversation_id=one, page_size=1)
    got = call(caller, "GetConversation", conversation_id=other, page_token=page.next_page_token)
    assert await reason_of(got) == "CURSOR_INVALID"


async def test_nobody_else_sees_it(caller: Caller) -> None:
    """Every call about somebody else's conversation answers as for one that never was."""
    conversation = await caller.conversation()
    turn = await caller.turn(conversation)
    link = await call(caller, "CreateShare", conversation_id=conversation)
    begun = await caller.begun(conversation)
    me, caller.me = caller.me, principal()
    for target in (conversation, f"local-{new_id()}", "nonsense", f"elsewhere-{new_id()}"):
        for method, fields in (
            ("GetConversation", {}),
            ("RenameConversation", {"title": "x"}),
            ("DeleteConversation", {}),
            ("RestoreConversation", {}),
            ("EraseTurn", {"turn_id": turn.turn_id}),
            ("CreateShare", {}),
            ("ListShares", {}),
        ):
            assert await reason_of(call(caller, method, conversation_id=target, **fields)) == "CONVERSATION_NOT_FOUND"
        assert await reason_of(caller.begin(target)) == "CONVERSATION_NOT_FOUND"
        assert await reason_of(export(caller, target, 1)) == "CONVERSATION_NOT_FOUND"
    assert await reason_of(caller.commit(conversation, begun)) == "LEASE_LOST"
    assert await reason_of(call(caller, "WithdrawShare", share_id=link.share.share_id)) == "SHARE_NOT_FOUND"
    await caller.abandon(conversation, begun.turn_id)
    assert list((await call(caller, "ListConversations")).conversations) == []
    caller.me = me
    assert (await caller.commit(conversation, begun)).seq == 2


async def test_key_of_a_tenant_alone_has_conversations_too(caller: Caller) -> None:
    """A tenant's API key that belongs to nobody."""
    caller.me = chat_pb2.Principal(tenant_id=new_id())
    conversation = await caller.conversation()
    assert (await caller.turn(conversation)).seq == 1
    listed = await call(caller, "ListConversations")
    assert [one.conversation_id for one in listed.conversations] == [conversation]


@pytest.mark.parametrize("title", ["", "  ", "x" * 201, "\n"])
async def test_title_has_a_length(caller: Caller, title: str) -> None:
    conversation = await caller.conversation()
    rename = call(caller, "RenameConversation", conversation_id=conversation, title=title)
    assert await reason_of(rename) == "INVALID_ARGUMENT"


async def test_delete_and_restore(caller: Caller) -> None:
    conversation = await caller.conversation()
    await caller.turn(conversation, "Keep me")
    deleted = await call(caller, "DeleteConversation", conversation_id=conversation)
    assert deleted.restorable_until.ToSeconds() > 1_700_000_000
    assert await reason_of(caller.get(conversation)) == "CONVERSATION_NOT_FOUND"
    again = call(caller, "DeleteConversation", conversation_id=conversation)
    assert await reason_of(again) == "CONVERSATION_NOT_FOUND"
    await call(caller, "RestoreConversation", conversation_id=conversation)
    assert [turn.question for turn in (await caller.get(conversation)).turns] == ["Keep me"]


async def test_number_of_conversations_is_limited(tmp_path: Path, database_url: str, valkey: Valkey) -> None:
    async with fleet(settings(tmp_path, database_url, valkey.url, max_conversations=2, max_turns=1)) as found:
        conversation = await found.caller.conversation()
        await found.caller.conversation()
        with pytest.raises(Exhausted) as err:
            await found.caller.conversation()
        assert (err.value.reason_name, err.value.metadata) == ("LIMIT_REACHED", {"limit": "conversations"})
        await found.caller.turn(conversation)
        with pytest.raises(Exhausted) as err:
            await found.caller.begin(conversation)
        assert (err.value.reason_name, err.value.metadata) == ("LIMIT_REACHED", {"limit": "turns"})


async def test_regenerated_and_edited_turns_are_branches(caller: Caller) -> None:
    conversation = await caller.conversation()
    first = await caller.turn(conversation, "one")
    second = await caller.turn(conversation, "two")
    again = await caller.begun(conversation, replaces_turn_id=second.turn_id)
    assert again.replaced_question == "two"
    assert [part.text for message in again.history for part in message.parts] == ["one", "Because one"]
    third = await caller.commit(conversation, again, again.replaced_question)
    assert (third.parent_turn_id, second.parent_turn_id) == (first.turn_id, first.turn_id)
    assert [turn.seq for turn in (await caller.get(conversation)).turns] == [1, 2, 3]


async def test_erased_turn_keeps_the_chain(caller: Caller) -> None:
    conversation = await caller.conversation()
    turn = await caller.turn(conversation, "my secret")
    await caller.turn(conversation, "next")
    erased = (await call(caller, "EraseTurn", conversation_id=conversation, turn_id=turn.turn_id)).turn
    assert erased.erased
    assert erased.question_sha256 == hashlib.sha256(b"my secret").digest()
    got = await caller.get(conversation)
    assert "secret" not in str(got)
    assert [one.previous_hash for one in got.turns][1:] == [one.hash for one in got.turns][:-1]
    for target in (new_id(), "x"):
        missing = call(caller, "EraseTurn", conversation_id=conversation, turn_id=target)
        assert await reason_of(missing) == "TURN_NOT_FOUND"


async def test_share_shows_what_there_was_to_whoever_has_the_link(caller: Caller) -> None:
    conversation = await caller.conversation()
    await caller.turn(conversation, "shown")
    made = await call(caller, "CreateShare", conversation_id=conversation)
    await caller.turn(conversation, "not shown")
    caller.me, me = principal(), caller.me
    shared = await call(caller, "GetSharedConversation", secret=made.secret)
    assert [turn.question for turn in shared.turns] == ["shown"]
    assert shared.conversation.turn_count == 1
    assert len(made.secret) > 40
    caller.me = me
    listed = await call(caller, "ListShares", conversation_id=conversation)
    assert list(listed.shares) == [made.share]
    await call(caller, "WithdrawShare", share_id=made.share.share_id)
    for secret in (made.secret, "", "fs_x", made.secret[:-1]):
        assert await reason_of(call(caller, "GetSharedConversation", secret=secret)) == "SHARE_NOT_FOUND"


async def test_secret_of_a_link_is_not_stored(caller: Caller, database_url: str) -> None:
    made = await call(caller, "CreateShare", conversation_id=await caller.conversation())
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT * FROM shares")
    await connection.close()
    assert made.secret not in str(rows)
    assert hashlib.sha256(made.secret.encode()).digest() in rows[0].values()


async def test_search_knows_both_languages_and_needs_no_accents(caller: Caller, database_url: str) -> None:
    conversation = await caller.conversation()
    for question in ("Onde fica a estação das barcas?", "Which cities were growing?", "Ações da bolsa"):
        await caller.turn(conversation, question)
    await indexed(database_url)
    for query, expected in {
        "estações": "barcas",  # the plural
        "estacao": "barcas",
        "ESTAÇÃO": "barcas",
        "city": "growing",
        "grow": "growing",
        '"cities were"': "growing",
        "acoes": "bolsa",
        "barcas -cidade": "barcas",
    }.items():
        found = await searched(caller, query)
        assert len(found) == 1, query
        assert expected in found[0]
    for query in ("zebra", "the", '"growing cities"', "barcas -estação", "!!!", "owner"):
        assert await searched(caller, query) == [], query


async def test_search_finds_ones_own_only(caller: Caller, database_url: str) -> None:
    conversation = await caller.conversation()
    await caller.turn(conversation, "elephant one")
    mine, caller.me = caller.me, chat_pb2.Principal(tenant_id=caller.me.tenant_id, person_id=new_id())
    await caller.turn(await caller.conversation(), "elephant two")
    await indexed(database_url)
    assert [one[:12] for one in await searched(caller, "elephants")] == ["elephant two"]
    caller.me = mine
    assert [one[:12] for one in await searched(caller, "elephants")] == ["elephant one"]
    await call(caller, "DeleteConversation", conversation_id=conversation)
    assert await searched(caller, "elephants") == []
    owner = f"owner/{mine.tenant_id}/{mine.person_id}"
    assert await searched(caller, owner) == []


async def test_erased_turn_is_not_found_any_more(caller: Caller, database_url: str) -> None:
    conversation = await caller.conversation()
    turn = await caller.turn(conversation, "elephant")
    await indexed(database_url)
    assert len(await searched(caller, "elephant")) == 1
    await call(caller, "EraseTurn", conversation_id=conversation, turn_id=turn.turn_id)
    assert await searched(caller, "elephant") == []


async def test_search_pages_newest_first(caller: Caller, database_url: str) -> None:
    conversation = await caller.conversation()
    for n in range(5):
        await caller.turn(conversation, f"elephant {n}")
    await indexed(database_url)
    seen, token = [], ""
    for _ in range(3):
        page = await call(caller, "SearchTurns", query="elephant", page_size=2, page_token=token)
        seen += [one.seq for one in page.found]
        token = page.next_page_token
    assert (seen, token) == ([5, 4, 3, 2, 1], "")


@pytest.mark.parametrize("query", ["", "   ", "x" * 501])
async def test_search_has_a_length(caller: Caller, query: str) -> None:
    assert await reason_of(call(caller, "SearchTurns", query=query)) == "INVALID_ARGUMENT"


async def test_export_as_json_is_whole_and_verifiable(caller: Caller) -> None:
    conversation = await caller.conversation()
    for n in range(103):
        await caller.turn(conversation, f'q{n}\n"é" ]}}')
    document = json.loads(await export(caller, conversation, conversation_pb2.EXPORT_FORMAT_JSON))
    assert document["conversation_id"] == conversation
    assert [turn["seq"] for turn in document["turns"]] == list(range(1, 104))
    assert document["turns"][7]["question"] == 'q7\n"é" ]}'
    assert document["turns"][7]["tier"] == "junior"
    hashes = [turn["hash"] for turn in document["turns"]]
    assert [turn["previous_hash"] for turn in document["turns"][1:]] == hashes[:-1]


async def test_export_as_markdown_reads_well(caller: Caller) -> None:
    conversation = await caller.conversation()
    await caller.turn(conversation, "What is # *this*?\nSecond line")
    failed = await caller.begun(conversation)
    await caller.commit(
        conversation,
        failed,
        "Blocked?",
        outcome=turn_pb2.OUTCOME_FAILURE,
        answer=chat_pb2.Answer(),
        failure_reason="ANSWER_BLOCKED",
        failure_message="The answer was withheld.",
    )
    text = await export(caller, conversation, conversation_pb2.EXPORT_FORMAT_MARKDOWN)
    assert text.startswith("# What is \\# \\*this\\*? Second line\n")
    assert "\n> What is # *this*?\n> Second line\n\nBecause What is # *this*?\nSecond line\n" in text
    assert "_No answer: The answer was withheld._" in text


async def test_export_needs_a_format(caller: Caller) -> None:
    with pytest.raises(InvalidRequest):
        await export(caller, await caller.conversation(), 0)


async def test_long_question_is_refused_and_the_turn_can_still_end(caller: Caller) -> None:
    conversation = await caller.conversation()
    begun = await caller.begun(conversation)
    with pytest.raises(InvalidRequest) as err:
        await caller.commit(conversation, begun, "x" * 100_001)
    assert err.value.reason_name == "QUESTION_TOO_LONG"
    assert (await caller.commit(conversation, begun, "short?")).seq == 1


async def test_unknown_share_and_turn_names_are_not_found(caller: Caller) -> None:
    with pytest.raises(NotFound):
        await call(caller, "WithdrawShare", share_id="x")
    conversation = await caller.conversation()
    missing: list[dict[str, Any]] = [{"parent_turn_id": new_id()}, {"replaces_turn_id": new_id()}]
    for fields in missing:
        assert await reason_of(caller.begin(conversation, **fields)) == "TURN_NOT_FOUND"
