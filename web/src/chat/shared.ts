import { Api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { ConversationFields } from "../api/wire";
import { type Placed, pathOver } from "./branches";
import { readConversation } from "./reading";
import { Store } from "./store";
import type { Turn } from "./turn";

export interface SharedState {
  readonly conversation: ConversationFields | undefined;
  readonly turns: readonly Turn[];
  readonly tip: string | undefined;
  readonly loading: boolean;
  readonly problem: Problem | undefined;
}

/** A conversation that somebody shared by a link; nobody has to be signed in. */
export class SharedConversation extends Store<SharedState> {
  readonly #api = new Api(undefined);

  constructor(private readonly secret: string) {
    super({ conversation: undefined, turns: [], tip: undefined, loading: false, problem: undefined });
  }

  get path(): readonly Placed[] {
    return pathOver(this.state.turns, this.state.tip);
  }

  show(turn: Turn): void {
    this.set({ tip: turn.key });
  }

  async load(): Promise<void> {
    this.set({ loading: true, problem: undefined });
    try {
      const path = `/v1/shared/${encodeURIComponent(this.secret)}`;
      for await (const [conversation, turns] of readConversation(this.#api, path)) this.set({ conversation, turns });
    } catch (error) {
      this.set({ problem: asProblem(error) });
    }
    this.set({ loading: false });
  }
}
