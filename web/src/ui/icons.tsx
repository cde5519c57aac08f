/** Line icons on a 24-pixel grid; decoration only, the control beside them carries the words. */
const PATHS = {
  plus: "M12 5v14M5 12h14",
  bolt: "M13 3 5 14h6l-1 7 8-11h-6z",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  check: "M5 12.5 10 17 19 7",
  retry: "M4 12a8 8 0 1 0 2.5-5.8M4 4v5h5",
  down: "M12 5v14M6 13l6 6 6-6",
  alert: "M12 8v5M12 16.5v.1M12 3l9.5 17h-19z",
  up: "M7 17 17 7M9 7h8v8",
  pencil: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  share: "M12 15V4M8 7l4-4 4 4M5 12v8h14v-8",
  download: "M12 4v11M8 11l4 4 4-4M5 19h14",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  search: "M16 16l4 4M4 11a7 7 0 1 0 14 0a7 7 0 1 0-14 0",
  cached: "M4 7c0-4 16-4 16 0s-16 4-16 0v10c0 4 16 4 16 0V7M4 12c0 4 16 4 16 0",
} as const;

export type IconName = keyof typeof PATHS | "stop" | "more";

export function Icon({ name }: { readonly name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      {name === "stop" ? (
        <rect class="solid" x="7" y="7" width="10" height="10" rx="1.5" />
      ) : name === "more" ? (
        [5, 12, 19].map((x) => <circle key={x} class="solid" cx={x} cy="12" r="1" />)
      ) : (
        <path d={PATHS[name]} />
      )}
    </svg>
  );
}

/** The product's mark: a focus frame around a point. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M4 11V8a4 4 0 0 1 4-4h3M21 4h3a4 4 0 0 1 4 4v3M28 21v3a4 4 0 0 1-4 4h-3M11 28H8a4 4 0 0 1-4-4v-3" />
      <circle cx="16" cy="16" r="5" />
    </svg>
  );
}
