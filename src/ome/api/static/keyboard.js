// The keyboard: one letter each, not while somebody writes in a field; Escape leaves the field.

import { find, make } from "./dom.js";

/** `actions` maps keys to [what it does in words, the function]. */
export function listen(actions) {
  const lines = [...Object.entries(actions).map(([key, [text]]) => [key, text]), ["Enter", "Send the order, from any field of the ticket"], ["↑ ↓", "In a price: one tick; with Shift ten. In the book: from level to level"], ["Esc", "Leave the field, close the window"]];
  find("help-list").replaceChildren(...lines.map(([key, text]) => make("div", {}, make("dt", {}, make("kbd", {}, key)), make("dd", {}, text))));
  document.addEventListener("keydown", (event) => {
    const isWriting = event.target.matches("input:not([type=checkbox], [type=radio]), select, textarea");
    if (event.key === "Escape" && isWriting) event.target.blur();
    if (isWriting || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action[1]();
  });
}
