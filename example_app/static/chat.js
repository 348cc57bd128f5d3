const messages = document.getElementById("messages");
const turns = document.getElementById("turns");
const form = document.getElementById("say");

function show(role, text) {
  const line = document.createElement("p");
  line.className = role;
  line.textContent = text;
  messages.append(line);
  line.scrollIntoView();
  return line;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = new FormData(form);
  form.reset();
  show("user", body.get("text"));
  const answer = show("assistant", "");
  try {
    const response = await fetch(form.action, { method: "POST", body });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      answer.textContent += value;
    }
    turns.textContent = Number(turns.textContent) + 1;
  } catch (error) {
    answer.className = "error";
    answer.textContent = `No answer: ${error.message}.`;
  }
});
