import { asProblem, Problem, problemOf } from "./problem";
import { readEvents, type ServerEvent } from "./sse";

/** Who asks: a person's tokens or an API key. */
export interface Credentials {
  bearer(): Promise<string>;
  /** Told that the server refused the token and why; gives another one, or throws where there is none. */
  refused(token: string, problem: Problem): Promise<string>;
}

/** An API key, which nothing can renew. */
export class ApiKey implements Credentials {
  constructor(private readonly key: string) {}

  bearer(): Promise<string> {
    return Promise.resolve(this.key);
  }

  refused(_token: string, problem: Problem): Promise<string> {
    return Promise.reject(problem);
  }
}

export interface CallOptions {
  readonly body?: object | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly idempotencyKey?: string | undefined;
}

export interface StreamOptions extends CallOptions {
  /** Called with the response's headers, before its first event. */
  readonly began?: (head: Headers) => void;
}

type Fetch = (path: string, init: RequestInit) => Promise<Response>;

/** The gateway's API. Every failure is thrown as a Problem; only an abort stays an AbortError. */
export class Api {
  constructor(
    private readonly credentials: Credentials | undefined,
    private readonly fetch: Fetch = (path, init) => globalThis.fetch(path, init),
  ) {}

  /** The JSON answer; undefined where the response has no body. */
  async call<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    const response = await this.#request(method, path, "application/json", options);
    if (response.status === 204) return undefined as T;
    try {
      return (await response.json()) as T;
    } catch (error) {
      throw asProblem(error);
    }
  }

  /** The answer as a file of the given media type. */
  async file(path: string, mediaType: string): Promise<Blob> {
    const response = await this.#request("GET", path, mediaType, {});
    return response.blob().catch((error: unknown) => {
      throw asProblem(error);
    });
  }

  /** The events of a streamed answer. */
  async *events(path: string, options: StreamOptions): AsyncGenerator<ServerEvent> {
    const response = await this.#request("POST", path, "text/event-stream", options);
    options.began?.(response.headers);
    if (!response.body) throw new Problem("stream_cut", "The answer ended early.");
    try {
      yield* readEvents(response.body);
    } catch (error) {
      if (asProblem(error).reason !== "network") throw error;
      throw new Problem("stream_cut", "The connection was lost in the middle of the answer.", {
        requestId: response.headers.get("x-request-id") ?? "",
      });
    }
  }

  async #request(method: string, path: string, accept: string, options: CallOptions): Promise<Response> {
    let token = await this.credentials?.bearer();
    for (let attempt = 1; ; attempt++) {
      const headers: Record<string, string> = { Accept: accept };
      if (token !== undefined) headers.Authorization = `Bearer ${token}`;
      if (options.body !== undefined) headers["Content-Type"] = "application/json";
      if (options.idempotencyKey !== undefined) headers["Idempotency-Key"] = options.idempotencyKey;
      // The gateway's answers say no-store. Said here, the browser would ask for an answer from no cache at all.
      const init: RequestInit = { method, headers };
      if (options.body !== undefined) init.body = JSON.stringify(options.body);
      if (options.signal) init.signal = options.signal;
      const response = await this.fetch(path, init).catch((error: unknown) => {
        throw asProblem(error);
      });
      if (response.ok) return response;
      const problem = await problemOf(response);
      if (problem.status !== 401 || attempt > 1 || !this.credentials || token === undefined) throw problem;
      token = await this.credentials.refused(token, problem);
    }
  }
}
