import { Problem } from "./problem";

/** What the sign-in routes answer. */
export interface TokenSet {
  readonly access_token: string;
  /** Seconds. */
  readonly expires_in: number;
  readonly refresh_token: string;
}

/** What all tabs of a browser share. */
export interface StoredSession {
  readonly account: string;
  readonly refreshToken: string;
}

/** Runs one task at a time over all tabs; `navigator.locks` where the page is a secure context. */
export type Exclusive = <T>(task: () => Promise<T>) => Promise<T>;

/** Posts JSON and gives the answer's fields; throws a Problem. */
export type Post = (path: string, body: object) => Promise<unknown>;

type Shelf = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export const SESSION_KEY = "focus.session";
/** An access token is renewed when it has less than this left, in milliseconds. */
const MARGIN = 30_000;

/**
 * Keeps a person's tokens: the access token in memory, the refresh token in storage for all tabs.
 *
 * A refresh token is good for one use (RFC 9700, section 4.14), so tabs take turns: each reads the token
 * inside the lock, after whoever was before has written its successor. Without Web Locks two tabs may
 * present the same token; the server's grace period covers that, and a refusal is taken for final
 * only if the stored token is still the refused one.
 */
export class TokenKeeper {
  #access: { token: string; account: string; expiresAt: number } | undefined;
  #renewal: Promise<string> | undefined;

  constructor(
    private readonly shelf: Shelf,
    private readonly exclusive: Exclusive,
    private readonly post: Post,
    private readonly now: () => number = Date.now,
  ) {}

  /** Who is signed in, in any tab; undefined for nobody. */
  get session(): StoredSession | undefined {
    try {
      const value: unknown = JSON.parse(this.shelf.getItem(SESSION_KEY) ?? "null");
      if (typeof value !== "object" || value === null) return undefined;
      const { account, refreshToken } = value as Partial<StoredSession>;
      return typeof account === "string" && typeof refreshToken === "string" ? { account, refreshToken } : undefined;
    } catch {
      return undefined;
    }
  }

  async signUp(email: string, password: string, displayName: string): Promise<void> {
    await this.#enter(email, "/v1/auth/signup", { email, password, display_name: displayName });
  }

  async signIn(email: string, password: string): Promise<void> {
    await this.#enter(email, "/v1/auth/token", { email, password });
  }

  /** A token with some time left; throws a Problem with status 401 when the person has to sign in again. */
  async bearer(): Promise<string> {
    const access = this.#access;
    if (access && access.account === this.session?.account && access.expiresAt - this.now() > MARGIN) return access.token;
    return this.#renew();
  }

  /** Told that the server refused this token: gives another one, or throws as `bearer` does. */
  async refused(token: string): Promise<string> {
    if (this.#access?.token === token) this.#access = undefined;
    return this.bearer();
  }

  /** Signs out in all tabs; the server is told as far as it can be reached. */
  async signOut(): Promise<void> {
    await this.exclusive(async () => {
      const session = this.session;
      this.#access = undefined;
      this.shelf.removeItem(SESSION_KEY);
      if (session) await this.post("/v1/auth/logout", { refresh_token: session.refreshToken }).catch(() => undefined);
    });
  }

  async #enter(account: string, path: string, body: object): Promise<void> {
    const tokens = await this.post(path, body);
    await this.exclusive(async () => this.#keep(account, tokens as TokenSet));
  }

  #keep(account: string, tokens: TokenSet): string {
    const session: StoredSession = { account, refreshToken: tokens.refresh_token };
    this.shelf.setItem(SESSION_KEY, JSON.stringify(session));
    this.#access = { token: tokens.access_token, account, expiresAt: this.now() + tokens.expires_in * 1000 };
    return tokens.access_token;
  }

  /** One renewal at a time in this tab, and by the lock in all of them. */
  #renew(): Promise<string> {
    this.#renewal ??= this.exclusive(() => this.#exchange()).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  async #exchange(): Promise<string> {
    for (let session = this.session; session; ) {
      try {
        const tokens = await this.post("/v1/auth/refresh", { refresh_token: session.refreshToken });
        // Whoever signed out or changed the account meanwhile (possible without locks) has the last word.
        if (this.session?.account !== session.account) break;
        return this.#keep(session.account, tokens as TokenSet);
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 401) throw error;
        const newer: StoredSession | undefined = this.session;
        if (newer?.refreshToken === session.refreshToken) {
          this.shelf.removeItem(SESSION_KEY);
          throw error;
        }
        session = newer;
      }
    }
    throw new Problem("credentials_missing", "Sign in again.", { status: 401 });
  }
}

/** Web Locks over all tabs; where the browser offers none (plain HTTP on a foreign host), no lock. */
export function exclusiveByWebLocks(name: string): Exclusive {
  const locks = (globalThis.navigator as Navigator | undefined)?.locks as LockManager | undefined;
  if (!locks) return (task) => task();
  return (task) => locks.request(name, task) as ReturnType<typeof task>;
}
