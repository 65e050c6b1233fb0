// One request: asked, told as it comes, stopped, failed.
function asked() {
  const request = { prompt: text.value };
  if (facts.task === "translation") Object.assign(request, { source: from.value, target: target.value });
  if ($("author").value) request.author = $("author").value;
  for (const [name] of SLIDERS) if (!$(name).disabled) request[name] = Number($(name).value);
  if (!$("max_tokens").dataset.chosen) delete request.max_tokens; // the server's default also fits beside a long prompt
  // As text: a seed may be larger than JavaScript's whole numbers.
  if (!$("seed").disabled && $("seed").value.trim()) request.seed = $("seed").value.trim();
  return request;
}

function failed(error, retry = null) {
  if (error.status === 401) return askToken(token ? "tokenWrong" : "tokenNeeded", retry);
  if (error instanceof Refusal) return fail(() => error.sentence(), { detail: error.message, field: error.field, retry });
  console.debug(error);
  fail(() => say(answer.textContent ? "torn" : "offline"), { retry });
}

async function run() {
  if (!facts) return;
  stop();
  forget();
  if (facts.task === "translation" && !text.value.trim()) {
    fail(() => say("empty"), { field: "prompt" });
    return text.focus();
  }
  const mine = (current = new AbortController());
  const request = asked();
  const figure = (figures = { text: text.value, sent: performance.now(), tokens: 0 });
  const shown = answer.appendChild(document.createTextNode(""));
  answer.setAttribute("aria-busy", "true");
  $("stop").classList.add("shown");
  answer.closest("section").scrollIntoView({ block: "nearest", behavior: "smooth" });
  const ticks = setInterval(showFigures, 100);
  let last = null;
  try {
    for await (const event of eventsOf(await send(request, mine.signal))) {
      if (mine !== current) return;
      if (event.error) throw new Refusal(event.status ?? 500, event.error);
      figure.last = performance.now();
      figure.tokens = event.generated_tokens ?? figure.tokens + 1; // the last event has the exact number
      if (figure.tokens) figure.first ??= figure.last;
      shown.appendData(event.text ?? "");
      if (event.finish_reason) last = event;
    }
    if (!last) throw new TypeError("the stream ended before its last event");
    figure.promptTokens = last.prompt_tokens;
    figure.source = last.source;
    settle();
    const length = $("max_tokens");
    const all = () => tokensOf(figure.tokens);
    if (last.finish_reason === "length") note(() => say(length.dataset.chosen && length.value < length.max ? "cut" : "atLimit", all()));
    $("spoken").textContent = say("done", all());
    remember({ text: figure.text, answer: answer.textContent, into: request.target ?? "" });
  } catch (error) {
    if (mine === current) failed(error, error.status === 401 ? run : null);
  } finally {
    clearInterval(ticks);
    figure.end = performance.now();
    if (mine === current) over();
  }
}

function stop() {
  if (!current) return;
  current.abort();
  figures.end = performance.now();
  over();
  note(() => say("stopped"));
}

function over() {
  current = null;
  if (!figures.first) figures = null;
  if (document.activeElement === $("stop")) $("run").focus();
  $("stop").classList.remove("shown");
  answer.setAttribute("aria-busy", "false");
  $("copy").disabled = !answer.textContent;
  showMore();
  showCount();
  showFigures();
}

function askToken(why, next) {
  again = next;
  token = null;
  kept(() => sessionStorage.removeItem("token"));
  $("access-text").dataset.text = why;
  $("access-text").textContent = say(why);
  $("access").hidden = false;
  $("token").value = "";
  $("token").focus();
}
