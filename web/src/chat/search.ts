import type { Api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { FoundFields, SearchPage } from "../api/wire";
import { Store } from "./store";

export interface SearchState {
  readonly query: string;
  readonly found: readonly FoundFields[];
  readonly cursor: string | null;
  readonly loading: boolean;
  readonly problem: Problem | undefined;
}

/** Typing pauses this long, in milliseconds, before the words are looked for. */
const PAUSE = 300;
const NOTHING = { found: [], cursor: null, loading: false, problem: undefined } as const;

/** Looks for words in the person's own conversations. */
export class Search extends Store<SearchState> {
  #timer = 0;
  #abort: AbortController | undefined;

  constructor(private readonly api: Api) {
    super({ query: "", ...NOTHING });
  }

  /** Looks for these words once the typing pauses; for none, shows nothing. */
  look(query: string): void {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    const some = query.trim() !== "";
    this.set(some ? { query, loading: true } : { query, ...NOTHING });
    if (some) this.#timer = window.setTimeout(() => void this.#read(null), PAUSE);
  }

  async more(): Promise<void> {
    if (this.state.cursor !== null && !this.state.loading) await this.#read(this.state.cursor);
  }

  async #read(cursor: string | null): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    this.set({ loading: true, problem: undefined });
    try {
      const query = new URLSearchParams({ q: this.state.query.trim(), ...(cursor === null ? {} : { cursor }) });
      const page = await this.api.call<SearchPage>("GET", `/v1/conversations/search?${query}`, { signal: abort.signal });
      this.set({ found: cursor === null ? page.found : [...this.state.found, ...page.found], cursor: page.next_cursor, loading: false });
    } catch (error) {
      if (!abort.signal.aborted) this.set({ found: [], problem: asProblem(error), loading: false });
    }
  }
}
