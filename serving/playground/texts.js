// Where a text comes from, if not from the keyboard: a file, a link; and what is more than the server takes.
const LINK_CHARS = 2000;

const most = () => facts.limits.max_chars;
const size = (content) => (content.length > 2 * most() ? content.length : [...content].length); // a character has 1 or 2 units
const sized = (n) => counted(n, "characters");

function put(content) { // another text in place of the one that is there
  stop();
  text.value = content;
  forget();
  settle();
}

function example(content) { // in its own direction, whatever was chosen
  from.value = AUTO;
  delete target.dataset.chosen;
  put(content);
}

function forget() { // the answer, and all that was said of it
  answer.replaceChildren();
  $("copy").disabled = true;
  figures = null;
  showMore();
  calm();
  showFigures();
  showNote();
}

function refuse(event) { // before the browser lays it out: a megabyte would keep it busy for minutes
  const more = event.data ?? event.dataTransfer?.getData("text/plain") ?? "";
  const staying = text.value.length - (text.selectionEnd - text.selectionStart);
  if (staying + more.length <= most()) return;
  const whole = staying + size(more);
  if (whole <= most()) return;
  event.preventDefault();
  fail(() => say("tooMuch", sized(whole), sized(most())));
}

async function read(file) {
  if (!file) return;
  const shown = file.name.slice(0, 100);
  // A character has 4 bytes at most: what is larger than that is not even read.
  if (file.size > 4 * most()) return fail(() => say("fileTooMuch", shown, sized(most())));
  const bytes = await file.arrayBuffer().catch(() => null); // null for a folder
  const content = bytes && kept(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  if (content === null || content.includes("\0")) return fail(() => say("unread", shown));
  const whole = size(content);
  if (whole > most()) return fail(() => say("tooMuch", sized(whole), sized(most())));
  put(content);
  note(() => say("opened", shown));
}

// A link carries its text behind the #, which browsers send to nobody.
function link() {
  if (size(text.value) > LINK_CHARS) return fail(() => say("linkTooMuch", sized(LINK_CHARS)));
  const parts = { text: text.value, ...(facts.task === "translation" && { from: from.value, into: target.value }) };
  copy(`${location.href.split("#")[0]}#${new URLSearchParams(parts)}`, $("link"));
  note(() => say("linked"));
}

function follow() { // nothing is sent before a person asks for it: the text may be anybody's
  const parts = new URLSearchParams(location.hash.slice(1));
  const content = parts.get("text");
  if (!content || !facts) return;
  if (size(content) > LINK_CHARS) return fail(() => say("linkTooMuch", sized(LINK_CHARS)));
  const [source, into] = [parts.get("from"), parts.get("into")];
  const known = (code) => facts.task === "translation" && facts.languages.includes(code);
  if (known(into) && (source === AUTO || known(source)) && source !== into) {
    [from.value, target.value] = [source, into];
    target.dataset.chosen = "yes";
  }
  put(content);
}

async function copy(content, button) {
  try {
    await navigator.clipboard.writeText(content);
  } catch { // no clipboard outside https and localhost
    document.addEventListener("copy", (event) => { event.clipboardData.setData("text/plain", content); event.preventDefault(); }, { once: true });
    getSelection().selectAllChildren(answer);
    document.execCommand("copy");
    getSelection().removeAllRanges();
  }
  button.classList.add("copied");
  $("spoken").textContent = say("copied");
  setTimeout(() => button.classList.remove("copied"), 1500);
}

text.addEventListener("beforeinput", refuse);
text.addEventListener("input", () => { calm(); settle(); });
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { read($("file").files[0]); $("file").value = ""; });
$("link").addEventListener("click", link);
$("copy").addEventListener("click", () => copy(answer.textContent, $("copy")));
addEventListener("hashchange", follow);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return; // text falls into the field by itself
    event.preventDefault(); // else the browser would leave the page for the file
    $("panels").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && facts) read(event.dataTransfer.files[0]);
  });
}
