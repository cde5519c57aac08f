import type { Turn } from "./turn";

/** A turn on the shown path, with the turns that stand beside it as branches (itself among them, oldest first). */
export interface Placed {
  readonly turn: Turn;
  readonly siblings: readonly Turn[];
}

/**
 * The path through the branches that goes over the turn with the key `tip`, and on to the newest turn
 * below it; without a tip, to the newest turn of all. `turns` are of all branches, oldest first.
 */
export function pathOver(turns: readonly Turn[], tip?: string): Placed[] {
  const newest = turns.at(-1);
  if (!newest) return [];
  const byId = new Map(turns.map((turn) => [turn.turnId, turn]));
  const before = new Map(turns.map((turn, at) => [turn, turns[at - 1]]));
  // A parent that this page has not seen (another tab stored it): the turn before has to do.
  const parentOf = (turn: Turn) => (turn.parentId === undefined ? undefined : (byId.get(turn.parentId) ?? before.get(turn)));
  const children = new Map<Turn | undefined, Turn[]>();
  for (const turn of turns) {
    const parent = parentOf(turn);
    children.set(parent, [...(children.get(parent) ?? []), turn]);
  }
  const chosen = turns.find((turn) => turn.key === tip) ?? newest;
  const path: Placed[] = [];
  for (let turn: Turn | undefined = chosen; turn; turn = parentOf(turn)) {
    path.unshift({ turn, siblings: children.get(parentOf(turn)) ?? [turn] });
  }
  // Below the tip: at every fork the branch that holds the newest turn. Parents stand before their children.
  const latest = new Map(turns.map((turn, at) => [turn, at]));
  for (const turn of [...turns].reverse()) {
    const parent = parentOf(turn);
    if (parent) latest.set(parent, Math.max(latest.get(parent) ?? 0, latest.get(turn) ?? 0));
  }
  for (let below = children.get(chosen); below; ) {
    const next: Turn = below.reduce((best, turn) => ((latest.get(turn) ?? 0) > (latest.get(best) ?? 0) ? turn : best));
    path.push({ turn: next, siblings: below });
    below = children.get(next);
  }
  return path;
}
