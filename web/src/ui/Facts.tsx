import type { AnswerFacts } from "../chat/turn";
import { useWords } from "../i18n";
import { Icon } from "./icons";

/** Who answered, how sure, from where, and what it took. */
export function Facts({ facts }: { readonly facts: AnswerFacts }) {
  const words = useWords();
  const { say } = words;
  const { usage } = facts;
  const input = words.count(usage.prompt_tokens);
  const output = words.count(usage.output_tokens + usage.thought_tokens);
  return (
    <ul class="facts" aria-label={say.facts}>
      {facts.tier && (
        <li class={`badge ${facts.tier}`} data-fact="tier" title={facts.tier === "senior" ? say.seniorHint : say.juniorHint}>
          {say[facts.tier]}
        </li>
      )}
      {facts.escalated && (
        <li class="badge" data-fact="escalated" title={say.escalatedHint}>
          <Icon name="up" />
          {say.escalatedBadge}
        </li>
      )}
      {facts.fromCache && (
        <li class="badge cached" data-fact="cache" title={say.fromCacheHint}>
          <Icon name="cached" />
          {say.fromCache}
        </li>
      )}
      {facts.shared && (
        <li class="badge cached" data-fact="cache" title={say.sharedHint}>
          <Icon name="cached" />
          {say.shared}
        </li>
      )}
      {facts.confidence !== null && (
        <li class="fact" data-fact="confidence" title={say.sureHint}>
          {say.sure(words.percent(facts.confidence))}
        </li>
      )}
      <li class="fact" data-fact="model">{facts.model}</li>
      {!facts.fromCache && !facts.shared && (
        <>
          <li class="fact" data-fact="cost" title={say.cost}>{words.dollars(facts.costMicrousd)}</li>
          <li
            class="fact"
            data-fact="tokens"
            title={say.tokensHint(words.count(usage.cached_tokens), words.count(usage.thought_tokens))}
          >
            {say.tokens(input, output)}
          </li>
        </>
      )}
    </ul>
  );
}
