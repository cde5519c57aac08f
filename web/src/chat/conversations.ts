import type { Api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { ConversationFields, ConversationsPage } from "../api/wire";
import { Store } from "./store";
import { pathOf, Thread, type ThreadEvents } from "./thread";

/** What the person is told at the page's foot for a while. */
export type Notice =
  | { readonly kind: "deleted"; readonly conversation: ConversationFields }
  | { readonly kind: "problem"; readonly problem: Problem };

export interface ConversationsState {
  readonly list: readonly ConversationFields[];
  /** Where the next page begins; null after the last one. */
  readonly cursor: string | null;
  readonly loading: boolean;
  readonly problem: Problem | undefined;
  readonly notice: Notice | undefined;
}

const PAGE = 30;

/** The person's conversations, newest activity first, and the threads that the page has open. */
export class Conversations extends Store<ConversationsState> {
  readonly #threads = new Map<string, Thread>();
  readonly #events: ThreadEvents;

  constructor(
    private readonly api: Api,
    /** Called when a new thread has got its conversation. */
    onCreated: (conversationId: string) => void,
  ) {
    super({ list: [], cursor: null, loading: false, problem: undefined, notice: undefined });
    this.#events = {
      created: (thread, conversation) => {
        this.#threads.set(conversation.conversation_id, thread);
        this.set({ list: [conversation, ...this.state.list] });
        onCreated(conversation.conversation_id);
      },
      turned: () => void this.reload(),
    };
  }

  /** A thread that has no conversation yet. */
  newThread(): Thread {
    return new Thread(this.api, this.#events);
  }

  /** The thread of a conversation; the same one as before while its answer is being written. */
  thread(conversationId: string): Thread {
    let thread = this.#threads.get(conversationId);
    if (!thread) {
      thread = new Thread(this.api, this.#events, conversationId);
      this.#threads.set(conversationId, thread);
      void thread.load();
    }
    return thread;
  }

  /** Reads the first page anew. */
  async reload(): Promise<void> {
    await this.#read(null);
  }

  async more(): Promise<void> {
    if (this.state.cursor !== null && !this.state.loading) await this.#read(this.state.cursor);
  }

  async rename(conversation: ConversationFields, title: string): Promise<void> {
    this.#learn({ ...conversation, title });
    try {
      this.#learn(await this.api.call<ConversationFields>("PATCH", pathOf(conversation.conversation_id), { body: { title } }));
    } catch (error) {
      this.#learn(conversation);
      this.tell(error);
    }
  }

  /** Takes the conversation away, and offers to undo that. */
  async remove(conversation: ConversationFields): Promise<void> {
    try {
      await this.api.call("DELETE", pathOf(conversation.conversation_id));
    } catch (error) {
      return this.tell(error);
    }
    this.#threads.delete(conversation.conversation_id);
    const list = this.state.list.filter((other) => other.conversation_id !== conversation.conversation_id);
    this.set({ list, notice: { kind: "deleted", conversation } });
  }

  async restore(conversation: ConversationFields): Promise<void> {
    this.dismiss();
    try {
      await this.api.call("POST", `${pathOf(conversation.conversation_id)}/restore`);
    } catch (error) {
      return this.tell(error);
    }
    await this.reload();
  }

  /** Shows what could not be done. */
  tell(error: unknown): void {
    this.set({ notice: { kind: "problem", problem: asProblem(error) } });
  }

  dismiss(): void {
    this.set({ notice: undefined });
  }

  #learn(conversation: ConversationFields): void {
    const same = (other: ConversationFields) => other.conversation_id === conversation.conversation_id;
    this.set({ list: this.state.list.map((other) => (same(other) ? conversation : other)) });
    this.#threads.get(conversation.conversation_id)?.learn(conversation);
  }

  async #read(cursor: string | null): Promise<void> {
    this.set({ loading: true, problem: undefined });
    try {
      const query = new URLSearchParams({ limit: String(PAGE), ...(cursor === null ? {} : { cursor }) });
      const page = await this.api.call<ConversationsPage>("GET", `/v1/conversations?${query}`);
      for (const conversation of page.conversations) this.#threads.get(conversation.conversation_id)?.learn(conversation);
      const known = new Set(page.conversations.map((conversation) => conversation.conversation_id));
      const kept = this.state.list.filter((conversation) => !known.has(conversation.conversation_id));
      // A first page that is read anew stands before what further pages had brought.
      const deeper = cursor === null && this.state.list.length > PAGE;
      this.set({
        list: cursor === null ? [...page.conversations, ...(deeper ? kept : [])] : [...kept, ...page.conversations],
        cursor: deeper ? this.state.cursor : page.next_cursor,
      });
    } catch (error) {
      this.set({ problem: asProblem(error) });
    }
    this.set({ loading: false });
  }
}
