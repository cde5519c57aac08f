import { defineConfig } from "vitest/config";

// The gateway serves the built files under a policy of default-src 'self': so nothing is inlined,
// neither small assets as data: addresses nor the module-preload polyfill.
export default defineConfig({
  base: "/",
  build: {
    outDir: "../services/gateway/assets",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    sourcemap: false,
  },
  // `npm run dev` shows the page from source before a system that `make run` started.
  server: {
    proxy: { "/v1": "http://127.0.0.1:8080" },
  },
  test: { include: ["tests/**/*.test.ts", "tests/**/*.test.tsx"] },
});
