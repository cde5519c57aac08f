import { useWords } from "../i18n";
import { Mark } from "./icons";

interface Props {
  readonly title: string;
  readonly hint: string;
  readonly onAsk: (question: string) => void;
}

/** What stands where nothing was asked yet: three questions to begin with. */
export function Welcome({ title, hint, onAsk }: Props) {
  const { say } = useWords();
  return (
    <section class="welcome column">
      <Mark />
      <h2>{title}</h2>
      <p>{hint}</p>
      <ul>
        {say.examples.map((example) => (
          <li key={example}>
            <button type="button" class="example" onClick={() => onAsk(example)}>
              {example}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
