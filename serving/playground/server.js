// The server: requests, streams, and what a refusal means in plain words.
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
    this.field = /^(\w+)(?:\[\d+\])?: /.exec(message)?.[1] ?? "";
  }

  sentence() {
    const long = /(\d+) (token|character)s.*?(?:at most|more than|exceed the) (\d+)/.exec(this.message);
    if (long) return say("tooLong", counted(Number(long[1]), long[2] === "token" ? "tokenForms" : "characters"), number(Number(long[3])));
    if (this.status === 400 && this.field in words) return say("field", say(this.field));
    return say(REFUSALS[this.status] ?? (this.status >= 500 ? "broken" : "refused"));
  }
}

async function call(path, options = {}) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, typeof body.error === "string" ? body.error : "");
}

async function send(request, signal) {
  const options = { method: "POST", body: JSON.stringify(request), signal };
  if (streams) {
    try {
      return await call("generate_stream", options);
    } catch (error) {
      if (![404, 405].includes(error.status)) throw error;
      streams = false;
    }
  }
  return call("generate", options);
}

async function* eventsOf(response) {
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
    const whole = await response.json();
    yield { ...whole, generated_tokens: whole.tokens_used - whole.prompt_tokens };
    return;
  }
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  for (let rest = "", over = false; !over; ) {
    const { value, done } = await reader.read();
    over = done;
    rest += decoder.decode(value, { stream: !done });
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n").trim();
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

