// The console's own script: live values, refreshing parts of a page, keys, confirmation by typing, theme.
// Everything works without it except what must move by itself. Charts are in charts.js.
"use strict";
(() => {
  const doc = document, root = doc.documentElement;
  const live = doc.querySelector(".live");
  const SILENCE_MS = 12000;
  let stream = null, lastHeard = 0;

  function setLive(on) {
    if (!live) return;
    live.classList.toggle("on", on);
    live.classList.toggle("stale", !on);
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
  }
  function changed(topic) {
    for (const el of doc.querySelectorAll(`[data-refresh~="${CSS.escape(topic)}"]`)) {
      if (!el.contains(doc.activeElement) || doc.activeElement === doc.body) el.dispatchEvent(new CustomEvent("gt-refresh"));
    }
    doc.dispatchEvent(new CustomEvent("gt-changed", { detail: topic }));
  }
  function heard() { lastHeard = Date.now(); setLive(true); }
  function open() {
    const topics = doc.body.dataset.topics;
    if (topics === undefined || stream || doc.hidden) return;
    stream = new EventSource("/live?topics=" + encodeURIComponent(topics));
    stream.addEventListener("values", e => { heard(); const u = JSON.parse(e.data); apply(u); doc.dispatchEvent(new CustomEvent("gt-values", { detail: u })); });
    stream.addEventListener("changed", e => { heard(); for (const t of JSON.parse(e.data)) changed(t); });
    stream.addEventListener("beat", heard);
    stream.onerror = () => { if (stream && stream.readyState === 2) { close(); setTimeout(open, 5000); } };
  }
  function close() { if (stream) { stream.close(); stream = null; } }
  doc.addEventListener("visibilitychange", () => { if (doc.hidden) close(); else { open(); for (const el of doc.querySelectorAll("[data-refresh]")) changed(el.dataset.refresh.split(" ")[0]); } });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  setInterval(() => {
    if (!doc.hidden && live && Date.now() - lastHeard > SILENCE_MS) { setLive(false); if (!stream) open(); }
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
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input,select,textarea")) return;
    const help = doc.getElementById("keys");
    if (e.key === "/") { const s = doc.querySelector(".search input"); if (s) { e.preventDefault(); s.focus(); } }
    else if (e.key === "?" && help) help.open ? help.close() : help.showModal();
    else if (e.key === "j") move(1);
    else if (e.key === "k") move(-1);
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
