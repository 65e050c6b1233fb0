// From which language into which. The language of a text is told by its letters, here, while it is typed; between languages
// of one script the server tells, with its answer.
const SAMPLE_CHARS = 2000; // that are looked at

function letters(code) { // of the script that a language is written in; null for those of several scripts
  return kept(() => new RegExp(`\\p{Script=${new Intl.Locale(code).maximize().script}}`, "gu"));
}

function spoken() { // the language whose letters prevail; "" where none do
  const sample = text.value.slice(0, SAMPLE_CHARS);
  const shares = facts.languages.map((code) => [code, letters(code) ? (sample.match(letters(code)) ?? []).length : 0]);
  const [[first, most], [, next] = ["", 0]] = shares.sort(([, one], [, other]) => other - one);
  if (most > 2 * next) return first;
  return (figures?.text === text.value && figures.source) || "";
}

function other(code) { // the language to translate into, from this one: the page's, where it is another
  return [language, ...facts.languages].find((found) => found !== code && facts.languages.includes(found)) ?? code;
}

function settle() { // after each change of the text or of its languages
  if (facts?.task === "translation") {
    const seen = spoken();
    const detects = from.value === AUTO;
    from.options[0].textContent = detects && seen ? say("detected", titled(seen)) : say("detect");
    if (detects && seen === target.value && !target.dataset.chosen) target.value = other(seen);
    text.lang = detects ? seen : from.value;
    answer.lang = target.value;
    from.dataset.was = from.value;
    target.dataset.was = target.value;
  }
  $("link").disabled = !text.value;
  showCount();
  showNote();
}

function hint() { // a text in the language that it is to be translated into
  if (facts?.task !== "translation" || text.value.trim().length < 3 || spoken() !== target.value) return null;
  if (from.value !== AUTO) return { sentence: say("looksLike", named(target.value)), offer: say("flip"), take: flip };
  const instead = other(target.value);
  return { sentence: say("already", named(target.value)), offer: say("instead", named(instead)), take: () => turn(AUTO, instead) };
}

function turn(source, into) {
  [from.value, target.value] = [source, into];
  settle();
  text.focus();
}

function flip() {
  turn(target.value, from.value);
}

function swap() {
  stop();
  const source = from.value === AUTO ? spoken() || other(target.value) : from.value;
  [from.value, target.value] = [target.value, source === target.value ? other(source) : source];
  if (answer.textContent) put(answer.textContent);
  settle();
}

for (const select of [from, target]) {
  select.addEventListener("change", () => {
    if (select === target) target.dataset.chosen = "yes";
    if (from.value === target.value) {
      if (select === from) target.value = from.dataset.was === AUTO ? other(from.value) : from.dataset.was;
      else from.value = target.dataset.was;
    }
    settle();
  });
}
