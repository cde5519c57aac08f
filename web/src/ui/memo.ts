import { Component, createElement, type ComponentType } from "preact";

/** The component, drawn anew only where `same` says that its properties differ or the context changed. */
export function memo<P extends object>(Inner: ComponentType<P>, same: (before: P, after: P) => boolean): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      return !same(this.props as P, next);
    }

    override render() {
      return createElement(Inner, this.props as P);
    }
  };
}
