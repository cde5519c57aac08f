"""Several of each service: every gateway reaches every replica, and one that dies is done without."""

from pathlib import Path

import httpx2
import pytest

from devstack import demo
from devstack.stack import Plan, Stack
from tests.harness.emulator import SETTINGS

pytestmark = pytest.mark.timeout(180)


def test_a_replica_of_each_may_die(scratch: Path) -> None:
    plan = Plan(
        scratch / "replicas",
        backend="scripted",
        gateways=2,
        sessions=2,
        caches=2,
        llms=2,
        durable=False,
        settings=SETTINGS,
    )
    with Stack(plan) as stack:
        assert len({one.url for one in stack.gateways}) == 2
        account = demo.prepare(stack.base_url, stack.home.dev_env)
        bearer = {"Authorization": f"Bearer {account.api_key}"}
        for replicas in (stack.sessions, stack.caches, stack.llms):
            replicas[0].process.kill()
        for gateway in stack.gateways:
            with httpx2.Client(base_url=gateway.url, headers=bearer, trust_env=False, timeout=60) as client:
                made = client.post("/v1/conversations", json={})
                assert made.status_code == 201, made.text
                path = f"/v1/conversations/{made.json()['conversation_id']}/turns"
                for number in range(4):
                    reply = client.post(path, json={"question": f"Number {number}?"})
                    assert reply.status_code == 200, reply.text
                for number in range(4):
                    reply = client.post("/v1/ask", json={"question": f"{gateway.address} {number}?"})
                    assert reply.status_code == 200, reply.text
        processes = stack.processes
    assert not [process.name for process in processes if process.running]
