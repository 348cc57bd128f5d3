// Runs the client of the documentation against a server, and cuts its first response.
import { readFile } from "node:fs/promises";

const [base, page, way] = process.argv.slice(2);
const source = (await readFile(page, "utf8")).match(/^    async function read\([\s\S]*?^    }$/m)[0];
const read = eval(`(${source})`);
const open = globalThis.fetch;
let cookie = "";

async function ask(path, options = {}) {
  const response = await open(base + path, { ...options, headers: { cookie } });
  cookie = response.headers.getSetCookie()[0]?.split(";")[0] ?? cookie;
  return response;
}

function cutAfter(response, count) {
  let left = count;
  const cut = new TransformStream({
    async transform(bytes, controller) {
      controller.enqueue(bytes.subarray(0, left));
      left -= bytes.length;
      if (left > 0) return;
      // What was received before is read first.
      await new Promise((resolve) => setTimeout(resolve, 20));
      controller.error(new TypeError("terminated"));
    },
  });
  return new Response(response.body.pipeThrough(cut), response);
}

globalThis.fetch = async (path) => {
  if (path === "/chat/status") return ask(path);
  if (way === "gone") await ask("/forget", { method: "POST" });
  if (way === "refused") path = path.replace(/after=\d+/, "after=999");
  return ask(path);
};

let text = "";
let reloaded = false;
const show = (part) => (text += part);
const first = await ask("/chat?answer=said", { method: "POST" });
const response = way === "whole" ? first : cutAfter(first, 3);
await read(response, show, () => (reloaded = true));
console.log(JSON.stringify({ text, reloaded }));
