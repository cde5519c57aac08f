import type { Api } from "../api/client";
import { Asking, type Request } from "./asking";
import type { Turn } from "./turn";

/** Questions that stand alone: nothing is kept on the server, and answers may come from the cache. */
export class OneQuestion extends Asking {
  constructor(api: Api) {
    super(api, { turns: [] });
  }

  protected override request(turn: Turn): Promise<Request> {
    return Promise.resolve({ path: "/v1/ask", body: { question: turn.question } });
  }
}
