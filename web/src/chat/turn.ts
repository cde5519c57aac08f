import { Problem, problemFrom } from "../api/problem";
import type { ServerEvent } from "../api/sse";
import type { AnswerFields, EscalatedFields, QueuedFields, Tier, TurnFields, Usage } from "../api/wire";

/** What stands under an answer. */
export interface AnswerFacts {
  readonly tier: Tier | null;
  readonly model: string;
  readonly confidence: number | null;
  readonly fromCache: boolean;
  readonly escalated: boolean;
  readonly usage: Usage;
  readonly costMicrousd: number;
  readonly cutAtLimit: boolean;
}

export type Phase = "waiting" | "queued" | "answering" | "answered" | "failed" | "stopped";

/** A question with what has come of it so far, as the page shows it. */
export interface Turn {
  /** Stays the same while the page shows the turn. */
  readonly key: string;
  readonly question: string;
  readonly phase: Phase;
  readonly text: string;
  readonly turnId?: string;
  readonly seq?: number;
  readonly queued?: QueuedFields;
  readonly escalation?: EscalatedFields;
  readonly facts?: AnswerFacts;
  readonly problem?: Problem;
}

export function isRunning(turn: Turn | undefined): boolean {
  return turn?.phase === "waiting" || turn?.phase === "queued" || turn?.phase === "answering";
}

export function newTurn(key: string, question: string): Turn {
  return { key, question, phase: "waiting", text: "" };
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
    case "done":
      return answered(turn, fieldsOf<AnswerFields>(event));
    case "error":
      return failed(turn, problemFrom(fieldsOf<unknown>(event)));
    default:
      return turn;
  }
}

export function answered(turn: Turn, fields: AnswerFields): Turn {
  return {
    ...turn,
    phase: "answered",
    text: fields.answer,
    facts: factsOf(fields),
    ...(fields.turn_id === undefined ? {} : { turnId: fields.turn_id }),
    ...(fields.seq === undefined ? {} : { seq: fields.seq }),
  };
}

export function failed(turn: Turn, problem: Problem): Turn {
  return { ...turn, phase: "failed", problem };
}

export function stopped(turn: Turn): Turn {
  return { ...turn, phase: "stopped" };
}

/** A turn as the gateway keeps it. */
export function storedTurn(fields: TurnFields): Turn {
  const turn: Turn = { ...newTurn(fields.turn_id, fields.question), turnId: fields.turn_id, seq: fields.seq };
  if (fields.outcome === "answer") return answered(turn, fields);
  if (fields.outcome === "cancelled") return { ...stopped(turn), text: fields.answer };
  const reason = (fields.failure_reason ?? "internal").toLowerCase();
  return failed(turn, new Problem(reason, "This question could not be answered."));
}

function factsOf(fields: AnswerFields): AnswerFacts {
  return {
    tier: fields.tier,
    model: fields.model,
    confidence: fields.confidence,
    fromCache: fields.cache === "hit",
    escalated: fields.escalated,
    usage: fields.usage,
    costMicrousd: fields.cost_microusd,
    cutAtLimit: fields.finish_reason === "max_tokens",
  };
}

function fieldsOf<T>(event: ServerEvent): T {
  try {
    return JSON.parse(event.data) as T;
  } catch {
    throw new Problem("internal", "The server sent an event that cannot be read.");
  }
}
