"""The outermost layer of every request: ids, checks of the head, limits, errors as problems.

Pure ASGI: a middleware made of a class and two closures a request costs a few
microseconds, Starlette's BaseHTTPMiddleware a task and a stream.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Literal

from prometheus_client import Histogram
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route, Router
from starlette.types import Message, Receive, Scope, Send

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import context, logs
from services.common.errors import FocusError, Internal, InvalidRequest, NotFound
from services.gateway.bodies import ClientGone
from services.gateway.limits import Admission
from services.gateway.problems import problem_of

log = logs.get(__name__)

HTTP_SECONDS = Histogram(
    "focus_http_seconds",
    "Time from a request's head to the end of its answer.",
    ["route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)

# uri-host [":" port] (RFC 9110 section 7.2): a registered name, IPv4, or IPv6 in brackets.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")

# Probes are answered also when everything else is turned away.
_ALWAYS_ADMITTED = frozenset({"/healthz", "/readyz"})


class Edge:
    """Wraps the router."""

    def __init__(
        self,
        router: Router,
        admission: Admission,
        *,
        allowed_hosts: Sequence[str] = (),
        access_log: Literal["none", "errors", "all"] = "errors",
    ) -> None:
        self._router = router
        self._admission = admission
        self._allowed_hosts = frozenset(host.lower().encode() for host in allowed_hosts)
        # `labels` costs more than `observe`; there are only so many routes and statuses.
        self._series: dict[tuple[str, int], Histogram] = {}
        self._log_all = access_log == "all"
        self._log_errors = access_log != "none"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"only http is served here, not {scope['type']}")
        if scope["method"] == "HEAD":
            # The same but for the body (RFC 9110 section 9.3.2), which uvicorn keeps back.
            scope = {**scope, "method": "GET"}
        started = time.perf_counter()
        request_id, traceparent, fault = self._read_head(scope)
        call = context.bind(request_id, traceparent)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", call.request_id.encode()))
            await send(message)

        admitted = False
        failure: FocusError | None = None
        try:
            if fault is not None:
                raise fault
            if scope["path"] not in _ALWAYS_ADMITTED:
                self._admission.enter()
                admitted = True
            await self._router(scope, receive, answer)
        except ClientGone:
            pass
        except FocusError as err:
            failure = err
        except HTTPException as err:
            failure = self._routing_error(err, scope)
        except Exception as err:
            log.error("request failed by a defect", path=scope["path"], exc_info=err)
            failure = Internal("Something went wrong inside the service; the request id finds it in the logs.")
        finally:
            if admitted:
                self._admission.leave()
            if failure is None:
                self._account(scope, status, started, None)
        if failure is not None:
            if status:
                # The head is out: the broken connection is all that can be told now.
                self._account(scope, status, started, failure)
                raise failure
            problem = problem_of(failure, call.request_id)
            if fault is not None:
                # Where its body ends is in doubt (RFC 9112 section 6.1): no other request on this connection.
                problem.headers.append((b"connection", b"close"))
            await answer({"type": "http.response.start", "status": problem.status, "headers": problem.headers})
            await answer({"type": "http.response.body", "body": problem.body})
            self._account(scope, status, started, failure)

    def _read_head(self, scope: Scope) -> tuple[str | None, str | None, FocusError | None]:
        """Request id, trace and what is wrong with the head.

        httptools accepts a missing or second Host and `Transfer-Encoding: identity, chunked`;
        RFC 9112 (sections 3.2 and 6.1) does not, and proxies that read them otherwise
        let requests be smuggled.
        """
        request_id = traceparent = None
        hosts: list[bytes] = []
        fault: FocusError | None = None
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"x-request-id":
                request_id = value.decode("latin-1")
            elif name == b"traceparent":
                traceparent = value.decode("latin-1")
            elif name == b"transfer-encoding" and (
                value.strip().lower() != b"chunked" or scope["http_version"] == "1.0"
            ):
                fault = InvalidRequest("The only Transfer-Encoding that is understood is HTTP/1.1's 'chunked'.")
        if len(hosts) != 1 and not (scope["http_version"] == "1.0" and not hosts):
            fault = InvalidRequest("A request needs exactly one Host header.")
        elif hosts and _HOST.fullmatch(hosts[0]) is None:
            fault = InvalidRequest("The Host header is not a host name with an optional port.")
        elif hosts and self._allowed_hosts and not self._knows(hosts[0]):
            fault = InvalidRequest("This server does not serve that Host.", metadata={"status": "421"})
        return request_id, traceparent, fault

    def _knows(self, host: bytes) -> bool:
        name, _, port = host.rpartition(b":")
        return (name if name and port.isdigit() else host).lower() in self._allowed_hosts

    def _routing_error(self, err: HTTPException, scope: Scope) -> FocusError:
        if err.status_code == 405:
            allowed = ", ".join(sorted(self._methods(scope)))
            return InvalidRequest(
                f"This route takes {allowed}.",
                ErrorReason.ERROR_REASON_METHOD_NOT_ALLOWED,
                metadata={"allow": allowed},
            )
        return NotFound("There is no such route.", ErrorReason.ERROR_REASON_ROUTE_NOT_FOUND)

    def _methods(self, scope: Scope) -> set[str]:
        """All methods of the path: the router itself tells those of the first match only."""
        methods = {
            method
            for route in self._router.routes
            if isinstance(route, Route) and route.matches(scope)[0] != Match.NONE
            for method in route.methods or ()
        }
        return methods | {"HEAD"} if "GET" in methods else methods

    def _account(self, scope: Scope, status: int, started: float, failure: FocusError | None) -> None:
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "none")
        series = self._series.get((route, status))
        if series is None:
            series = self._series[route, status] = HTTP_SECONDS.labels(route, str(status or 499))
        series.observe(seconds)
        if self._log_all or (self._log_errors and status >= 500):
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status or 499,
                ms=round(seconds * 1000, 1),
                reason=failure.reason_name if failure is not None else None,
            )
