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
  readonly turns: readonly Turn[];
}

/** Asks one question after the other and keeps their turns, as far as their streams have come. */
export abstract class Asking<S extends AskingState> extends Store<S> {
  #abort: AbortController | undefined;

  constructor(
    protected readonly api: Api,
    initial: S,
  ) {
    super(initial);
  }

  get busy(): boolean {
    return isRunning(this.state.turns.at(-1));
  }

  /** Adds the question and follows its answer to the end; nothing is thrown, the turn tells what came of it. */
  async ask(question: string): Promise<void> {
    if (this.busy) return;
    await this.run(newTurn(randomId(), question));
  }

  /** Asks a failed or stopped question again, in its place. */
  async retry(turn: Turn): Promise<void> {
    if (this.busy) return;
    this.setTurns(this.state.turns.filter((other) => other.key !== turn.key));
    await this.run(newTurn(this.keyForRetry(turn), turn.question));
  }

  /** Stops the answer that is being written. */
  stop(): void {
    this.#abort?.abort();
  }

  /** How this turn is asked; may do what must come before, such as making the conversation. */
  protected abstract request(turn: Turn, signal: AbortSignal): Promise<Request>;

  protected keyForRetry(_turn: Turn): string {
    return randomId();
  }

  /** Called when a turn has ended. */
  protected ended(_turn: Turn): void {}

  protected setTurns(turns: readonly Turn[]): void {
    this.set({ turns } as Partial<S>);
  }

  protected async run(first: Turn): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    let turn = first;
    const show = (next: Turn) => {
      turn = next;
      const others = this.state.turns.filter((other) => other.key !== next.key);
      this.setTurns([...others, next]);
    };
    show(turn);
    try {
      const request = await this.request(turn, abort.signal);
      for await (const event of this.api.events(request.path, { ...request, signal: abort.signal })) {
        show(afterEvent(turn, event));
        if (!isRunning(turn)) break;
      }
      if (isRunning(turn)) throw new Problem("stream_cut", "The answer ended early.");
    } catch (error) {
      show(abort.signal.aborted ? stopped(turn) : failed(turn, asProblem(error)));
    }
    this.#abort = undefined;
    this.ended(turn);
  }
}

/** A random id; `crypto.randomUUID` is missing where the page is not a secure context. */
export function randomId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
