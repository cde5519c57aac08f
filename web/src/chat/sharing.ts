import type { Api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { NewShareFields, ShareFields } from "../api/wire";
import { Store } from "./store";
import { pathOf } from "./thread";

export interface SharingState {
  readonly shares: readonly ShareFields[];
  /** The link that was just made; its secret is told this once. */
  readonly made: NewShareFields | undefined;
  readonly loading: boolean;
  readonly problem: Problem | undefined;
}

/** The links by which others may read a conversation. */
export class Sharing extends Store<SharingState> {
  constructor(
    private readonly api: Api,
    private readonly conversationId: string,
  ) {
    super({ shares: [], made: undefined, loading: false, problem: undefined });
  }

  load(): Promise<void> {
    return this.#try(async () => {
      const { shares } = await this.api.call<{ shares: readonly ShareFields[] }>("GET", `${pathOf(this.conversationId)}/shares`);
      this.set({ shares });
    });
  }

  make(): Promise<void> {
    return this.#try(async () => {
      const made = await this.api.call<NewShareFields>("POST", `${pathOf(this.conversationId)}/shares`);
      this.set({ made, shares: [made, ...this.state.shares] });
    });
  }

  withdraw(share: ShareFields): Promise<void> {
    return this.#try(async () => {
      await this.api.call("DELETE", `/v1/shares/${share.share_id}`);
      const gone = this.state.made?.share_id === share.share_id;
      const shares = this.state.shares.filter((other) => other.share_id !== share.share_id);
      this.set({ shares, ...(gone ? { made: undefined } : {}) });
    });
  }

  async #try(step: () => Promise<void>): Promise<void> {
    this.set({ loading: true, problem: undefined });
    try {
      await step();
    } catch (error) {
      this.set({ problem: asProblem(error) });
    }
    this.set({ loading: false });
  }
}
