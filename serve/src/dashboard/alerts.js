"use strict";

const EVERY_MS = 10000;
const TIMEOUT_MS = 6000;

const byId = (id) => document.getElementById(id);

/** Takes the page anew from the server; what is open stays open, and the focus stays where it is. */
async function refresh() {
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(TIMEOUT_MS), headers: { accept: "text/html" } });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  const main = byId("main");
  const open = [...main.querySelectorAll("details[open]")].map((details) => details.id);
  for (const details of fresh.querySelectorAll("details")) details.open = open.includes(details.id);
  if (fresh.innerHTML === main.innerHTML) return;
  const held = document.activeElement;
  // Who types is not disturbed.
  if (held instanceof HTMLInputElement && main.contains(held)) return;
  const key = main.contains(held) ? held.dataset.path ?? held.getAttribute("href") : null;
  main.replaceChildren(...fresh.childNodes);
  showName();
  if (key) {
    const same = [...main.querySelectorAll("[data-path], a[href]")].find((e) => (e.dataset.path ?? e.getAttribute("href")) === key);
    // A button that did its work is gone: the heading is the next best place.
    (same ?? main.querySelector("h1"))?.focus();
  }
}

/** Who acknowledges: asked on the page of an alert, and remembered by this browser. */
const name = () => localStorage.getItem("sluice-name") ?? "";

function showName() {
  const field = byId("by");
  if (!field) return;
  field.value = name();
  field.addEventListener("input", () => localStorage.setItem("sluice-name", field.value.trim()));
}

function tell(problem) {
  byId("banner").textContent = problem;
  byId("banner").hidden = !problem;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-path]");
  if (!button) return;
  const { method, path, says } = button.dataset;
  button.disabled = true;
  try {
    const body = path.endsWith("/ack") && name() ? JSON.stringify({ by: name() }) : undefined;
    const answer = await fetch(path, { method, body, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error ?? `answered ${answer.status}`);
    tell("");
    byId("announcer").textContent = says;
    button.disabled = false;
    button.focus();
    await refresh();
  } catch (error) {
    button.disabled = false;
    tell(`That was not done: ${error.message}`);
  }
});

let lost = false;
showName();

async function poll() {
  try {
    if (!document.hidden) await refresh();
    if (lost) tell("");
    lost = false;
  } catch {
    lost = true;
    tell("Connection lost. Trying again every 10 seconds; what stands below is old.");
  }
  setTimeout(poll, EVERY_MS);
}

setTimeout(poll, EVERY_MS);
