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
  /** "hit" where no model was asked. */
  readonly cache: string;
  readonly usage: Usage;
  readonly cost_microusd: number;
  readonly escalated: boolean;
  readonly finish_reason?: string;
  readonly turn_id?: string;
  readonly seq?: number;
}

export interface QueuedFields {
  readonly position: number;
  readonly expected_wait_ms?: number;
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

export interface ConversationsPage {
  readonly conversations: readonly ConversationFields[];
  /** Null on the last page. */
  readonly next_cursor: string | null;
}

export interface TurnFields extends AnswerFields {
  readonly turn_id: string;
  readonly seq: number;
  readonly question: string;
  readonly outcome: "answer" | "failure" | "cancelled";
  readonly failure_reason?: string | null;
  readonly created_at: string;
}

export interface ConversationWithTurns extends ConversationFields {
  readonly turns: readonly TurnFields[];
  readonly next_cursor: string | null;
}
