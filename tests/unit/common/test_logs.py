"""What a log line shows, read as a collector reads it: JSON lines of a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from services.common import logs

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZGEifQ." + "Ab-_" * 21 + "Q"
GOOGLE_KEY = "AIza" + "Sy0123456789_-abcdefghijklmnopqrstu"
SECRETS = {
    "Google key": GOOGLE_KEY,
    "Google express key": "AQ." + "Ab8RN6_-0123456789abcdefghij",
    "API key": "fk_" + "Zm9v-_YmFy" * 4 + "abc",
    "refresh token": "fr_" + "Zm9v-_YmFy" * 6 + "abcd",
    "JWT": JWT,
    "unsigned JWT": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.",
    "bearer": "Bearer opaque-token.with~signs+/==",
    "bearer in small letters": "authorization: bearer opaque-token-123",
}
URLS = {
    "postgresql://focus:hunter2-secret@db:5432/focus": "hunter2-secret",
    "redis://:hunter2-secret@127.0.0.1:6379/0": "hunter2-secret",
    "amqp://u:p@hunter2-secret@mq:5672//": "hunter2-secret",
    "https://host/v1beta/models?key=hunter2-secret&alt=sse": "hunter2-secret",
    "https://host/v1beta/models?alt=sse&key=hunter2-secret": "hunter2-secret",
    "https://host/callback?access_token=hunter2-secret": "hunter2-secret",
    "postgresql://host/focus?user=u&password=hunter2-secret": "hunter2-secret",
}


def lines(*statements: str) -> list[dict[str, Any]]:
    """What a process that runs the statements logs."""
    code = "\n".join(
        [
            "import logging",
            "from services.common import context, logs",
            "logs.configure('test', 'info')",
            "log = logs.get('here')",
            *statements,
        ]
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in run.stderr.splitlines()]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_what_looks_like_a_credential_is_cut_out_of_any_text(secret: str) -> None:
    redacted = logs.redact_text(f"before {secret} after")
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert logs.REDACTED in redacted
    assert max(secret.split(), key=len) not in redacted


@pytest.mark.parametrize("url", URLS)
def test_a_url_keeps_its_address_and_loses_its_secret(url: str) -> None:
    redacted = logs.redact_text(f"cannot reach {url}")
    assert URLS[url] not in redacted
    assert redacted.startswith("cannot reach " + url.partition("://")[0] + "://")


@pytest.mark.parametrize("quoted", ['{"password":"hunter2 x"}', "{'password': 'hunter2 x', 'email': 'a@b.de'}"])
def test_a_password_in_a_body_that_an_error_quotes_is_cut_out(quoted: str) -> None:
    redacted = logs.redact_text(f"1 validation error: input_value={quoted}")
    assert "hunter2" not in redacted
    assert "email" in redacted or "email" not in quoted


@pytest.mark.parametrize(
    "text",
    [
        "prompt_tokens=12 completion_tokens=30",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini:generateContent?alt=sse",
        "http://127.0.0.1:8080/v1/ask",
        "see user@example.org at 12:30",
        "the bearer of this",
        "Python 3.11, AI and the fork fk_1",
        "018f2c8e-7a51-7c3e-9f6b-2f7d3a1b0c4d",
        "keyboard=qwerty",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert logs.redact_text(text) == text


def test_the_lines_of_a_process() -> None:
    """One process for all: fields by name and by look, nested ones, exceptions, foreign loggers, the request."""
    secret = "opaque-value"
    found = lines(
        f"log.info('by name', password='{secret}', api_key='{secret}', Authorization='{secret}', cookie='{secret}',"
        f" refresh_token='{secret}', client_secret='{secret}', token=b'{secret}')",
        f"log.info('nested', body={{'user': {{'password': '{secret}', 'keys': ['{GOOGLE_KEY}']}}}}, args=('{JWT}', 1))",
        "log.info('harmless', prompt_tokens=12, total_tokens='12', token_count=3, history_token_budget=8000,"
        " expires_in=180, kid='k1', ok=True, ratio=0.5, nothing=None, question='What is a token?')",
        f"log.info('key {GOOGLE_KEY} refused', error=ValueError('{GOOGLE_KEY} is bad'))",
        "try:",
        f"    raise RuntimeError('upstream said: {JWT}')",
        "except RuntimeError:",
        "    log.exception('it failed')",
        f"logging.getLogger('foreign').warning('connecting to %s', 'redis://:{secret}@host')",
        "log.debug('not shown')",
        "context.bind('my-request', None, 'my-tenant')",
        "log.warning('in a request: ä')",
    )
    by_name, nested, harmless, event, failed, foreign, request = found
    assert not [line for line in found if secret in str(line) or GOOGLE_KEY in str(line) or JWT in str(line)]
    common = {"service", "level", "time", "event"}
    assert {name for name, value in by_name.items() if value == logs.REDACTED} == by_name.keys() - common
    assert nested["body"] == {"user": {"password": logs.REDACTED, "keys": [logs.REDACTED]}}
    assert nested["args"] == [logs.REDACTED, 1]
    assert {name: value for name, value in harmless.items() if name not in common} == {
        "prompt_tokens": 12,
        "total_tokens": "12",
        "token_count": 3,
        "history_token_budget": 8000,
        "expires_in": 180,
        "kid": "k1",
        "ok": True,
        "ratio": 0.5,
        "nothing": None,
        "question": "What is a token?",
    }
    assert (event["event"], event["error"]) == ("key [redacted] refused", "[redacted] is bad")
    assert "RuntimeError: upstream said: [redacted]" in failed["exception"]
    assert (foreign["event"], foreign["level"]) == ("connecting to redis://[redacted]@host", "warning")
    assert (request["request_id"], request["tenant_id"], request["event"]) == (
        "my-request",
        "my-tenant",
        "in a request: ä",
    )
    assert len(request["trace_id"]) == 32
    assert {line["service"] for line in found} == {"test"}
    assert all(line["time"].endswith("Z") for line in found)
