const messages = document.getElementById("messages");
const form = document.getElementById("say");
const field = form.elements.text;
const send = form.querySelector("button");
const stopButton = document.getElementById("stop");
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

const problems = { failed: "The answer has failed.", interrupted: "The answer was interrupted." };
const place = () => form.action.replace(/\/messages$/, "");
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Read an answer to its end, however often the connection breaks.
async function stream(response, line) {
  const run = response.headers.get("X-Run-ID");
  const decoder = new TextDecoder();
  let after = 0;
  let failures = 0;
  while (response.status === 200) {
    try {
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        after += value.length;
        failures = 0;
        follow(() => (line.textContent += decoder.decode(value, { stream: true })));
      }
      response = await fetch(`${place()}/stream?run=${run}&after=${after}`);
    } catch (error) {
      if (++failures > 8) throw error;
      await pause(250 * 2 ** failures);
      response = await fetch(`${place()}/stream?run=${run}&after=${after}`).catch(() => response);
    }
  }
  // How it has ended is not in the text.
  const status = await fetch(`${place()}/status`);
  const problem = status.status === 200 && problems[(await status.json()).status];
  if (problem) throw new Error(problem);
}

// Have an answer read while the visitor can stop it.
async function reading(work) {
  send.disabled = true;
  stopButton.hidden = false;
  try {
    await work();
  } finally {
    send.disabled = false;
    stopButton.hidden = true;
  }
}

async function ask(body) {
  const line = show("assistant", "");
  messages.scrollTop = messages.scrollHeight;
  await reading(async () => {
    try {
      const response = await fetch(form.action, { method: "POST", body });
      if (response.status === 404) throw new Error("This conversation was deleted.");
      if (response.status === 409) throw new Error("Another answer is under way.");
      if (!response.ok) throw new Error(`The server has answered ${response.status}.`);
      const location = response.headers.get("Content-Location");
      if (location) {
        form.action = `${location}/messages`;
        // A reload comes back to this answer.
        history.replaceState(null, "", location);
      }
      await stream(response, line);
      await refresh(document.location.href);
    } catch (error) {
      offerRetry(line, error, body);
    }
  });
}

// Go on with an answer that another tab has asked for, or this one before a reload.
async function resume() {
  const run = messages.dataset.run;
  const body = bodyOf([...messages.querySelectorAll(".user")].at(-1));
  if (problems[run]) offerRetry(messages.lastElementChild, new Error(problems[run]), body);
  if (run !== "running") return;
  const line = show("assistant", "");
  messages.scrollTop = messages.scrollHeight;
  await reading(async () => {
    try {
      const response = await fetch(`${place()}/stream`);
      if (response.status === 200) await stream(response, line);
      const page = await refresh(document.location.href);
      // It has ended meanwhile, so the page has all of it.
      if (response.status === 204 && page) showMessages(page);
    } catch (error) {
      offerRetry(line, error, body);
    }
  });
}

function bodyOf(asked) {
  const body = new FormData();
  body.set("id", asked?.dataset.id ?? "");
  body.set("text", asked?.textContent ?? "");
  return body;
}

function showMessages(page) {
  const then = page.getElementById("messages");
  messages.replaceChildren(...then.children);
  messages.dataset.run = then.dataset.run ?? "";
  messages.scrollTop = messages.scrollHeight;
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
  return page;
}

// Another tab may have begun, renamed or deleted conversations, or asked something here.
async function catchUp() {
  if (send.disabled) return;
  const page = await refresh(document.location.href);
  if (send.disabled || page?.getElementById("messages").dataset.run !== "running") return;
  showMessages(page);
  await resume();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (send.disabled || !text) return;
  const body = new FormData();
  body.set("id", `${Date.now()}-${Math.random()}`);
  body.set("text", text);
  form.reset();
  show("user", text).dataset.id = body.get("id");
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

stopButton.addEventListener("click", () => fetch(`${place()}/stop`, { method: "POST" }));

window.addEventListener("focus", catchUp);

messages.scrollTop = messages.scrollHeight;
resume();
