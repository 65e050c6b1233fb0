// What both pages need: an element by its id, a new one, and storage.
const $ = (id) => document.getElementById(id);

function kept(access) { // storage may be forbidden; the page works without
  try { return access(); } catch { return null; }
}

function element(tag, content = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = content;
  made.className = className;
  return made;
}
