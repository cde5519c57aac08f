/** What a caller is told when a request fails; the gateway's problem (RFC 9457) or a local reason. */
export class Problem extends Error {
  override readonly name = "Problem";

  constructor(
    /** Stable; the gateway's `reason`, or one of this page's own: "network", "stream_cut". */
    readonly reason: string,
    /** A sentence in English. */
    readonly detail: string,
    readonly options: { status?: number; requestId?: string; retryAfterSeconds?: number } = {},
  ) {
    super(detail);
  }

  get status(): number {
    return this.options.status ?? 0;
  }

  /** Finds the request in the logs; empty where the gateway was not reached. */
  get requestId(): string {
    return this.options.requestId ?? "";
  }

  get retryAfterSeconds(): number | undefined {
    return this.options.retryAfterSeconds;
  }

  /** True where nobody can tell whether the gateway has carried the request out. */
  get outcomeUnknown(): boolean {
    return this.reason === "network" || this.reason === "stream_cut";
  }
}

type Fields = Record<string, unknown>;

function text(fields: Fields, key: string): string | undefined {
  const value = fields[key];
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** A problem from its JSON fields; what the fields leave out comes from the response. */
export function problemFrom(body: unknown, response?: Response): Problem {
  const fields: Fields = typeof body === "object" && body !== null ? (body as Fields) : {};
  const status = typeof fields.status === "number" ? fields.status : (response?.status ?? 0);
  const requestId = text(fields, "request_id") ?? response?.headers.get("x-request-id") ?? undefined;
  const retryAfter = Number(response?.headers.get("retry-after") ?? fields.retry_after ?? Number.NaN);
  return new Problem(
    text(fields, "reason") ?? "internal",
    text(fields, "detail") ?? text(fields, "title") ?? `The server answered with status ${status}.`,
    {
      status,
      ...(requestId === undefined ? {} : { requestId }),
      ...(Number.isFinite(retryAfter) ? { retryAfterSeconds: retryAfter } : {}),
    },
  );
}

/** The problem that a failed response carries. */
export async function problemOf(response: Response): Promise<Problem> {
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    body = undefined; // A proxy's page, or a cut body: the status has to do.
  }
  return problemFrom(body, response);
}

/** Any thrown value as a problem; an abort is not one and is thrown on. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof DOMException && error.name === "AbortError") throw error;
  return new Problem("network", "The server could not be reached.");
}
