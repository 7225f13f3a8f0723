"use strict";
const byId = (id) => document.getElementById(id);
const form = byId("ask"), video = form.elements.video, most = Number(document.body.dataset.most);
const megabytes = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const usual = video && byId("chosen").textContent;

function say(words, wrong = "") {
  byId("status").textContent = words;
  byId("wrong").textContent = wrong;
}

function tooLarge() {
  const file = video && video.files[0];
  return file && file.size > most ? `${file.name}: ${megabytes(file.size)}, and ${megabytes(most)} is the most` : "";
}

function chosen() {
  const file = video.files[0];
  byId("chosen").textContent = file ? `${file.name} (${megabytes(file.size)})` : usual;
  say("", tooLarge());
}

if (video) {
  video.addEventListener("change", chosen);
  const over = (on) => byId("drop").classList.toggle("over", on);
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    // Dropped beside its place, a file would be opened in place of the page.
    window.addEventListener(name, (event) => { event.preventDefault(); over(name === "dragover" || name === "dragenter"); });
  }
  window.addEventListener("drop", (event) => {
    const files = event.dataTransfer.files;
    if (files.length > 1) return say("", "One video at a time.");
    if (!files.length) return undefined;
    video.files = files;
    return chosen();
  });
}

// A frame of its own without a way to this page: what it shows may contain whatever people typed.
function show(report) {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.title = "prediction";
  frame.srcdoc = report;
  byId("answer").replaceChildren(frame);
}

window.addEventListener("message", (event) => {
  const frame = byId("answer").firstElementChild;
  if (!frame || event.source !== frame.contentWindow || !Number.isFinite(event.data)) return;
  frame.style.height = `${Math.min(Math.max(event.data, 100), 20000) + 4}px`;
});

// The answer is JSON, a line each: where in the row of those who wait this one is, at last the report or what is wrong.
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
  if (rest) yield JSON.parse(rest);
}

async function ask() {
  const response = await fetch("predict", { method: "POST", body: new FormData(form) });
  for await (const line of lines(response)) {
    if (line.error) return say("", line.error);
    if (line.report) {
      show(line.report);
      return say(`Answered in ${line.seconds.toFixed(1)} s.`);
    }
    say(line.before ? `Waiting: ${line.before} before this one …` : "Predicting …");
  }
  return say("", "The answer was cut short; is the app still running?");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (tooLarge()) return say("", tooLarge());
  byId("send").disabled = true;
  byId("answer").replaceChildren();
  say("Sending …");
  try {
    await ask();
  } catch (error) {
    say("", "No answer; is the app still running?");
  } finally {
    byId("send").disabled = false;
  }
  return undefined;
});
