"""A process that holds a lease: run by a test, which stops, continues and kills it.

    python -m tests.integration.session.turns.holder_process TARGET TENANT PERSON CONVERSATION

Prints "begun SEQ", waits for a line on standard input, commits, and prints
"stored SEQ" or the reason why not. Its heartbeats are those of a flow.
"""

from __future__ import annotations

import asyncio
import sys

from focus.chat.v1 import chat_pb2
from services.common.errors import FocusError
from tests.integration.session.turns.fleet import calling, new_id


async def main(target: str, tenant: str, person: str, conversation: str) -> None:
    """Holds a lease until told to commit."""
    me = chat_pb2.Principal(tenant_id=tenant, person_id=person)
    async with calling(target, me, new_id()) as caller:
        begun = await caller.begun(conversation)
        print(f"begun {begun.seq}", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await caller.renew()
        try:
            turn = await caller.commit(conversation, begun, "late?")
            print(f"stored {turn.seq}", flush=True)
        except FocusError as err:
            print(err.reason_name, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
