import type { Api } from "../api/client";
import type { ConversationFields, ConversationWithTurns } from "../api/wire";
import { storedTurn, type Turn } from "./turn";

const PAGE = 200;

/** Reads a conversation page by page; each step gives all turns so far, oldest first. */
export async function* readConversation(api: Api, path: string): AsyncGenerator<[ConversationFields, readonly Turn[]]> {
  let turns: readonly Turn[] = [];
  let cursor: string | null = null;
  do {
    const query = new URLSearchParams({ limit: String(PAGE), ...(cursor === null ? {} : { cursor }) });
    const page: ConversationWithTurns = await api.call("GET", `${path}?${query}`);
    turns = [...turns, ...page.turns.map(storedTurn)];
    yield [page, turns];
    cursor = page.next_cursor;
  } while (cursor !== null);
}
