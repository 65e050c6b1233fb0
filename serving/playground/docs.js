// The API's page: what openapi.json says, and a way to try each call. Its words about fields are the document's, English.
const WORDS = {
  en: {
    page: "Try the model", token: "Access token", enter: "Continue",
    tokenNeeded: "This server asks for an access token. It is kept in this tab only.",
    tokenWrong: "The server does not accept this access token. Check it and try again.",
    offline: "The server cannot be reached. Check the connection and that it is running.",
    send: "Send", body: "Body", answer: "Answer", takes: "Takes", gives: "Gives", required: "required", open: "No token is needed.",
    seconds: (n) => `${n} ms`,
  },
  ru: {
    page: "Попробовать модель", token: "Токен доступа", enter: "Продолжить",
    tokenNeeded: "Этот сервер просит токен доступа. Он хранится только в этой вкладке.",
    tokenWrong: "Сервер не принял этот токен доступа. Проверьте его и попробуйте ещё раз.",
    offline: "Сервер недоступен. Проверьте соединение и то, что он запущен.",
    send: "Отправить", body: "Тело запроса", answer: "Ответ", takes: "Принимает", gives: "Отдаёт", required: "обязательно", open: "Токен не нужен.",
    seconds: (n) => `${n} мс`,
  },
};
const wished = kept(() => localStorage.getItem("language"));
const language = wished in WORDS ? wished : navigator.language.startsWith("ru") ? "ru" : "en";
const words = WORDS[language];
let token = kept(() => sessionStorage.getItem("token"));

function english(tag, content, className = "") {
  const made = element(tag, content, className);
  made.lang = "en";
  return made;
}

// Addresses in the document begin at the root, which may lie behind a path prefix: where this page is.
function request(path, options = {}) {
  const headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
  return fetch(path.replace(/^\//, "./"), { ...options, headers, cache: "no-store" });
}

function kindOf(schema) {
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kindOf).join(" | ");
  const low = schema.minimum ?? schema.exclusiveMinimum, range = [low, schema.maximum];
  const kind = schema.type === "array" ? `[${kindOf(schema.items ?? {})}]` : schema.type ?? "";
  return range.some((bound) => bound !== undefined) ? `${kind} ${range.map((bound) => bound ?? "").join("…")}` : kind;
}

function rows(schema, under = "") { // name and words of each field, those of objects in it too
  const found = [];
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const head = element("dt");
    head.append(element("code", under + name));
    const kind = [kindOf(field), schema.required?.includes(name) && words.required].filter(Boolean).join(", ");
    head.append(element("span", kind, "kind"));
    const values = field.examples ? ` (${field.examples.join(", ")})` : "";
    found.push(head, english("dd", (field.description ?? "") + values));
    if (field.properties) found.push(...rows(field, `${under}${name}.`));
  }
  return found;
}

function trial(method, path, content, secured) {
  const made = element("div");
  const body = element("textarea", "", "body");
  const shown = element("pre"), status = element("span", "", "status"), button = element("button", words.send, "primary");
  const row = element("div", "", "row");
  button.type = "button";
  shown.hidden = true;
  status.role = "status";
  row.append(button, status);
  if (content) {
    body.value = JSON.stringify(content.example, null, 2);
    body.spellcheck = false;
    body.setAttribute("aria-label", words.body);
    made.append(body);
  }
  shown.setAttribute("aria-label", words.answer);
  shown.tabIndex = 0; // it scrolls
  made.append(row, shown);
  button.addEventListener("click", async () => {
    const began = performance.now();
    button.disabled = true;
    try {
      const sent = content ? { body: body.value, headers: { "content-type": "application/json" } } : {};
      const response = await request(path, { method: method.toUpperCase(), ...sent });
      const said = await response.text();
      status.textContent = `${response.status} · ${words.seconds(Math.round(performance.now() - began))}`;
      shown.textContent = pretty(said);
      shown.hidden = false;
      if (secured && response.status === 401) ask(token ? "tokenWrong" : "tokenNeeded");
    } catch {
      status.textContent = words.offline;
    } finally {
      button.disabled = false;
    }
  });
  return made;
}

function pretty(said) {
  try { return JSON.stringify(JSON.parse(said), null, 2); } catch { return said; }
}

function shown(method, path, operation) {
  const card = element("details", "", "card"), summary = element("summary"), inside = element("div", "", "operation");
  summary.append(element("code", method.toUpperCase(), "verb"), element("code", path), english("span", operation.summary, "about"));
  card.append(summary, inside);
  card.addEventListener("toggle", () => { // made when it is first opened: there are many
    if (inside.hasChildNodes()) return;
    const contents = operation.requestBody?.content ?? {};
    const content = contents["application/json"] ?? Object.values(contents)[0];
    const facts = [
      Object.keys(contents).length && `${words.takes}: ${Object.keys(contents).join(", ")}.`,
      operation.responses["200"] && `${words.gives}: ${Object.keys(operation.responses["200"].content).join(", ")}.`,
      operation.security ? "" : words.open,
    ];
    inside.append(element("p", facts.filter(Boolean).join(" ")));
    const list = element("dl");
    const queries = (operation.parameters ?? []).map((one) => [one.name, { ...one.schema, description: one.description }]);
    list.append(...rows({ properties: Object.fromEntries(queries) }), ...rows(content?.schema ?? {}));
    if (list.hasChildNodes()) inside.append(list);
    if (!path.includes("{") && (!operation.requestBody || content.example)) inside.append(trial(method, path, operation.requestBody && content, operation.security));
  });
  return card;
}

function ask(why) {
  token = null;
  kept(() => sessionStorage.removeItem("token"));
  $("access-text").textContent = words[why];
  $("access").hidden = false;
  $("token").value = "";
  $("token").focus();
}

async function load() {
  $("alert").hidden = true;
  let found;
  try {
    const response = await request("/openapi.json");
    if (response.status === 401) return ask(token ? "tokenWrong" : "tokenNeeded");
    found = await response.json();
  } catch {
    $("alert").textContent = words.offline;
    $("alert").hidden = false;
    return;
  }
  $("facts").textContent = `${found.info.title} · OpenAPI ${found.openapi}`;
  const link = element("a", "openapi.json");
  link.href = "./openapi.json";
  $("about").replaceChildren(`${found.info.description} `, link);
  const groups = new Map(found.tags.map(({ name }) => [name, [english("h2", name)]]));
  for (const [path, methods] of Object.entries(found.paths)) {
    for (const [method, operation] of Object.entries(methods)) groups.get(operation.tags[0]).push(shown(method, path, operation));
  }
  $("groups").replaceChildren(...[...groups.values()].filter((group) => group.length > 1).flat());
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  kept(() => sessionStorage.setItem("token", token));
  $("access").hidden = true;
  if (!$("groups").hasChildNodes()) load();
});
const theme = kept(() => localStorage.getItem("theme"));
if (["light", "dark"].includes(theme)) document.documentElement.dataset.theme = theme;
document.documentElement.lang = language;
for (const each of document.querySelectorAll("[data-text]")) each.textContent = words[each.dataset.text];
load();
