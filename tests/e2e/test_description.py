"""What the service says about itself."""

import httpx2


def test_probes_answer(visitor: httpx2.Client) -> None:
    assert visitor.get("/healthz").status_code == 200
    assert visitor.get("/readyz").status_code == 200


def test_the_api_is_described_with_examples(visitor: httpx2.Client) -> None:
    document = visitor.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    paths = document["paths"]
    for path in ("/v1/ask", "/v1/conversations", "/v1/auth/signup", "/v1/conversations/{conversation_id}/turns"):
        assert "post" in paths[path], path
    schemas = document["components"]["schemas"]
    assert any(schema.get("examples") for name, schema in schemas.items() if "Ask" in name)


def test_every_problem_has_a_page(visitor: httpx2.Client) -> None:
    problem = visitor.get("/v1/nothing").json()
    assert visitor.get(problem["type"]).status_code == 200


def test_the_first_page_is_a_web_page(visitor: httpx2.Client) -> None:
    reply = visitor.get("/", headers={"Accept": "text/html"}, follow_redirects=True)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert "<script" in reply.text


def test_a_request_id_of_the_client_comes_back(visitor: httpx2.Client) -> None:
    reply = visitor.get("/v1/nothing", headers={"X-Request-Id": "my-request-1"})
    assert reply.headers["x-request-id"] == reply.json()["request_id"] == "my-request-1"
