// What went wrong, in words: each message stays until it is dismissed, above any dialog.

const MOST = 4;
const messages = document.getElementById("messages");

/** Tell something to the user. */
export function tell(text) {
  const message = document.createElement("p");
  const words = document.createElement("span");
  words.textContent = text;
  const dismiss = document.createElement("button");
  dismiss.type = "button";
  dismiss.textContent = "✕";
  dismiss.setAttribute("aria-label", "Dismiss");
  dismiss.addEventListener("click", () => message.remove());
  message.append(words, dismiss);
  // Outside of a modal dialog nothing can be seen or pressed.
  const dialogs = document.querySelectorAll("dialog:modal");
  (dialogs[dialogs.length - 1] ?? document.body).append(messages);
  messages.append(message);
  while (messages.children.length > MOST) messages.firstChild.remove();
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("close", () => {
    if (dialog.contains(messages)) document.body.append(messages);
  });
}
