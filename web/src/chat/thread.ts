import type { Api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { ConversationFields } from "../api/wire";
import { Asking, type AskingState, randomId, type Request } from "./asking";
import { type Placed, pathOver } from "./branches";
import { readConversation } from "./reading";
import { type Pending, takePending, rememberPending, forgetPending } from "./pending";
import { isRunning, newTurn, type Place, type Turn } from "./turn";

export interface ThreadState extends AskingState {
  /** Undefined for a conversation that begins with its first question. */
  readonly conversation: ConversationFields | undefined;
  readonly loading: boolean;
  /** Why the stored turns could not be read. */
  readonly problem: Problem | undefined;
  /** Key of the turn over which the shown path goes; undefined: to the newest. */
  readonly tip: string | undefined;
}

/** Tells the list beside the thread what has changed. */
export interface ThreadEvents {
  created(thread: Thread, conversation: ConversationFields): void;
  turned(): void;
}

const TURN_ID_HEADER = "x-turn-id";

/** One conversation: its stored turns and the one being answered. */
export class Thread extends Asking<ThreadState> {
  /** What the gateway calls the turn that is being answered. */
  #runningId: string | undefined;
  #stopWanted = false;

  constructor(
    api: Api,
    private readonly events: ThreadEvents,
    private readonly conversationId?: string,
  ) {
    super(api, { turns: [], conversation: undefined, loading: false, problem: undefined, tip: undefined });
  }

  /** Tells the threads of one page apart. */
  readonly name = randomId();

  get id(): string | undefined {
    return this.conversationId ?? this.state.conversation?.conversation_id;
  }

  /** The branch that shows, oldest turn first. */
  get path(): readonly Placed[] {
    return pathOver(this.state.turns, this.state.tip);
  }

  /** Reads the stored turns, page by page, and takes up a question that a reload of the page interrupted. */
  async load(): Promise<void> {
    if (this.id === undefined || this.state.loading) return;
    this.set({ loading: true, problem: undefined });
    try {
      for await (const [conversation, turns] of readConversation(this.api, pathOf(this.id))) this.set({ conversation, turns });
    } catch (error) {
      this.set({ problem: asProblem(error) });
    }
    this.set({ loading: false });
    const pending = this.state.problem ? undefined : takePending(this.id);
    if (pending) await this.run(newTurn(pending.key, pending.question, pending.place, pending.parentId));
  }

  /** Takes what the list has learnt of the conversation, such as the title that its first question gave it. */
  learn(conversation: ConversationFields): void {
    this.set({ conversation });
  }

  /** Shows the branch of this turn. */
  show(turn: Turn): void {
    this.set({ tip: turn.key });
  }

  /** Shows the branch of the turn with this id, as far as it is known. */
  showId(turnId: string): void {
    const turn = this.state.turns.find((other) => other.turnId === turnId);
    if (turn) this.show(turn);
  }

  override async ask(question: string): Promise<void> {
    const last = this.path.at(-1)?.turn;
    // A turn that was never stored cannot be followed: what it followed can.
    const parentId = last && (last.turnId ?? last.parentId);
    const newest = this.state.turns.findLast((turn) => turn.turnId !== undefined);
    const place: Place = parentId === undefined || parentId === newest?.turnId ? { kind: "next" } : { kind: "after", turnId: parentId };
    await this.#runAt(newTurn(randomId(), question, place, parentId));
  }

  /** Has the turn's question answered anew, as a branch beside it. */
  async regenerate(turn: Turn): Promise<void> {
    if (turn.turnId !== undefined) await this.#runAt(newTurn(randomId(), turn.question, { kind: "again", turnId: turn.turnId }, turn.parentId));
  }

  /** Asks another question in the turn's place, as a branch beside it. */
  async edit(turn: Turn, question: string): Promise<void> {
    if (turn.turnId !== undefined) await this.#runAt(newTurn(randomId(), question, { kind: "edited", turnId: turn.turnId }, turn.parentId));
  }

  /**
   * Where nobody knows what became of the first try, the same key is sent: then its answer comes, not a second
   * turn. A failure that was stored is tried again as a branch beside it.
   */
  override async retry(turn: Turn): Promise<void> {
    if (turn.turnId !== undefined) await this.regenerate(turn);
    else {
      const key = turn.problem?.outcomeUnknown ? turn.key : randomId();
      await this.#runAt(newTurn(key, turn.question, turn.place, turn.parentId), turn);
    }
  }

  /**
   * Ends the answer on the server too; what was written so far is stored, and the stream tells it. The turn's
   * id comes with the first event: until then the wish waits. Stopping once more just turns away.
   */
  override stop(): void {
    const turn = this.state.turns.find(isRunning);
    if (!turn) return;
    if (this.#stopWanted) return super.stop();
    this.#stopWanted = true;
    this.setTurns(this.state.turns.map((other) => (other === turn ? { ...turn, phase: "stopping" } : other)));
    this.#cancel();
  }

  #cancel(): void {
    if (!this.#stopWanted || this.id === undefined || this.#runningId === undefined) return;
    this.api.call("POST", `${pathOf(this.id)}/turns/${this.#runningId}/cancel`).catch(() => super.stop());
  }

  protected override async request(turn: Turn, signal: AbortSignal): Promise<Request> {
    if (this.id === undefined) {
      const conversation = await this.api.call<ConversationFields>("POST", "/v1/conversations", { body: {}, signal });
      this.set({ conversation });
      this.events.created(this, conversation);
    }
    const id = this.id as string;
    rememberPending(id, turn satisfies Pending);
    const turns = `${pathOf(id)}/turns`;
    const { place, question, key: idempotencyKey } = turn;
    switch (place.kind) {
      case "next":
        return { path: turns, body: { question }, idempotencyKey };
      case "after":
        return { path: turns, body: { question, parent_turn_id: place.turnId }, idempotencyKey };
      case "edited":
        return { path: `${turns}/${place.turnId}/edit`, body: { question }, idempotencyKey };
      case "again":
        return { path: `${turns}/${place.turnId}/regenerate`, body: {}, idempotencyKey };
    }
  }

  protected override began(_turn: Turn, head: Headers): void {
    this.#runningId = head.get(TURN_ID_HEADER) ?? undefined;
    this.#cancel();
  }

  protected override ended(): void {
    this.#runningId = undefined;
    this.#stopWanted = false;
    if (this.id !== undefined) forgetPending(this.id);
    this.events.turned();
  }

  async #runAt(turn: Turn, instead?: Turn): Promise<void> {
    if (this.busy) return;
    this.show(turn);
    await this.run(turn, instead);
  }
}

export function pathOf(conversationId: string): string {
  return `/v1/conversations/${encodeURIComponent(conversationId)}`;
}
