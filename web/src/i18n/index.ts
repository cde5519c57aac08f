import { createContext } from "preact";
import { useContext } from "preact/hooks";

import type { Problem } from "../api/problem";
import { english, type Messages } from "./english";
import { portuguese } from "./portuguese";

export type Language = "en" | "pt";

const STORAGE_KEY = "focus.language";
const CATALOGUE: Readonly<Record<Language, Messages>> = { en: english, pt: portuguese };

/** The page's words with the number and date forms of one language. */
export class Words {
  readonly say: Messages;
  readonly #locale: string;

  constructor(readonly language: Language) {
    this.say = CATALOGUE[language];
    this.#locale = language === "pt" ? "pt-BR" : "en-US";
  }

  /** A share of one, as percent: 0.8 is "80%". */
  percent(share: number): string {
    return new Intl.NumberFormat(this.#locale, { style: "percent", maximumFractionDigits: 0 }).format(share);
  }

  count(value: number): string {
    return new Intl.NumberFormat(this.#locale).format(value);
  }

  /** Millionths of a US dollar as dollars, with as many digits as it takes to see them. */
  dollars(micro: number): string {
    const format = { style: "currency", currency: "USD", minimumFractionDigits: 0, maximumFractionDigits: 6 } as const;
    return new Intl.NumberFormat(this.#locale, format).format(micro / 1e6);
  }

  /** The day and time of an RFC 3339 timestamp, in the browser's time zone. */
  dateTime(timestamp: string): string {
    return new Intl.DateTimeFormat(this.#locale, { dateStyle: "medium", timeStyle: "short" }).format(new Date(timestamp));
  }

  /** A problem in plain words. */
  problem(problem: Problem): string {
    return this.say.problems[problem.reason] ?? problem.detail;
  }
}

/** The language that the person chose before, else the browser's first that the page speaks. */
export function initialLanguage(): Language {
  const chosen = localStorage.getItem(STORAGE_KEY);
  if (chosen === "en" || chosen === "pt") return chosen;
  const spoken = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  return spoken.find((tag): tag is Language => tag === "en" || tag === "pt") ?? "en";
}

export function rememberLanguage(language: Language): void {
  localStorage.setItem(STORAGE_KEY, language);
}

export const WordsContext = createContext(new Words("en"));

export function useWords(): Words {
  return useContext(WordsContext);
}
