import { useEffect, useId, useMemo, useRef } from "preact/hooks";

import type { Api } from "../api/client";
import { Sharing } from "../chat/sharing";
import { useStore } from "../chat/store";
import { useWords } from "../i18n";
import { CopyButton } from "./CopyButton";
import { Icon } from "./icons";
import { ProblemNote } from "./ProblemNote";
import { href } from "./route";

interface Props {
  readonly api: Api;
  readonly conversationId: string;
  readonly onClose: () => void;
}

/** Makes, shows and withdraws the links to a conversation. */
export function ShareDialog({ api, conversationId, onClose }: Props) {
  const words = useWords();
  const { say } = words;
  const heading = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  const sharing = useMemo(() => new Sharing(api, conversationId), [api, conversationId]);
  const { shares, made, loading, problem } = useStore(sharing);
  useEffect(() => {
    dialog.current?.showModal();
    void sharing.load();
  }, [sharing]);
  const link = made && new URL(href({ page: "shared", secret: made.secret }), location.href).href;
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby={heading} onClose={onClose}>
      <header>
        <h2 id={heading}>{say.share}</h2>
        <button type="button" class="icon-button" aria-label={say.close} onClick={() => dialog.current?.close()}>
          <Icon name="close" />
        </button>
      </header>
      <p class="hint">{say.shareHint}</p>
      {problem && <ProblemNote problem={problem} />}
      {link && (
        <div class="notice">
          <p role="status">{say.shareOnce}</p>
          <div class="link-row">
            <input type="text" readOnly value={link} aria-label={say.shareLink} onFocus={(event) => event.currentTarget.select()} />
            <CopyButton text={link} label={say.copy} />
          </div>
        </div>
      )}
      <ul class="shares">
        {shares.map((share) => (
          <li key={share.share_id}>
            <span>{say.shareMadeAt(words.dateTime(share.created_at))}</span>
            <button type="button" class="quiet" disabled={loading} onClick={() => void sharing.withdraw(share)}>
              {say.shareWithdraw}
            </button>
          </li>
        ))}
        {shares.length === 0 && !loading && <li class="hint">{say.shareNone}</li>}
      </ul>
      <button type="button" class="primary" disabled={loading} onClick={() => void sharing.make()}>
        {say.shareMake}
      </button>
    </dialog>
  );
}
