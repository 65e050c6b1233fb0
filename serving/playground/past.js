// The last texts and their answers, in this browser's storage alone. Where that is forbidden (a private window, a blocked
// site) the page does without.
const PAST = 20;
const PAST_CHARS = 10_000; // of a text and its answer; storage is small, and longer ones are files

const stores = kept(() => { localStorage.setItem("past-works", ""); localStorage.removeItem("past-works"); return true; });
const keeps = () => stores && kept(() => localStorage.getItem("keep")) !== "no";

function past() { // newest first; anything may lie in a browser's storage
  const found = kept(() => JSON.parse(localStorage.getItem("past")));
  const whole = (one) => ["text", "answer", "into"].every((name) => typeof one?.[name] === "string");
  return Array.isArray(found) ? found.filter(whole).slice(0, PAST) : [];
}

function remember(entry) {
  if (!keeps() || entry.text.length + entry.answer.length > PAST_CHARS) return;
  const others = past().filter(({ text: content, into }) => content !== entry.text || into !== entry.into);
  kept(() => localStorage.setItem("past", JSON.stringify([entry, ...others].slice(0, PAST))));
  showPast();
}

function showPast() {
  const known = past().filter(({ into }) => (facts?.task === "translation" ? facts.languages.includes(into) : !into));
  $("past").hidden = !facts || !stores || (keeps() && !known.length);
  $("keep").checked = keeps();
  $("clear").disabled = !known.length;
  $("past-texts").replaceChildren(...known.map((entry) => {
    const button = element("button", "");
    button.type = "button";
    button.append(element("span", entry.text), element("span", entry.answer, "soft"));
    button.addEventListener("click", () => recall(entry));
    const item = element("li", "");
    item.append(button);
    return item;
  }));
}

function recall(entry) {
  if (entry.into) {
    [from.value, target.value] = [AUTO, entry.into];
    target.dataset.chosen = "yes";
  }
  put(entry.text);
  answer.textContent = entry.answer;
  $("copy").disabled = !entry.answer;
  showMore();
  text.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function clear() {
  kept(() => localStorage.removeItem("past"));
  showPast();
}

$("clear").addEventListener("click", clear);
$("keep").addEventListener("change", () => {
  kept(() => ($("keep").checked ? localStorage.removeItem("keep") : localStorage.setItem("keep", "no")));
  if (!$("keep").checked) clear();
  showPast();
});
