// Questions before something that cannot be undone; one is asked after the other.

// No answer is taken so long: a click or a key may have been meant for what was there before.
const READING_MS = 500;

const dialog = document.getElementById("confirm");
const answers = [...dialog.querySelectorAll("button")];
let last = Promise.resolve();

/** Return whether the user agrees to a question. yes: the word on the button that agrees. */
export function asked(text, yes) {
  last = last.then(() => confirmed(text, yes));
  return last;
}

function confirmed(text, yes) {
  document.getElementById("confirm-text").textContent = text;
  document.getElementById("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  setEarly(true);
  dialog.showModal();
  const timer = setTimeout(() => setEarly(false), READING_MS);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  }).finally(() => clearTimeout(timer));
}

/** Note whether it is too early for an answer; the buttons keep the focus. */
function setEarly(isEarly) {
  for (const answer of answers) answer.setAttribute("aria-disabled", String(isEarly));
}

function isEarly() {
  return answers[0].getAttribute("aria-disabled") === "true";
}

for (const answer of answers) {
  // The second click of two, and a key that is held, were for the question before.
  answer.addEventListener("click", (event) => (isEarly() || event.detail > 1) && event.preventDefault());
  answer.addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.preventDefault());
}
dialog.addEventListener("cancel", (event) => isEarly() && event.preventDefault());
