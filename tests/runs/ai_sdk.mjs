// The Vercel AI SDK's own transport against a server: node ai_sdk.mjs BASE_URL COOKIE WAY
// Prints the message that the SDK has put together, as JSON.
import { DefaultChatTransport, readUIMessageStream } from "ai";

const [base, cookie, way] = process.argv.slice(2);
const headers = cookie ? { Cookie: cookie } : {};

async function assembled(stream) {
  let message = null;
  const errors = [];
  for await (const state of readUIMessageStream({ stream, onError: (error) => errors.push(String(error)) })) {
    message = state;
  }
  return { message, errors };
}

function transportOf(query) {
  return new DefaultChatTransport({
    api: `${base}/chat${query}`,
    headers,
    prepareReconnectToStreamRequest: () => ({ api: `${base}/chat/stream` }),
  });
}

const user = { id: "u1", role: "user", parts: [{ type: "text", text: "hello" }] };
const send = (query, signal) =>
  transportOf(query).sendMessages({
    chatId: "c1",
    messages: [user],
    trigger: "submit-message",
    abortSignal: signal,
  });

let result;
if (way === "send") {
  result = await assembled(await send("?format=ui&count=20"));
} else if (way === "resume") {
  const stream = await transportOf("").reconnectToStream({ chatId: "c1" });
  result = stream === null ? { message: null, errors: [], nothing: true } : await assembled(stream);
} else {
  throw new Error(`There is no way ${way}.`);
}
console.log(JSON.stringify(result));
