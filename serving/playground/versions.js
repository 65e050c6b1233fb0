// Other ways to say the same: drawn at random, so that they differ, and shown under the answer.
const VERSIONS = 3;
const LEAST_TEMPERATURE = 0.7; // below it most of them are the same

async function more() {
  const shown = figures;
  const { beams, ...request } = asked(); // a beam search gives one text
  const drawn = { ...request, temperature: Math.max(request.temperature, LEAST_TEMPERATURE), num_return_sequences: VERSIONS };
  $("more").disabled = true;
  try {
    const { texts } = await (await call("generate", { method: "POST", body: JSON.stringify(drawn) })).json();
    if (shown !== figures) return; // the answer that they belong to has gone
    const others = [...new Set(texts)].filter((version) => version !== answer.textContent);
    $("versions").replaceChildren(...others.map((version) => element("li", version)));
    if (!others.length) note(() => say("same"));
  } catch (error) {
    if (shown === figures) failed(error);
  } finally {
    $("more").disabled = false;
  }
}

function showMore() { // where there is an answer
  $("more").hidden = !answer.textContent;
  $("versions").replaceChildren();
}

$("more").addEventListener("click", more);
