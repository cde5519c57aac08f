"""Conversations, links and people over HTTP."""

from __future__ import annotations

from tests.integration.gateway.conftest import Reached


async def test_a_conversations_life(reached: Reached) -> None:
    status, made, headers = await reached.call("POST", "/v1/conversations", json={"title": "Capitals"})
    assert (status, made["title"], made["turn_count"]) == (201, "Capitals", 0)
    path = f"/v1/conversations/{made['conversation_id']}"
    assert headers["location"] == path
    for question in ("One?", "Two?"):
        await reached.call("POST", path + "/turns", json={"question": question})
    _, page, _ = await reached.call("GET", path + "?limit=1")
    assert ([turn["question"] for turn in page["turns"]], page["next_cursor"]) == (["One?"], "more")
    _, page, _ = await reached.call("GET", path)
    assert ([turn["question"] for turn in page["turns"]], page["next_cursor"]) == (["One?", "Two?"], None)
    _, renamed, _ = await reached.call("PATCH", path, json={"title": "Cities"})
    assert renamed["title"] == "Cities"
    _, listed, _ = await reached.call("GET", "/v1/conversations")
    assert [one["title"] for one in listed["conversations"]] == ["Cities"]
    assert listed["next_cursor"] is None
    status, deleted, _ = await reached.call("DELETE", path)
    assert status == 200
    assert "restorable_until" in deleted
    assert (await reached.call("GET", path))[0] == 404
    assert (await reached.call("POST", path + "/restore"))[0] == 200
    assert (await reached.call("GET", path))[0] == 200


async def test_search_erase_and_export(reached: Reached) -> None:
    _, made, _ = await reached.call("POST", "/v1/conversations", json={"title": "Capitals"})
    path = f"/v1/conversations/{made['conversation_id']}"
    _, turn, _ = await reached.call("POST", path + "/turns", json={"question": "São Paulo?"})
    _, found, _ = await reached.call("GET", "/v1/conversations/search", params={"q": "São"})
    assert [one["turn_id"] for one in found["found"]] == [turn["turn_id"]]
    _, erased, _ = await reached.call("POST", f"{path}/turns/{turn['turn_id']}/erase")
    assert (erased["erased"], erased["question"], erased["answer"]) == (True, "", "")
    status, text, headers = await reached.call("GET", path + "/export?format=markdown")
    assert (status, text, headers["content-type"]) == (200, "# Capitals", "text/markdown; charset=utf-8")
    assert headers["content-disposition"] == f'attachment; filename="{made["conversation_id"]}.md"'


async def test_a_link_reads_until_it_is_withdrawn(reached: Reached) -> None:
    _, made, _ = await reached.call("POST", "/v1/conversations", json={"title": "Capitals"})
    path = f"/v1/conversations/{made['conversation_id']}/shares"
    status, share, _ = await reached.call("POST", path)
    assert status == 201
    async with reached.http.get(share["path"]) as response:
        assert (response.status, (await response.json())["title"]) == (200, "Capitals")
    _, listed, _ = await reached.call("GET", path)
    assert [one["share_id"] for one in listed["shares"]] == [share["share_id"]]
    assert "secret" not in listed["shares"][0]
    assert (await reached.call("DELETE", f"/v1/shares/{share['share_id']}"))[0] == 204
    async with reached.http.get(share["path"]) as response:
        assert (response.status, (await response.json())["reason"]) == (404, "share_not_found")


async def test_people(reached: Reached) -> None:
    ada = {"email": "ada@example.com", "password": "correct horse battery"}
    expected = {
        "access_token": "access",
        "token_type": "Bearer",
        "expires_in": 180,
        "refresh_token": "fr_1",
        "tenant_id": "t",
        "person_id": "p",
    }
    status, body, headers = await reached.call("POST", "/v1/auth/signup", json={**ada, "display_name": "Ada"})
    assert (status, body, headers["cache-control"]) == (201, expected, "no-store")
    status, body, _ = await reached.call("POST", "/v1/auth/signup", json=ada)
    assert (status, body["reason"]) == (409, "email_taken")
    status, body, _ = await reached.call("POST", "/v1/auth/token", json=ada)
    assert (status, body) == (200, expected)
    status, body, headers = await reached.call("POST", "/v1/auth/token", json={**ada, "password": "guess"})
    assert (status, body["reason"], headers["www-authenticate"]) == (401, "sign_in_failed", 'Bearer realm="focus"')
    status, body, _ = await reached.call("POST", "/v1/auth/refresh", json={"refresh_token": "fr_1"})
    assert (status, body) == (200, expected)
    status, body, _ = await reached.call("POST", "/v1/auth/refresh", json={"refresh_token": "fr_0"})
    assert (status, body["reason"]) == (401, "refresh_token_reused")
    assert (await reached.call("POST", "/v1/auth/logout", json={"refresh_token": "fr_1"}))[0] == 204
    status, body, _ = await reached.call("POST", "/v1/api-keys", json={"label": "reports"})
    assert (status, body["api_key"][:3]) == (201, "fk_")
    status, body, _ = await reached.call("GET", "/v1/api-keys")
    assert [(key["label"], key["created_at"][:10], (key["last_used_at"] or "never")[:10]) for key in body["keys"]] == [
        ("", "2023-11-14", "never"),
        ("reports", "2020-09-13", "2022-04-15"),
    ]
    for key_id, expected_status in ((body["keys"][0]["key_id"], 204), (body["keys"][1]["key_id"], 404), ("fk_1", 404)):
        assert (await reached.call("DELETE", f"/v1/api-keys/{key_id}"))[0] == expected_status
    assert (await reached.call("PUT", "/v1/retention", json={"days": 30}))[0] == 204


async def test_an_unreachable_store_is_never_a_401(reached: Reached) -> None:
    headers = {"Authorization": "Bearer fk_" + "A" * 43}
    status, body, answered = await reached.call("POST", "/v1/ask", json={"question": "Why?"}, headers=headers)
    assert (status, body["reason"], answered["retry-after"]) == (503, "store_unavailable", "1")
