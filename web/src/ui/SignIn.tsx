import { useId, useState } from "preact/hooks";
import type { InputHTMLAttributes, TargetedSubmitEvent } from "preact";

import { asProblem, type Problem } from "../api/problem";
import type { Account } from "../chat/account";
import { type Language, useWords } from "../i18n";
import { Mark } from "./icons";
import { LanguageSwitch } from "./LanguageSwitch";
import { ProblemNote } from "./ProblemNote";

const WAYS = ["signIn", "signUp", "apiKey"] as const;

interface Props {
  readonly account: Account;
  readonly ended: boolean;
  readonly onLanguage: (language: Language) => void;
}

/** Signing in, signing up, or pasting an API key. */
export function SignIn({ account, ended, onLanguage }: Props) {
  const { say } = useWords();
  const [way, setWay] = useState<(typeof WAYS)[number]>("signIn");
  const [problem, setProblem] = useState<Problem>();
  const [busy, setBusy] = useState(false);

  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const field = (name: string) => String(form.get(name) ?? "");
    setBusy(true);
    setProblem(undefined);
    try {
      if (way === "signIn") await account.signIn(field("email").trim(), field("password"));
      else if (way === "signUp") await account.signUp(field("email").trim(), field("password"), field("name").trim());
      else await account.useApiKey(field("key").trim());
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
  };

  return (
    <main class="entry">
      <div class="entry-card">
        <header>
          <Mark />
          <h1>Focus AI</h1>
          <p>{say.tagline}</p>
        </header>
        {ended && !problem && <p class="notice" role="status">{say.signedOut}</p>}
        <div class="segments" role="group">
          {WAYS.map((each) => (
            <button key={each} type="button" aria-pressed={each === way} onClick={() => setWay(each)}>
              {say[each]}
            </button>
          ))}
        </div>
        <form onSubmit={(event) => void submit(event)}>
          {way === "apiKey" ? (
            <Field label={say.apiKey} hint={say.apiKeyHint} name="key" type="password" autoComplete="off" placeholder="fk_…" />
          ) : (
            <>
              {way === "signUp" && (
                <Field label={`${say.displayName} (${say.optional})`} name="name" type="text" autoComplete="name" optional />
              )}
              <Field label={say.email} name="email" type="email" autoComplete="username" />
              <Field
                key={way}
                label={say.password}
                {...(way === "signUp" ? { hint: say.passwordHint, minLength: 10 } : {})}
                name="password"
                type="password"
                autoComplete={way === "signUp" ? "new-password" : "current-password"}
              />
            </>
          )}
          {problem && <ProblemNote problem={problem} />}
          <button class="primary" disabled={busy}>{way === "apiKey" ? say.useKey : say[way]}</button>
        </form>
        <footer>
          <LanguageSwitch onLanguage={onLanguage} />
        </footer>
      </div>
    </main>
  );
}

interface FieldProps {
  readonly label: string;
  readonly name: string;
  readonly type: "text" | "email" | "password";
  readonly autoComplete: "name" | "username" | "new-password" | "current-password" | "off";
  readonly hint?: string;
  readonly placeholder?: string;
  readonly minLength?: number;
  readonly optional?: boolean;
}

function Field({ label, hint, optional, ...input }: FieldProps) {
  const id = useId();
  const attributes = { ...input, id, required: !optional, ...(hint ? { "aria-describedby": `${id}-hint` } : {}) };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input {...(attributes as InputHTMLAttributes<HTMLInputElement>)} />
      {hint && <small id={`${id}-hint`}>{hint}</small>}
    </div>
  );
}
