/** The fields of the gateway's JSON, as `/openapi.json` describes them. */

export type Tier = "junior" | "senior";

export interface Usage {
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly output_tokens: number;
  readonly thought_tokens: number;
}

/** What an answer says beside its text. */
export interface AnswerFields {
  readonly answer: string;
  readonly tier: Tier | null;
  readonly model: string;
  /** 0 to 1; null where the model did not say. */
  readonly confidence: number | null;
  readonly finish_reason: string | null;
  readonly escalated: boolean;
  readonly usage: Usage;
  readonly cost_microusd: number;
  /** But for "miss" and "bypass" no model was asked for this reader. Stored turns do not tell it. */
  readonly cache?: "hit" | "miss" | "stale" | "coalesced" | "bypass" | null;
}

export interface TurnFields extends AnswerFields {
  readonly turn_id: string;
  readonly seq: number;
  readonly parent_turn_id: string | null;
  readonly question: string;
  readonly outcome: "answer" | "failure" | "cancelled";
  readonly failure_reason: string | null;
  readonly failure_message: string | null;
  readonly erased: boolean;
  readonly created_at: string;
  readonly history_cut?: boolean | null;
}

export interface QueuedFields {
  readonly waiting_for: "conversation" | "quota";
  /** 1 is next. */
  readonly position: number;
  /** 0 where it is not known. */
  readonly expected_wait_ms: number;
}

export interface EscalatedFields {
  readonly confidence: number;
  readonly threshold: number;
  readonly model: string;
}

export interface ConversationFields {
  readonly conversation_id: string;
  readonly title: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly turn_count: number;
}

/** `next_cursor` is null on the last page. */
export interface ConversationsPage {
  readonly conversations: readonly ConversationFields[];
  readonly next_cursor: string | null;
}

export interface ConversationWithTurns extends ConversationFields {
  readonly turns: readonly TurnFields[];
  readonly next_cursor: string | null;
}

export interface FoundFields {
  readonly conversation_id: string;
  readonly title: string;
  readonly turn_id: string;
  readonly snippet: string;
}

export interface SearchPage {
  readonly found: readonly FoundFields[];
  readonly next_cursor: string | null;
}

export interface ShareFields {
  readonly share_id: string;
  readonly created_at: string;
}

export interface NewShareFields extends ShareFields {
  /** Told once. */
  readonly secret: string;
}
