const messages = document.getElementById("messages");
const form = document.getElementById("say");
const field = form.elements.text;
const send = form.querySelector("button");
const menu = document.getElementById("menu");

function show(role, text) {
  const line = document.createElement("p");
  line.className = role;
  line.textContent = text;
  messages.append(line);
  return line;
}

// Follow the text, unless the visitor has scrolled up to read something else.
function follow(change) {
  const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 50;
  change();
  if (atEnd) messages.scrollTop = messages.scrollHeight;
}

async function stream(response, line) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    follow(() => (line.textContent += value));
  }
}

async function ask(body) {
  const line = show("assistant", "");
  messages.scrollTop = messages.scrollHeight;
  send.disabled = true;
  try {
    const response = await fetch(form.action, { method: "POST", body });
    if (response.status === 404) throw new Error("This conversation was deleted.");
    if (!response.ok) throw new Error(`The server has answered ${response.status}.`);
    const location = response.headers.get("Content-Location");
    if (location) form.action = `${location}/messages`;
    await stream(response, line);
    if (location) return open(location);
    await refresh(document.location.href);
  } catch (error) {
    offerRetry(line, error, body);
  } finally {
    send.disabled = false;
  }
}

function offerRetry(line, error, body) {
  const text = error instanceof TypeError ? "The connection was lost." : error.message;
  const failed = show("error", `${text} `);
  const retry = document.createElement("button");
  retry.textContent = "Try again";
  retry.addEventListener("click", () => {
    line.remove();
    failed.remove();
    // With the same id, so that the question is not asked twice.
    ask(body);
  });
  failed.append(retry);
  messages.scrollTop = messages.scrollHeight;
}

// The first message of a conversation was answered: now it has a URL.
function open(location) {
  history.replaceState(null, "", location);
  return refresh(location);
}

// Update what is around the messages: the list, the title, and what can be done.
async function refresh(location) {
  const response = await fetch(location);
  if (!response.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of ["nav", "h1", ".actions"]) {
    const now = document.querySelector(part);
    if (now?.contains(document.activeElement) || now?.open) continue;
    const then = page.querySelector(part);
    if (now && then) now.replaceWith(then);
    else if (then) document.querySelector("header").append(then);
  }
  document.title = page.title;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (send.disabled || !text) return;
  const body = new FormData();
  body.set("id", `${Date.now()}-${Math.random()}`);
  body.set("text", text);
  form.reset();
  show("user", text);
  ask(body);
});

field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

document.addEventListener("submit", (event) => {
  if (event.target.id === "delete" && !confirm("Delete this conversation for good?")) event.preventDefault();
});

menu.addEventListener("click", () => {
  const shown = document.body.classList.toggle("menu");
  menu.setAttribute("aria-expanded", shown);
});

// Another tab may have begun, renamed or deleted conversations.
window.addEventListener("focus", () => send.disabled || refresh(document.location.href));

messages.scrollTop = messages.scrollHeight;
