import { render } from "preact";

import { App } from "./ui/App";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/thread.css";
import "./styles/markdown.css";
import "./styles/overlays.css";

const root = document.getElementById("app");
if (root) render(<App />, root);
