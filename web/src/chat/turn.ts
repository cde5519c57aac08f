import { Problem, problemFrom } from "../api/problem";
import type { ServerEvent } from "../api/sse";
import type { AnswerFields, EscalatedFields, QueuedFields, Tier, TurnFields, Usage } from "../api/wire";

/** What stands under an answer. */
export interface AnswerFacts {
  readonly tier: Tier | null;
  readonly model: string;
  readonly confidence: number | null;
  readonly fromCache: boolean;
  /** Written for another who asked the same a moment earlier. */
  readonly shared: boolean;
  readonly escalated: boolean;
  readonly usage: Usage;
  readonly costMicrousd: number;
  /** Why the answer is not whole. */
  readonly shortened: "limit" | "withheld" | undefined;
  readonly historyCut: boolean;
}

/** What a new turn stands after, or beside as a branch. */
export type Place =
  | { readonly kind: "next" }
  | { readonly kind: "after"; readonly turnId: string }
  | { readonly kind: "again" | "edited"; readonly turnId: string };

export type Phase = "waiting" | "queued" | "answering" | "stopping" | "answered" | "failed" | "stopped";

const RUNNING: ReadonlySet<Phase | undefined> = new Set(["waiting", "queued", "answering", "stopping"]);

/** A question with what has come of it so far, as the page shows it. */
export interface Turn {
  /** Stays the same while the page shows the turn; sent as its Idempotency-Key. */
  readonly key: string;
  readonly question: string;
  readonly phase: Phase;
  readonly text: string;
  readonly place: Place;
  /** The turn that this one follows; undefined where it opens the conversation. */
  readonly parentId: string | undefined;
  /** Undefined until it is stored. */
  readonly turnId?: string;
  readonly queued?: QueuedFields;
  readonly escalation?: EscalatedFields;
  readonly facts?: AnswerFacts;
  readonly problem?: Problem;
  readonly erased?: boolean;
}

export function isRunning(turn: Turn | undefined): boolean {
  return RUNNING.has(turn?.phase);
}

export function newTurn(key: string, question: string, place: Place = { kind: "next" }, parentId?: string): Turn {
  return { key, question, phase: "waiting", text: "", place, parentId };
}

/** The turn after one more event of its stream; an unknown event changes nothing. */
export function afterEvent(turn: Turn, event: ServerEvent): Turn {
  switch (event.name) {
    case "queued":
      return { ...turn, phase: "queued", queued: fieldsOf<QueuedFields>(event) };
    case "delta":
      return { ...turn, phase: "answering", text: turn.text + fieldsOf<{ text: string }>(event).text };
    case "escalated":
      // What the junior had begun to say is not part of the senior's answer.
      return { ...turn, phase: "waiting", text: "", escalation: fieldsOf<EscalatedFields>(event) };
    case "restarted":
      // Whoever wrote it is gone, and another begins anew.
      return { ...turn, phase: "waiting", text: "" };
    case "done":
      return ended(turn, fieldsOf<AnswerFields & Partial<TurnFields>>(event));
    case "error":
      return failed(turn, problemFrom(fieldsOf<unknown>(event)));
    default:
      return turn;
  }
}

export function failed(turn: Turn, problem: Problem): Turn {
  return { ...turn, phase: "failed", problem };
}

export function stopped(turn: Turn): Turn {
  return { ...turn, phase: "stopped" };
}

/** A turn as the gateway keeps it. */
export function storedTurn(fields: TurnFields): Turn {
  return ended(newTurn(fields.turn_id, fields.question), fields);
}

/** The turn with its outcome: an answer, unless the fields name another one. */
function ended(turn: Turn, fields: AnswerFields & Partial<TurnFields>): Turn {
  const known: Turn = {
    ...turn,
    text: fields.answer,
    ...(fields.turn_id === undefined ? {} : { turnId: fields.turn_id }),
    ...(fields.parent_turn_id === undefined ? {} : { parentId: fields.parent_turn_id ?? undefined }),
    ...(fields.erased ? { erased: true } : {}),
  };
  if (fields.outcome === "cancelled") return stopped(known);
  if (fields.outcome === "failure") {
    return failed(known, new Problem(fields.failure_reason ?? "internal", fields.failure_message ?? "This question was not answered."));
  }
  return { ...known, phase: "answered", facts: factsOf(fields) };
}

function factsOf(fields: AnswerFields & Partial<TurnFields>): AnswerFacts {
  return {
    tier: fields.tier,
    model: fields.model,
    confidence: fields.confidence,
    fromCache: fields.cache === "hit" || fields.cache === "stale",
    shared: fields.cache === "coalesced",
    escalated: fields.escalated,
    usage: fields.usage,
    costMicrousd: fields.cost_microusd,
    shortened: shortened(fields.finish_reason),
    historyCut: fields.history_cut ?? false,
  };
}

/** By the reason why the model stopped: but for these three the provider keeps something back. */
function shortened(finishReason: string | null): AnswerFacts["shortened"] {
  if (finishReason === "max_tokens") return "limit";
  return finishReason === null || finishReason === "stop" || finishReason === "cancelled" ? undefined : "withheld";
}

function fieldsOf<T>(event: ServerEvent): T {
  try {
    return JSON.parse(event.data) as T;
  } catch {
    throw new Problem("internal", "The server sent an event that cannot be read.");
  }
}
