"""Those who ask the same at once in one process: one asks the cache and the model, the others watch it.

It saves a look-up and a stream for each of them, and is what is left of single-flight
when the cache cannot be reached.
"""

from __future__ import annotations

from dataclasses import dataclass

from focus.chat.v1 import chat_pb2
from services.common.errors import Cancelled, DeadlineExceeded, FocusError
from services.flow.flight import Course
from services.flow.question import CacheUse


@dataclass(frozen=True, slots=True)
class Found:
    """An answer, and where it comes from."""

    answer: chat_pb2.Answer
    cache: CacheUse
    # Seconds since it was stored; None: it is new.
    age: int | None = None
    # Names the stored answer to its tenant; empty: it is not kept.
    entry: bytes = b""


class Joint:
    """A question under way here, led by the flow of `course`."""

    def __init__(self, joints: Joints, key: tuple[str, bytes, bytes], course: Course) -> None:
        self.course = course
        self.followers = 0
        self.done = False
        self._found: Found | None = None
        self._failure: FocusError | None = None
        self._joints = joints
        self._key = key

    async def watch(self, course: Course) -> Found | None:
        """The leader's outcome; what it tells is told by `course` as well. None: somebody must begin anew.

        Raises the leader's failure, unless it was the leader's own doing.
        """
        leader, told, sent = self.course, self.course.told, 0
        self.followers += 1
        try:
            while True:
                moved = leader.moved()
                if leader.told is not told:
                    course.restart()
                    told, sent = leader.told, 0
                course.cache = leader.cache if leader.cache != "miss" else "coalesced"
                for event in told[sent:]:
                    course.emit(event)
                sent = len(told)
                if self.done:
                    break
                await moved.wait()
        finally:
            self.followers -= 1
        failure = self._failure
        if failure is not None:
            # One exception for each: a shared one would collect everybody's traces.
            raise FocusError(
                failure.message, failure.reason, retry_after=failure.retry_after, metadata=failure.metadata
            )
        if self._found is None:
            course.restart()
        return self._found

    def found(self, found: Found) -> None:
        """The outcome; to those who watch a new answer cost nothing."""
        if self.followers and found.cache == "miss":
            answer = chat_pb2.Answer()
            answer.CopyFrom(found.answer)
            found = Found(for_nothing(answer), "coalesced", entry=found.entry)
        self._end(found)

    def failed(self, failure: FocusError | None) -> None:
        """There is none. What is the leader's own doing (it left, its time was over) is nobody else's."""
        if not isinstance(failure, Cancelled | DeadlineExceeded):
            self._failure = self._failure or failure
        self._end(None)

    def _end(self, found: Found | None) -> None:
        if not self.done:
            self.done, self._found = True, found
            self._joints.forget(self._key)
            self.course.tell()


class Joints:
    """All questions under way in this process that others may join."""

    def __init__(self) -> None:
        self._joints: dict[tuple[str, bytes, bytes], Joint] = {}

    def get(self, key: tuple[str, bytes, bytes]) -> Joint | None:
        return self._joints.get(key)

    def lead(self, key: tuple[str, bytes, bytes], course: Course) -> Joint:
        """From now on others join `course`, until the joint ends."""
        joint = self._joints[key] = Joint(self, key, course)
        return joint

    def forget(self, key: tuple[str, bytes, bytes]) -> None:
        self._joints.pop(key, None)


def for_nothing(answer: chat_pb2.Answer) -> chat_pb2.Answer:
    """The answer without what it cost whoever paid for it."""
    answer.ClearField("usage")
    answer.ClearField("cost_microusd")
    return answer
