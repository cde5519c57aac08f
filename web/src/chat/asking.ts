import type { Api } from "../api/client";
import { asProblem, Problem } from "../api/problem";
import { Store } from "./store";
import { afterEvent, failed, isRunning, newTurn, stopped, type Turn } from "./turn";

/** Where and how a question is asked. */
export interface Request {
  readonly path: string;
  readonly body: object;
  readonly idempotencyKey?: string;
}

export interface AskingState {
  /** Oldest first; of all branches. */
  readonly turns: readonly Turn[];
}

/** Asks one question after the other and keeps their turns, as far as their streams have come. */
export abstract class Asking<S extends AskingState = AskingState> extends Store<S> {
  #abort: AbortController | undefined;

  constructor(
    protected readonly api: Api,
    initial: S,
  ) {
    super(initial);
  }

  get busy(): boolean {
    return this.state.turns.some(isRunning);
  }

  /** Adds the question and follows its answer to the end; nothing is thrown, the turn tells what came of it. */
  async ask(question: string): Promise<void> {
    await this.run(newTurn(randomId(), question));
  }

  /** Asks a question that failed again, in its place. */
  async retry(turn: Turn): Promise<void> {
    await this.run(newTurn(randomId(), turn.question), turn);
  }

  /** Stops the answer that is being written. */
  stop(): void {
    this.#abort?.abort();
  }

  /** How this turn is asked; may do what must come before, such as making the conversation. */
  protected abstract request(turn: Turn, signal: AbortSignal): Promise<Request>;

  /** Called with the head of the streamed response. */
  protected began(_turn: Turn, _head: Headers): void {}

  /** Called when a turn has ended. */
  protected ended(_turn: Turn): void {}

  protected setTurns(turns: readonly Turn[]): void {
    this.set({ turns } as Partial<S>);
  }

  /** Follows a turn to its end; `instead` of which other turn it shows. */
  protected async run(first: Turn, instead?: Turn): Promise<void> {
    if (this.busy) return;
    const abort = new AbortController();
    this.#abort = abort;
    let turn = first;
    const show = (next: Turn) => {
      const stopping = this.state.turns.some((other) => other.key === turn.key && other.phase === "stopping");
      turn = stopping && isRunning(next) ? { ...next, phase: "stopping" } : next;
      // A repeated question may turn out to be one that is stored, and shown, already.
      const same = (other: Turn) => other.key === turn.key || (turn.turnId !== undefined && other.turnId === turn.turnId);
      this.setTurns([...this.state.turns.filter((other) => other !== instead && !same(other)), turn]);
    };
    show(turn);
    while (isRunning(turn)) {
      try {
        const { path, ...options } = await this.request(turn, abort.signal);
        const began = (head: Headers) => this.began(turn, head);
        for await (const event of this.api.events(path, { ...options, signal: abort.signal, began })) {
          show(afterEvent(turn, event));
          if (!isRunning(turn)) break;
        }
        if (isRunning(turn)) throw new Problem("stream_cut", "The answer ended early.");
      } catch (error) {
        if (abort.signal.aborted) show(stopped(turn));
        else if (asProblem(error).reason === "idempotency_in_progress") await pause(asProblem(error).retryAfterSeconds ?? 1, abort.signal);
        else show(failed(turn, asProblem(error)));
      }
    }
    this.#abort = undefined;
    this.ended(turn);
  }
}

/** Waits some seconds, or until the signal. */
function pause(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** A random id; `crypto.randomUUID` is missing where the page is not a secure context. */
export function randomId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
