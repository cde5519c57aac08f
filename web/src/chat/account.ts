import { Api, ApiKey, type Credentials } from "../api/client";
import { exclusiveByWebLocks, SESSION_KEY, TokenKeeper } from "../api/tokens";
import { Store } from "./store";

const API_KEY = "focus.api_key";

/** Who uses the page, with the API that speaks for them. */
export interface Caller {
  /** The e-mail address; empty for an API key. */
  readonly name: string;
  readonly api: Api;
}

export interface AccountState {
  readonly caller: Caller | undefined;
  /** True when a session ended without the person's asking. */
  readonly ended: boolean;
}

/** Signs people in and out, in step with the other tabs. */
export class Account extends Store<AccountState> {
  readonly #tokens = new TokenKeeper(localStorage, exclusiveByWebLocks("focus.session"), (path, body) =>
    new Api(undefined).call("POST", path, { body }),
  );

  constructor() {
    super({ caller: undefined, ended: false });
    this.#settle();
  }

  async signIn(email: string, password: string): Promise<void> {
    await this.#tokens.signIn(email, password);
    this.#settle();
  }

  async signUp(email: string, password: string, displayName: string): Promise<void> {
    await this.#tokens.signUp(email, password, displayName);
    this.#settle();
  }

  /** Uses the key in this tab if the gateway knows it; throws the Problem that it answers. */
  async useApiKey(key: string): Promise<void> {
    await new Api(new ApiKey(key)).call("GET", "/v1/conversations?limit=1");
    sessionStorage.setItem(API_KEY, key);
    this.#settle();
  }

  async signOut(): Promise<void> {
    const byKey = sessionStorage.getItem(API_KEY) !== null;
    sessionStorage.clear(); // The key, and questions whose answers were on their way.
    if (!byKey) await this.#tokens.signOut();
    location.hash = "";
    this.#settle();
  }

  /** Follows what other tabs do with the session; gives what ends that. */
  follow(): () => void {
    const changed = (event: StorageEvent) => {
      if (event.key === SESSION_KEY || event.key === null) this.#settle();
    };
    addEventListener("storage", changed);
    return () => removeEventListener("storage", changed);
  }

  #settle(): void {
    const key = sessionStorage.getItem(API_KEY);
    const name = key === null ? this.#tokens.session?.account : "";
    if (name === this.state.caller?.name) return;
    const credentials = key === null ? this.#watched(this.#tokens) : new ApiKey(key);
    this.set({ caller: name === undefined ? undefined : { name, api: new Api(credentials) }, ended: false });
  }

  /** The tokens; when they have run out for good, the sign-in shows. */
  #watched(tokens: TokenKeeper): Credentials {
    const checked = async (token: Promise<string>): Promise<string> => {
      try {
        return await token;
      } catch (error) {
        if (!tokens.session) this.set({ caller: undefined, ended: true });
        throw error;
      }
    };
    return { bearer: () => checked(tokens.bearer()), refused: (token) => checked(tokens.refused(token)) };
  }
}
