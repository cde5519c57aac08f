import { useEffect, useState } from "preact/hooks";

/** A value that tells those who watch it when it was replaced. */
export class Store<S> {
  readonly #watchers = new Set<() => void>();

  constructor(private value: S) {}

  get state(): S {
    return this.value;
  }

  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  protected set(change: Partial<S>): void {
    this.value = { ...this.value, ...change };
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/** Draws the component anew when the store changes, at most once a frame however fast an answer streams. */
export function useStore<S>(store: Pick<Store<S>, "watch" | "state">): S {
  const [, draw] = useState({});
  useEffect(() => {
    let frame = 0;
    const stop = store.watch(() => {
      // A hidden tab gets no frames; the timer keeps it up to date.
      frame ||= document.hidden ? window.setTimeout(update, 250) : requestAnimationFrame(update);
    });
    function update() {
      frame = 0;
      draw({});
    }
    draw({});
    return () => {
      stop();
      cancelAnimationFrame(frame);
      clearTimeout(frame);
    };
  }, [store]);
  return store.state;
}
