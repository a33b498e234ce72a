// Elements by id, and new ones out of text: nothing is ever parsed as HTML.

export const $ = (id) => document.getElementById(id);

/** A new element; children are elements or text. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Set a text only where it differs, so that screen readers hear of changes alone. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show a message, or hide its place. */
export function tell(element, text) {
  element.hidden = !text;
  write(element, text || "");
}

/** Say something to screen readers. */
export function say(text) {
  write($("say"), "");
  requestAnimationFrame(() => write($("say"), text));
}

/** A seed that a person can read out. */
export const someSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 100_000;

/** Bring the monitor into sight. */
export function lookUp() {
  $("title").parentElement.scrollIntoView({ block: "nearest", behavior: "instant" });
}

/** Call once per frame however often it is asked for. */
export function eachFrame(call) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      call();
    });
  };
}
