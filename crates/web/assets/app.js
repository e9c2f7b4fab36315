// The console's own script: live values, refreshing parts of a page, keys, confirmation by typing, theme.
// Everything works without it except what must move by itself. Charts are in charts.js.
"use strict";
(() => {
  const doc = document, root = doc.documentElement;
  const live = doc.querySelector(".live");
  const SILENCE_MS = 4500;
  let stream = null, lastHeard = 0;

  function setLive(on) {
    if (!live) return;
    live.classList.toggle("on", on);
    live.classList.toggle("stale", !on);
    const words = live.querySelector("[data-stale]");
    if (words) words.textContent = on || !lastHeard ? "" : ` for ${Math.round((Date.now() - lastHeard) / 1000)} s`;
  }
  // Ages go on with the server's time, which a simulation lets run fast. The words are those of format::ago.
  let serverTime = null;
  function ago(seconds) {
    if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s ago`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
    if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
    return `${Math.round(seconds / 86400)} days ago`;
  }
  function age() {
    if (serverTime === null) return;
    for (const el of doc.querySelectorAll("time[data-age]")) {
      const text = ago((serverTime - Date.parse(el.dateTime)) / 1000);
      if (el.textContent !== text) el.textContent = text;
    }
  }
  // {"text": {key: text}, "attr": {key: {attribute: value}}}; keys are those of data-k.
  function apply(update) {
    for (const [key, text] of Object.entries(update.text || {}))
      for (const el of doc.querySelectorAll(`[data-k="${CSS.escape(key)}"]`)) {
        if (el.textContent !== text) el.textContent = text;
      }
    for (const [key, attributes] of Object.entries(update.attr || {}))
      for (const el of doc.querySelectorAll(`[data-k="${CSS.escape(key)}"]`))
        for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
    if (update.text && update.text.now) { serverTime = Date.parse(update.text.now.replace(" ", "T") + "Z"); age(); }
  }
  function changed(topic) {
    for (const el of doc.querySelectorAll(`[data-refresh~="${CSS.escape(topic)}"]`)) {
      // What somebody is typing is not redrawn; a focused link stays focused, since redrawing keeps elements.
      const at = doc.activeElement;
      if (!(at && el.contains(at) && at.matches("input,select,textarea"))) el.dispatchEvent(new CustomEvent("gt-refresh"));
    }
    doc.dispatchEvent(new CustomEvent("gt-changed", { detail: topic }));
  }
  function heard() { lastHeard = Date.now(); setLive(true); }
  // Browsers open six connections to a server of HTTP/1.1, and every open stream keeps one: with seven pages in view the seventh would
  // wait for ever. So at most STREAMS pages keep theirs; the others open one for a moment, again and again.
  const STREAMS = 3, KEPT_MS = 4000, MOMENT_MS = 1200, PAUSE_MS = 2600;
  const own = `gt-stream-${Math.random().toString(36).slice(2)}`;
  function mayKeep() {
    let others = 0;
    try {
      for (const key of Object.keys(localStorage)) {
        if (!key.startsWith("gt-stream-") || key === own) continue;
        if (Date.now() - Number(localStorage.getItem(key)) < KEPT_MS) others++; else localStorage.removeItem(key);
      }
      if (others >= STREAMS) { localStorage.removeItem(own); return false; }
      localStorage.setItem(own, Date.now());
    } catch { return true; } // without storage nobody can be counted
    return true;
  }
  let keeps = true, again = null;
  function open() {
    const topics = doc.body.dataset.topics;
    if (topics === undefined || stream || doc.hidden) return;
    clearTimeout(again);
    keeps = mayKeep();
    stream = new EventSource("/live?topics=" + encodeURIComponent(topics));
    stream.addEventListener("values", e => { heard(); const u = JSON.parse(e.data); apply(u); doc.dispatchEvent(new CustomEvent("gt-values", { detail: u })); });
    stream.addEventListener("changed", e => { heard(); for (const t of JSON.parse(e.data)) changed(t); });
    stream.addEventListener("beat", heard);
    stream.onerror = () => { if (stream && stream.readyState === 2) { close(); again = setTimeout(open, 2000); } };
    if (!keeps) stream.onopen = () => setTimeout(() => { close(); again = setTimeout(open, PAUSE_MS); }, MOMENT_MS);
  }
  function close() {
    if (stream) { stream.close(); stream = null; }
    try { localStorage.removeItem(own); } catch { /* nothing was noted */ }
  }
  setInterval(() => { if (stream && keeps && !mayKeep()) { close(); open(); } }, 1000);
  doc.addEventListener("visibilitychange", () => { if (doc.hidden) { clearTimeout(again); close(); } else { open(); for (const el of doc.querySelectorAll("[data-refresh]")) changed(el.dataset.refresh.split(" ")[0]); } });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  setInterval(() => {
    if (!doc.hidden && live && Date.now() - lastHeard > SILENCE_MS) { setLive(false); if (!stream && keeps) open(); }
  }, 1000);

  // A command's button wakes when the typed text equals the expected one; the server checks again.
  doc.addEventListener("input", e => {
    const field = e.target.closest("[data-expect]");
    if (!field) return;
    const button = field.form.querySelector("[data-guarded]");
    if (button) button.disabled = field.value.trim() !== field.dataset.expect;
  });
  for (const field of doc.querySelectorAll("[data-expect]")) field.dispatchEvent(new Event("input", { bubbles: true }));

  // A chosen file goes into the text field named by data-into.
  doc.addEventListener("change", async e => {
    const chosen = e.target.closest("[data-into]");
    if (chosen && chosen.files.length) doc.getElementById(chosen.dataset.into).value = await chosen.files[0].text();
  });

  // Keys: / search, ? help, j k move, Enter open.
  const rows = () => [...doc.querySelectorAll("[data-rows] > tr, [data-rows] > li")];
  function move(step) {
    const list = rows();
    if (!list.length) return;
    const at = list.findIndex(r => r.hasAttribute("data-current"));
    const next = Math.max(0, Math.min(list.length - 1, at < 0 ? 0 : at + step));
    if (at >= 0) list[at].removeAttribute("data-current");
    list[next].setAttribute("data-current", "");
    list[next].scrollIntoView({ block: "nearest" });
    const link = list[next].querySelector("a");
    if (link) link.focus();
  }
  doc.addEventListener("keydown", e => {
    if (e.key === "Escape" && e.target.closest(".search")) { e.target.blur(); return; }
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input,select,textarea")) return;
    const help = doc.getElementById("keys");
    if (e.key === "/") { const s = doc.querySelector(".search input"); if (s) { e.preventDefault(); s.focus(); } }
    else if (e.key === "?" && help) help.open ? help.close() : help.showModal();
    else if (e.key === "j") move(1);
    else if (e.key === "k") move(-1);
    else if (e.key.length === 1) {
      const does = doc.querySelector(`[data-key="${CSS.escape(e.key)}"]`);
      if (does && !does.disabled) { e.preventDefault(); does.focus(); does.click(); }
    }
  });
  doc.addEventListener("click", e => {
    const theme = e.target.closest("[data-theme-next]");
    if (theme) {
      const order = ["auto", "light", "dark"];
      const next = order[(order.indexOf(root.dataset.theme || "auto") + 1) % 3];
      root.dataset.theme = next;
      doc.cookie = `gt_theme=${next}; path=/; max-age=31536000; samesite=lax`;
      theme.querySelector("span").textContent = next;
      doc.dispatchEvent(new CustomEvent("gt-theme"));
    }
    const copy = e.target.closest("[data-copy]");
    if (copy && navigator.clipboard) navigator.clipboard.writeText(copy.dataset.copy).then(() => { copy.textContent = "copied"; });
    if (e.target.closest("[data-close]")) e.target.closest("dialog").close();
  });
  root.dataset.ready = "";
})();
