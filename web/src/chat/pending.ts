import type { Place, Turn } from "./turn";

/** A question whose answer was being written when the page went away. */
export type Pending = Pick<Turn, "key" | "question" | "parentId"> & { readonly place: Place };

const PREFIX = "focus.pending.";

/** Keeps the question in this tab: asked again with the same key after a reload, it brings the same answer. */
export function rememberPending(conversationId: string, { key, question, place, parentId }: Pending): void {
  sessionStorage.setItem(PREFIX + conversationId, JSON.stringify({ key, question, place, parentId }));
}

export function forgetPending(conversationId: string): void {
  sessionStorage.removeItem(PREFIX + conversationId);
}

/** The question that was kept, once. */
export function takePending(conversationId: string): Pending | undefined {
  const kept = sessionStorage.getItem(PREFIX + conversationId);
  forgetPending(conversationId);
  return kept === null ? undefined : (JSON.parse(kept) as Pending);
}
