import type { Api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { ConversationFields, ConversationWithTurns } from "../api/wire";
import { Asking, type AskingState, randomId, type Request } from "./asking";
import { storedTurn, type Turn } from "./turn";

export interface ThreadState extends AskingState {
  /** Undefined for a conversation that begins with its first question. */
  readonly conversation: ConversationFields | undefined;
  readonly loading: boolean;
  /** Why the stored turns could not be read. */
  readonly problem: Problem | undefined;
}

/** Tells the list beside the thread what has changed. */
export interface ThreadEvents {
  created(thread: Thread, conversation: ConversationFields): void;
  turned(thread: Thread): void;
}

const PAGE = 200;

/** One conversation: its stored turns and the one being answered. */
export class Thread extends Asking<ThreadState> {
  constructor(
    api: Api,
    private readonly events: ThreadEvents,
    private readonly conversationId?: string,
  ) {
    super(api, { turns: [], conversation: undefined, loading: false, problem: undefined });
  }

  get id(): string | undefined {
    return this.conversationId ?? this.state.conversation?.conversation_id;
  }

  /** Reads the stored turns, page by page, and shows them as they come. */
  async load(): Promise<void> {
    if (this.id === undefined || this.state.loading) return;
    this.set({ loading: true, problem: undefined });
    try {
      let cursor: string | null = null;
      let turns: readonly Turn[] = [];
      do {
        const query = new URLSearchParams({ limit: String(PAGE), ...(cursor === null ? {} : { cursor }) });
        const page: ConversationWithTurns = await this.api.call("GET", `${pathOf(this.id)}?${query}`);
        turns = [...turns, ...page.turns.map(storedTurn)];
        this.set({ conversation: page, turns });
        cursor = page.next_cursor;
      } while (cursor !== null);
    } catch (error) {
      this.set({ problem: asProblem(error) });
    }
    this.set({ loading: false });
  }

  protected override async request(turn: Turn, signal: AbortSignal): Promise<Request> {
    if (this.id === undefined) {
      const conversation = await this.api.call<ConversationFields>("POST", "/v1/conversations", { body: {}, signal });
      this.set({ conversation });
      this.events.created(this, conversation);
    }
    return { path: `${pathOf(this.id as string)}/turns`, body: { question: turn.question }, idempotencyKey: turn.key };
  }

  /** The same key where the first try may have been carried out: then its answer comes, not a second turn. */
  protected override keyForRetry(turn: Turn): string {
    return turn.problem?.outcomeUnknown && turn.turnId === undefined ? turn.key : randomId();
  }

  protected override ended(): void {
    this.events.turned(this);
  }
}

export function pathOf(conversationId: string): string {
  return `/v1/conversations/${encodeURIComponent(conversationId)}`;
}
