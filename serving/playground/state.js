// What the page knows, and how it is said: state, elements, words, numbers.
// What a refusal means, by HTTP status; the server's own sentence is shown below it.
const REFUSALS = { 413: "tooLarge", 429: "busy", 502: "leaving", 503: "leaving", 504: "slow" };
// Name, lowest, highest, step, default. The highest max_tokens and beams, and the defaults of these and temperature, are the server's.
const SLIDERS = [["temperature", 0, 2, 0.05, 0], ["top_p", 0.05, 1, 0.05, 1], ["top_k", 0, 100, 1, 0], ["repetition_penalty", 1, 2, 0.05, 1], ["max_tokens", 1, 128, 1, 128], ["beams", 1, 8, 1, 1]];
const DRAWS = ["top_p", "top_k", "seed"]; // of use above temperature 0 only
const AUTO = "auto"; // in place of a language to translate from
const THEMES = ["system", "light", "dark"];

const text = $("text"), answer = $("answer"), from = $("from"), target = $("target");
let facts = null; // of /info
let current = null; // the running request's AbortController
let streams = true; // until the server says that it has no /generate_stream
let figures = null; // of the last request: sent, first, last, end (ms); text, source, tokens, promptTokens
let alerted = null, noted = null; // what is said at the moment, to say it again in the other language
let again = null; // what to do once there is a token, or when asked to try again
let language, words, plural, token = kept(() => sessionStorage.getItem("token"));

function say(key, ...values) {
  const found = words[key];
  return typeof found === "function" ? found(...values) : found;
}
const number = (value, options) => new Intl.NumberFormat(language, options).format(value);
const counted = (n, forms) => `${number(n)}\u00a0${words[forms][plural.select(n)]}`;
const tokensOf = (n) => counted(n, "tokenForms");
const kind = () => (facts?.task === "text" ? "Text" : "Translation");

function duration(ms) {
  const [value, unit, digits] = ms < 1000 ? [ms, "millisecond", ms < 10 ? 1 : 0] : [ms / 1000, "second", ms < 10000 ? 2 : 1];
  return number(value, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: digits });
}

function named(code) {
  return kept(() => new Intl.DisplayNames(language, { type: "language" }).of(code)) ?? code;
}

function titled(code) {
  const name = named(code);
  return name.charAt(0).toLocaleUpperCase(language) + name.slice(1);
}

function speak(chosen) {
  language = chosen;
  words = WORDS[language];
  plural = new Intl.PluralRules(language);
  document.documentElement.lang = language;
  for (const button of document.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", button.dataset.language === language);
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
    if (element.tagName === "BUTTON") element.title = say(element.dataset.label);
  }
  for (const select of [from, target]) for (const option of select.options) if (option.value !== AUTO) option.textContent = titled(option.value);
  if ($("author").options.length) $("author").options[0].textContent = say("anyone");
  text.placeholder = say(`type${kind()}`);
  answer.dataset.empty = say(`empty${kind()}`);
  $("run-text").textContent = say(`run${kind()}`);
  labelled($("copy"), say("copy"));
  if (facts) showTry();
  showPast();
  for (const [name] of SLIDERS) showSlider(name);
  showTheme();
  showFacts();
  showCount();
  showFigures();
  showAlert();
  settle();
}

function labelled(button, label) {
  button.setAttribute("aria-label", label);
  button.title = label;
}

