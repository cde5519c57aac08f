import { beforeEach, describe, expect, it } from "vitest";

import { Problem } from "../src/api/problem";
import { type Exclusive, SESSION_KEY, TokenKeeper } from "../src/api/tokens";

/** localStorage, as far as the keeper needs it. */
class Shelf {
  readonly #items = new Map<string, string>();
  getItem = (key: string) => this.#items.get(key) ?? null;
  setItem = (key: string, value: string) => void this.#items.set(key, value);
  removeItem = (key: string) => void this.#items.delete(key);
}

/** A lock like `navigator.locks`: over all keepers of the test, in order. */
function lock(): Exclusive {
  let last: Promise<unknown> = Promise.resolve();
  return (task) => {
    const result = last.then(task);
    last = result.catch(() => undefined);
    return result;
  };
}

const noLock: Exclusive = (task) => task();

/** The session service's rule: a refresh token is good once; a second use revokes its whole family. */
class Server {
  down = false;
  revoked = false;
  asked = 0;
  #count = 0;
  readonly #good = new Set<string>();
  readonly loggedOut: string[] = [];

  post = async (path: string, body: object): Promise<unknown> => {
    await Promise.resolve();
    if (this.down) throw new Problem("store_unavailable", "Try again later.", { status: 503 });
    const { refresh_token: used = "" } = body as { refresh_token?: string };
    if (path === "/v1/auth/logout") return void this.loggedOut.push(used);
    if (path === "/v1/auth/refresh") {
      this.asked++;
      if (!this.#good.delete(used)) {
        this.revoked = true;
        this.#good.clear();
        throw new Problem("refresh_token_reused", "Sign in again.", { status: 401 });
      }
      await Promise.resolve();
    }
    return this.#tokens();
  };

  expireFamily(): void {
    this.#good.clear();
  }

  #tokens() {
    const number = ++this.#count;
    this.#good.add(`fr_${number}`);
    return { access_token: `at_${number}`, expires_in: 180, refresh_token: `fr_${number}` };
  }
}

describe("TokenKeeper", () => {
  let shelf: Shelf;
  let server: Server;
  let time: number;
  let exclusive: Exclusive;
  const tab = (by: Exclusive = exclusive) => new TokenKeeper(shelf, by, server.post, () => time);

  beforeEach(() => {
    shelf = new Shelf();
    server = new Server();
    time = 1_000_000;
    exclusive = lock();
  });

  it("gives the access token while it has time left and renews it before it ends", async () => {
    const keeper = tab();
    await keeper.signIn("ana@example.com", "a good password");
    expect(await keeper.bearer()).toBe("at_1");
    time += 149_000;
    expect(await keeper.bearer()).toBe("at_1");
    time += 2_000;
    expect(await keeper.bearer()).toBe("at_2");
    expect(keeper.session).toEqual({ account: "ana@example.com", refreshToken: "fr_2" });
  });

  it("keeps no access token in storage", async () => {
    await tab().signUp("ana@example.com", "a good password", "Ana");
    expect(shelf.getItem(SESSION_KEY)).not.toContain("at_1");
  });

  it("asks once for many requests at once", async () => {
    await tab().signIn("ana@example.com", "a good password");
    const reloaded = tab();
    const tokens = await Promise.all(Array.from({ length: 20 }, () => reloaded.bearer()));
    expect(new Set(tokens).size).toBe(1);
    expect(server.asked).toBe(1);
  });

  it("lets many tabs renew at once without using a refresh token twice", async () => {
    await tab().signIn("ana@example.com", "a good password");
    const tabs = Array.from({ length: 10 }, () => tab());
    await Promise.all(tabs.map((each) => each.bearer()));
    expect(server.revoked).toBe(false);
    expect(server.asked).toBe(10);
  });

  it("would use one twice without the lock: the check above can fail", async () => {
    await tab(noLock).signIn("ana@example.com", "a good password");
    await Promise.allSettled([tab(noLock).bearer(), tab(noLock).bearer()]);
    expect(server.revoked).toBe(true);
  });

  it("takes a refusal for final only if no other tab has brought a newer token", async () => {
    const keeper = tab(noLock);
    await keeper.signIn("ana@example.com", "a good password");
    const other = tab(noLock);
    const stale = shelf.getItem(SESSION_KEY) as string;
    await other.bearer();
    const fresh = shelf.getItem(SESSION_KEY) as string;
    // The first read is of before the other tab's renewal, every later one of after it.
    const reads = [stale];
    const racing = new TokenKeeper({ ...shelf, getItem: () => reads.shift() ?? fresh }, noLock, async (path, body) => {
      if ((body as { refresh_token: string }).refresh_token !== "fr_1") return server.post(path, body);
      throw new Problem("refresh_token_reused", "Sign in again.", { status: 401 });
    });
    expect(await racing.bearer()).toBe("at_3");
  });

  it("forgets the session when it was ended on the server", async () => {
    await tab().signIn("ana@example.com", "a good password");
    server.expireFamily();
    const keeper = tab();
    await expect(keeper.bearer()).rejects.toMatchObject({ status: 401 });
    expect(keeper.session).toBeUndefined();
    await expect(keeper.bearer()).rejects.toMatchObject({ reason: "credentials_missing" });
  });

  it("keeps the session while the server is away", async () => {
    await tab().signIn("ana@example.com", "a good password");
    server.down = true;
    const keeper = tab();
    await expect(keeper.bearer()).rejects.toMatchObject({ status: 503 });
    server.down = false;
    expect(await keeper.bearer()).toBe("at_2");
  });

  it("renews a token that the server refuses, once for all who were refused", async () => {
    const keeper = tab();
    await keeper.signIn("ana@example.com", "a good password");
    const token = await keeper.bearer();
    expect(await Promise.all([keeper.refused(token), keeper.refused(token)])).toEqual(["at_2", "at_2"]);
    expect(await keeper.refused(token)).toBe("at_2");
  });

  it("does not use one person's access token after another signed in elsewhere", async () => {
    const mine = tab();
    await mine.signIn("ana@example.com", "a good password");
    await tab().signIn("bia@example.com", "a good password");
    expect(await mine.bearer()).not.toBe("at_1");
    expect(mine.session?.account).toBe("bia@example.com");
  });

  it("signs out in all tabs and tells the server", async () => {
    const [first, second] = [tab(), tab()];
    await first.signIn("ana@example.com", "a good password");
    await second.bearer();
    await first.signOut();
    expect(second.session).toBeUndefined();
    await expect(second.bearer()).rejects.toMatchObject({ status: 401 });
    expect(server.loggedOut).toEqual(["fr_2"]);
  });

  it("signs out also when the server is away, and survives a damaged storage", async () => {
    const keeper = tab();
    await keeper.signIn("ana@example.com", "a good password");
    server.down = true;
    await keeper.signOut();
    expect(keeper.session).toBeUndefined();
    shelf.setItem(SESSION_KEY, "{broken");
    expect(keeper.session).toBeUndefined();
  });
});
