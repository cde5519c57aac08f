import { describe, expect, it } from "vitest";

import { pathOver } from "../src/chat/branches";
import { newTurn, type Turn } from "../src/chat/turn";

function stored(id: string, parentId?: string): Turn {
  return { ...newTurn(id, `Q${id}`, { kind: "next" }, parentId), turnId: id, phase: "answered" };
}

const ids = (turns: readonly Turn[], tip?: string) => pathOver(turns, tip).map(({ turn }) => turn.key);

// 1 - 2 - 3
//   \ 4 - 6
//     \ 5      (4 and 2 are branches of 1's answer; 5 and 6 of 4's)
const TREE = [stored("1"), stored("2", "1"), stored("3", "2"), stored("4", "1"), stored("5", "4"), stored("6", "4")];

describe("the path through the branches", () => {
  it("leads to the newest turn", () => {
    expect(ids([])).toEqual([]);
    expect(ids(TREE)).toEqual(["1", "4", "6"]);
  });

  it("goes over the chosen turn and on to the newest below it", () => {
    expect(ids(TREE, "2")).toEqual(["1", "2", "3"]);
    expect(ids(TREE, "5")).toEqual(["1", "4", "5"]);
    expect(ids(TREE, "1")).toEqual(["1", "4", "6"]);
    expect(ids(TREE, "gone")).toEqual(["1", "4", "6"]);
  });

  it("tells the branches at each place", () => {
    expect(pathOver(TREE).map(({ siblings }) => siblings.map((turn) => turn.key))).toEqual([["1"], ["2", "4"], ["5", "6"]]);
  });

  it("has branches of the first question too", () => {
    const turns = [stored("1"), stored("2")];
    expect(ids(turns)).toEqual(["2"]);
    expect(pathOver(turns)[0]?.siblings).toHaveLength(2);
  });

  it("shows a turn that is not stored yet after what it follows", () => {
    expect(ids([...TREE, newTurn("live", "Q", { kind: "after", turnId: "3" }, "3")])).toEqual(["1", "2", "3", "live"]);
  });

  it("keeps what was there when another tab stored the parent", () => {
    expect(ids([stored("1"), stored("2", "1"), stored("9", "8")])).toEqual(["1", "2", "9"]);
  });

  it("is soon found in a long conversation", { timeout: 2000 }, () => {
    const turns = Array.from({ length: 20_000 }, (_, at) => stored(String(at), at === 0 ? undefined : String(at - 1)));
    expect(pathOver(turns)).toHaveLength(20_000);
    expect(pathOver(turns, "0")).toHaveLength(20_000);
  });
});
