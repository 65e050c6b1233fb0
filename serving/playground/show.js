// What is on the screen, made of the state; called again whenever the page changes its language.
function showTheme(now = document.documentElement.dataset.theme ?? "system") {
  $("theme").dataset.now = now;
  labelled($("theme"), say("theme", now));
}

function showFacts() {
  if (!facts) return;
  const size = facts.parameters ? say("parameters", number(facts.parameters, { notation: "compact", maximumSignificantDigits: 3 })) : null;
  const provider = facts.provider?.replace("ExecutionProvider", "");
  $("facts").textContent = [facts.name, facts.family, facts.precision, provider, size, facts.bundle?.run_id].filter(Boolean).join(" · ");
}

function showCount() {
  const parts = [counted([...text.value].length, "characters")];
  if (figures?.promptTokens && figures.text === text.value) parts.push(tokensOf(figures.promptTokens));
  $("count").textContent = parts.join("\u00a0· ");
}

function showFigures() {
  const { sent, first, last, tokens } = figures ?? {};
  $("first").textContent = first ? duration(first - sent) : "–";
  $("speed").textContent = tokens ? `${number(tokens / ((last - sent) / 1000), { maximumSignificantDigits: 3 })} ${say("perSecond")}` : "–";
  $("tokens").textContent = tokens === undefined ? "–" : number(tokens);
  $("time").textContent = sent ? duration((figures.end ?? performance.now()) - sent) : "–";
}

function showSlider(name) {
  const slider = $(name);
  slider.style.setProperty("--fill", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min)}%`);
  $(`${name}-value`).textContent = number(slider.value);
  const greedy = Number($("temperature").value) === 0;
  for (const drawn of DRAWS) $(drawn).disabled = greedy;
  $("beams").disabled = !greedy || $("beams").max < 2;
  $("greedy").textContent = greedy ? say("greedy") : $("beams").max > 1 ? say("drawn") : "";
  if (facts?.task === "translation" && !$("max_tokens").dataset.chosen) $("max_tokens-value").textContent = say("fitting");
}

function showAlert() {
  const box = $("alert");
  box.hidden = !alerted;
  box.replaceChildren();
  if (!alerted) return;
  requestAnimationFrame(() => box.scrollIntoView({ block: "nearest" }));
  box.append(element("p", alerted.sentence()));
  if (alerted.detail) {
    const detail = element("p", `${say("server")} `, "detail");
    const words = element("span", alerted.detail);
    words.lang = "en";
    detail.append(words);
    box.append(detail);
  }
  if (alerted.retry) {
    const button = element("button", say("retry"), "quiet");
    button.type = "button";
    button.addEventListener("click", alerted.retry);
    box.append(button);
  }
}

function showNote() {
  const note = $("note");
  note.replaceChildren(...(noted ? [noted(), " "] : []));
  const turned = hint();
  if (!turned) return;
  const button = element("button", turned.offer);
  button.type = "button";
  button.addEventListener("click", turned.take);
  note.append(turned.sentence, " ", button);
}

function showTry() {
  const found = facts.introduction;
  $("try").hidden = !found;
  if (!found) return;
  const parallel = facts.task === "translation";
  const together = (parts) => new Intl.ListFormat(language).format(parts);
  const languages = parallel ? [together(facts.languages.map(named))] : [];
  const size = [...languages, counted(found.characters, "characters")].join(", ");
  const rows = counted(found.rows, parallel ? "pairs" : "pieces");
  $("about").textContent = found.about || say("trained", rows, size, together(found.sources));
  const chips = found.examples.map(({ text: content, language: code }) => {
    const chip = element("button", content);
    Object.assign(chip, { type: "button", lang: code, dir: "auto", translate: false });
    chip.addEventListener("click", () => { example(content); run(); });
    const item = element("li", "");
    item.append(chip);
    return item;
  });
  $("examples").replaceChildren(...(chips.length ? [element("li", say("tryOne")), ...chips] : []));
}

function fail(sentence, { detail = "", field = "", retry = null } = {}) {
  alerted = { sentence, detail, retry };
  ({ prompt: text, seed: $("seed"), target, author: $("author") })[field]?.setAttribute("aria-invalid", "true");
  showAlert();
}

function calm() { // nothing is wrong any more: the text that was has gone
  alerted = noted = null;
  for (const wrong of document.querySelectorAll("[aria-invalid]")) wrong.removeAttribute("aria-invalid");
  showAlert();
}

function note(sentence) {
  noted = sentence;
  showNote();
}

