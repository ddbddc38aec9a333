"use strict";
const element = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
let shown = 0;

function list(id, lines) {
  element(id).replaceChildren(...lines.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
}

function show(state) {
  element("count").textContent = `${state.there} of ${state.count}, ${state.copies} near-copies skipped`;
  element("progress").value = Math.min(1, state.there / state.count);
  element("focus").textContent = `${percent(state.focus)} of the sharpest`;
  element("white").textContent = percent(state.white);
  element("level").textContent = `${state.level.toFixed(0)} of 255`;
  element("motion").textContent = state.motion === null ? "-" : `${state.motion.toFixed(1)} levels`;
  element("last").textContent = state.last;
  list("hints", state.hints);
  list("missing", state.missing);
  if (state.picture !== shown) {
    shown = state.picture;
    element("picture").src = `/picture.jpg?${shown}`;
  }
}

async function look() {
  try {
    show(await (await fetch("/state")).json());
    setTimeout(look, 300);
  } catch (error) {
    element("count").textContent = "It has ended; see the terminal.";
    element("take").disabled = true;
  }
}

async function take() {
  await fetch("/take", { method: "POST", headers: { "x-edgead": "capture" } });
}

element("take").addEventListener("click", take);
document.addEventListener("keydown", (event) => {
  if (event.code === "Space" && event.target.id !== "take") {
    event.preventDefault();
    take();
  }
});
look();
