import { useEffect, useState } from "preact/hooks";

import type { Problem } from "../api/problem";
import { useWords } from "../i18n";
import { Icon } from "./icons";

interface Props {
  readonly problem: Problem;
  readonly onRetry?: (() => void) | undefined;
}

/** A problem in plain words, with what finds it in the logs and a way to try again. */
export function ProblemNote({ problem, onRetry }: Props) {
  const words = useWords();
  const wait = useCountdown(problem);
  return (
    <div class="problem">
      <Icon name="alert" />
      <div>
        <p role="alert">{words.problem(problem)}</p>
        {problem.requestId && (
          <p class="request-id">
            {words.say.requestId} <code>{problem.requestId}</code>
          </p>
        )}
        {onRetry && (
          <button type="button" class="small" disabled={wait > 0} onClick={onRetry}>
            <Icon name="retry" />
            {wait > 0 ? words.say.retryIn(wait) : words.say.retry}
          </button>
        )}
      </div>
    </div>
  );
}

/** Seconds until the server wants to be asked again. */
function useCountdown(problem: Problem): number {
  const [left, setLeft] = useState(Math.ceil(problem.retryAfterSeconds ?? 0));
  useEffect(() => {
    setLeft(Math.ceil(problem.retryAfterSeconds ?? 0));
    const timer = setInterval(() => setLeft((seconds) => Math.max(0, seconds - 1)), 1000);
    return () => clearInterval(timer);
  }, [problem]);
  return left;
}
