// The beginning: what is built, loaded and listened to.
function build() {
  for (const [name, min, max, step, value] of SLIDERS) {
    const setting = element("div", "", "setting");
    const label = element("label", "");
    const caption = element("span", "");
    const shown = element("span", "", "value");
    const slider = element("input", "");
    const about = element("p", "");
    label.htmlFor = name;
    label.append(caption, shown);
    caption.dataset.text = name;
    about.dataset.text = `${name}About`;
    about.id = `${name}-about`;
    shown.id = `${name}-value`;
    shown.ariaHidden = "true"; // the slider says its own value
    Object.assign(slider, { id: name, type: "range", min, max, step, value, defaultValue: value });
    slider.setAttribute("aria-describedby", about.id);
    slider.addEventListener("input", () => { slider.dataset.chosen = "yes"; showSlider(name); });
    setting.append(label, slider, about);
    $("settings").insertBefore(setting, $("seed").parentElement);
  }
}

async function load() {
  alerted = null;
  showAlert();
  try {
    facts = await (await call("info")).json();
  } catch (error) {
    return failed(error, load);
  }
  for (const part of document.querySelectorAll("[data-task]")) part.hidden = part.dataset.task !== facts.task;
  for (const select of [from, target]) select.replaceChildren(...facts.languages.map((code) => new Option(titled(code), code)));
  from.prepend(new Option("", AUTO));
  from.value = AUTO;
  target.value = facts.languages.find((code) => code !== language) ?? "";
  $("authors").hidden = facts.task !== "translation" || !facts.authors?.length;
  if (!$("authors").hidden) $("author").replaceChildren(new Option("", ""), ...facts.authors.map((author) => new Option(author, author)));
  $("max_tokens").max = facts.limits.max_new_tokens;
  $("max_tokens").value = $("max_tokens").defaultValue = Math.min(facts.defaults.max_tokens, facts.limits.max_new_tokens);
  $("beams").max = Math.max(facts.limits.beams, 1);
  $("beams").value = $("beams").defaultValue = facts.defaults.beams;
  $("beams").closest(".setting").hidden = facts.limits.beams < 2;
  $("temperature").value = $("temperature").defaultValue = facts.defaults.temperature;
  $("panels").hidden = $("details").hidden = false;
  speak(language);
  follow();
  if (!matchMedia("(pointer: coarse)").matches) text.focus(); // on a phone it would bring up the keyboard
}

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    kept(() => localStorage.setItem("language", button.dataset.language));
    speak(button.dataset.language);
  });
}
$("theme").addEventListener("click", () => {
  const now = THEMES[(THEMES.indexOf($("theme").dataset.now) + 1) % THEMES.length];
  document.documentElement.dataset.theme = now;
  kept(() => localStorage.setItem("theme", now));
  showTheme(now);
});
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  kept(() => sessionStorage.setItem("token", token));
  $("access").hidden = true;
  again?.();
});
$("reset").addEventListener("click", () => {
  for (const [name] of SLIDERS) {
    $(name).value = $(name).defaultValue;
    delete $(name).dataset.chosen;
    showSlider(name);
  }
  $("seed").value = "";
});
$("run").addEventListener("click", run);
$("stop").addEventListener("click", stop);
$("swap").addEventListener("click", swap);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) run();
  else if (event.key === "Escape") stop();
});

const theme = kept(() => localStorage.getItem("theme"));
if (THEMES.includes(theme)) document.documentElement.dataset.theme = theme;
$("keys").textContent = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘ ↵" : "Ctrl ↵";
$("details").open = matchMedia("(min-width: 901px)").matches;
build();
const wished = kept(() => localStorage.getItem("language"));
speak(wished in WORDS ? wished : navigator.language.startsWith("ru") ? "ru" : "en");
load();
