"""A question without a conversation: the design's steps 3 to 5."""

from __future__ import annotations

from focus.chat.v1 import chat_pb2
from services.common.errors import Cancelled
from services.flow.answering import generate, keep, look_up
from services.flow.clients import Clients
from services.flow.deadline import Deadline
from services.flow.flight import Course, Stopped
from services.flow.question import Answered, Question


async def run_ask(
    clients: Clients, principal: chat_pb2.Principal, question: Question, course: Course, deadline: Deadline
) -> Answered:
    """Answers from the cache (one call) or by a model (three). Ends when the client leaves.

    Raises what the llm service raised, DeadlineExceeded, and Cancelled after a stop.
    """
    try:
        with course.interruptible():
            # 3. An answer that is there already.
            kept = await look_up(clients.answers, principal, question, deadline)
            if kept is not None:
                return Answered(kept, "hit")
            # 4. A model's answer; its pieces go out as they come.
            answer = await generate(clients.models, principal, question.prompt(), course, deadline)
    except Stopped:
        raise Cancelled("The question was withdrawn before its answer was complete.") from None
    # 5. Kept for the next one who asks.
    await keep(clients.answers, principal, question, answer)
    return Answered(answer, "miss")
