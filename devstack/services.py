"""How each process of the house is started: its module, its settings, its probe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devstack import probes
from devstack.home import Home
from devstack.ports import Port
from devstack.process import Process, Ready, wait_until_ready

ROOT = Path(__file__).resolve().parents[1]
EMULATOR_KEY = "focus-emulator-key"
# Names that configure the house or reach its provider: only what the stack means to pass on is passed on.
OURS = ("FOCUS_", "GEMINI_", "GOOGLE_")
_PROVIDER_SECRETS = ("GEMINI_API_KEY", "FOCUS_LLM_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS")
_START_SECONDS = 60.0


@dataclass(slots=True)
class Service:
    """A process of ours that listens on one port, which it keeps over restarts."""

    process: Process
    port: Port = field(default_factory=Port)
    probe: Callable[[int], bool] = probes.grpc_ready

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return self.port.address

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://{self.port.address}"

    def start(self) -> Ready:
        """Starts it; it is ready later."""
        self.process.start()
        return Ready(self.process, lambda: self.probe(self.port.number))

    def restart(self) -> None:
        """Stops it if it runs, starts it and waits until it is ready. Raises StartError."""
        self.process.stop()
        wait_until_ready([self.start()], timeout=_START_SECONDS)


@dataclass(frozen=True, slots=True)
class Making:
    """What all processes of one stack have in common."""

    home: Home
    # Settings for all of them, by their full names; what the stack decides itself wins.
    settings: Mapping[str, str]
    # Descriptors to inherit, such as that of the lock which marks the stack as running.
    inherits: tuple[int, ...] = ()

    def process(self, name: str, module: str, arguments: Sequence[str] = (), **settings: str) -> Process:
        """`python -m module` with `settings` in its environment, not started."""
        return Process(
            name=name,
            command=[sys.executable, "-m", module, *arguments],
            log=self.home.log / f"{name}.log",
            environment={**_machine(), **self._shared(module), **settings},
            folder=ROOT,
            inherits=self.inherits,
        )

    def _shared(self, module: str) -> dict[str, str]:
        needs_provider = module == "services.llm"
        return {name: text for name, text in self.settings.items() if needs_provider or name not in _PROVIDER_SECRETS}

    def signing_keys(self) -> Process:
        """Makes the keys that sign tokens, if there are none, and ends."""
        folders = ["--signing-dir", str(self.home.signing_keys), "--jwks-dir", str(self.home.jwks)]
        return self.process("signing-keys", "services.session.signing_keys", folders)

    def migrations(self, database_url: str) -> Process:
        """Brings the schema up and ends."""
        return self.process("migrations", "services.session.migrate", FOCUS_SESSION_DATABASE_URL=database_url)

    def emulator(self, backend: str) -> Service:
        """The Gemini emulator."""
        port = Port()
        process = self.process(
            "emulator", "devstack.gemini", FOCUS_GEMINI_PORT=str(port.number), FOCUS_GEMINI_BACKEND=backend
        )
        return Service(process, port, lambda number: probes.http_ok(number, "/_emulator/state"))

    def session(self, name: str, database_url: str, valkey_url: str) -> Service:
        port = Port()
        process = self.process(
            name,
            "services.session",
            FOCUS_SESSION_GRPC_LISTEN=port.address,
            FOCUS_SESSION_DATABASE_URL=database_url,
            FOCUS_SESSION_VALKEY_URL=valkey_url,
            FOCUS_SESSION_SIGNING_KEYS_DIR=str(self.home.signing_keys),
            **_stopping("SESSION"),
        )
        return Service(process, port)

    def cache(self, name: str, valkey_url: str) -> Service:
        port = Port()
        process = self.process(
            name,
            "services.cache",
            FOCUS_CACHE_GRPC_LISTEN=port.address,
            FOCUS_CACHE_VALKEY_URL=valkey_url,
            FOCUS_CACHE_SECRETS_DIR=str(self.home.cache_secrets),
            **_stopping("CACHE"),
        )
        return Service(process, port)

    def llm(self, name: str, valkey_url: str, emulator_url: str | None) -> Service:
        """`emulator_url` None: the provider and key that `settings` name."""
        port = Port()
        provider: dict[str, str] = {}
        if emulator_url is not None:
            # A proxy that is not there: a call to the real provider could not leave the machine.
            provider = {"FOCUS_LLM_BASE_URL": emulator_url, "HTTPS_PROXY": "http://127.0.0.1:9"}
            if "FOCUS_LLM_KEYS_DIR" not in self.settings:
                provider["GEMINI_API_KEY"] = self.settings.get("GEMINI_API_KEY", EMULATOR_KEY)
        process = self.process(
            name,
            "services.llm",
            FOCUS_LLM_GRPC_LISTEN=port.address,
            FOCUS_LLM_VALKEY_URL=valkey_url,
            **provider,
            **_stopping("LLM"),
        )
        return Service(process, port)

    def gateway(
        self, name: str, port: Port, *, sessions: Sequence[Service], caches: Sequence[Service], llms: Sequence[Service]
    ) -> Service:
        process = self.process(
            name,
            "services.gateway",
            FOCUS_GATEWAY_LISTEN=port.address,
            FOCUS_GATEWAY_SESSION_TARGET=_target(sessions),
            FOCUS_GATEWAY_CACHE_TARGET=_target(caches),
            FOCUS_GATEWAY_LLM_TARGET=_target(llms),
            FOCUS_GATEWAY_JWKS_DIR=str(self.home.jwks),
            **_stopping("GATEWAY"),
        )
        return Service(process, port, lambda number: probes.http_ok(number, "/readyz"))


def _target(replicas: Sequence[Service]) -> str:
    """gRPC's name for one or several addresses."""
    if len(replicas) == 1:
        return replicas[0].address
    return "ipv4:///" + ",".join(replica.address for replica in replicas)


def _stopping(role: str) -> dict[str, str]:
    # Who presses Ctrl-C does not wait for the longest stream.
    return {f"FOCUS_{role}_STOP_GRACE_SECONDS": "5"}


def _machine() -> dict[str, str]:
    """The caller's environment without what configures the house."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
    # gRPC, too, would send its calls through a company's proxy.
    for name in ("no_proxy", "NO_PROXY"):
        kept[name] = ",".join(filter(None, [kept.get(name), "127.0.0.1", "localhost"]))
    return kept
