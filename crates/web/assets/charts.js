// Time charts on uPlot: the stacked balance with its hatched gap, the residual with its band, a meter's power and voltage.
// A missing value is a hole, never a zero. Data comes from the same REST resources as everyone else's.
"use strict";
(() => {
  const doc = document;
  const probe = doc.createElement("i");
  doc.body.append(probe);
  const colour = name => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  const alpha = (name, percent) => { probe.style.color = `color-mix(in srgb, var(--${name}) ${percent}%, transparent)`; return getComputedStyle(probe).color; };
  function hatch(name) {
    const r = devicePixelRatio || 1, size = Math.round(8 * r);
    const c = doc.createElement("canvas");
    c.width = c.height = size;
    const g = c.getContext("2d");
    g.strokeStyle = colour(name);
    g.lineWidth = 2 * r;
    for (const o of [-size, 0, size]) { g.beginPath(); g.moveTo(o, size); g.lineTo(o + size, 0); g.stroke(); }
    return g.createPattern(c, "repeat");
  }
  const kw = v => v == null ? "–" : v.toFixed(2).replace("-", "\u2212");
  const pad = n => String(n).padStart(2, "0");
  const utc = s => { const d = new Date(s * 1000); return `${d.getUTCFullYear()}-${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())} ${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}`; };
  const axes = (unit, digits) => {
    const base = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "12px system-ui" };
    const hours = (u, splits) => splits.map((t, i) => {
      const d = new Date(t * 1000), day = `${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())}`;
      const whole = d.getUTCHours() === 0 && d.getUTCMinutes() === 0;
      return whole ? day : `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}` + (i === 0 ? `\n${day}` : "");
    });
    return [{ ...base, values: hours }, { ...base, size: 60, label: unit, labelSize: 18, labelFont: "12px system-ui", values: (u, vs) => vs.map(v => v.toFixed(digits === undefined ? (Math.abs(vs[vs.length - 1] - vs[0]) < 5 ? 1 : 0) : digits).replace("-", "\u2212")) }];
  };
  const stepped = uPlot.paths.stepped({ align: -1 });
  const sync = uPlot.sync("page");
  function zeroLine(u) {
    const y = Math.round(u.valToPos(0, "y", true));
    u.ctx.save();
    u.ctx.strokeStyle = colour("edge");
    u.ctx.beginPath(); u.ctx.moveTo(u.bbox.left, y); u.ctx.lineTo(u.bbox.left + u.bbox.width, y); u.ctx.stroke();
    u.ctx.restore();
  }
  function base(el, unit, digits) {
    return {
      width: Math.max(280, el.clientWidth), height: Number(el.dataset.height || 240),
      tzDate: ts => uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"),
      cursor: { sync: { key: sync.key }, drag: { x: true, y: false } },
      scales: { x: { time: true } }, axes: axes(unit, digits), legend: { live: true }
    };
  }
  const time = { label: "interval end (UTC)", value: (u, v) => v == null ? "–" : utc(v) };
  const line = (label, name, more) => ({ label, stroke: colour(name), width: 1.5, paths: stepped, spanGaps: false, points: { show: false }, value: (u, v) => kw(v), ...more });

  const kinds = {
    // Power in kW by interval: metered, technical on top, the gap to the supplied line hatched.
    balance: {
      url: el => el.dataset.url,
      columns(rows) {
        const power = (r, v) => v == null ? null : v * 60 / r.minutes / 1000;
        return [rows.map(r => r.end), rows.map(r => power(r, r.supplied_wh)), rows.map(r => power(r, r.metered_wh + r.technical_wh)), rows.map(r => power(r, r.metered_wh))];
      },
      options: el => ({
        ...base(el, "kW"),
        series: [time, line("supplied", "ink", { width: 2 }), line("metered + technical", "technical"), line("metered", "metered", { fill: alpha("metered", 45) })],
        bands: [{ series: [1, 2], fill: hatch("gap") }, { series: [2, 3], fill: alpha("technical", 55) }]
      })
    },
    // Unaccounted power and two standard deviations around it.
    residual: {
      url: el => el.dataset.url,
      columns(rows) {
        const power = (r, v) => v * 60 / r.minutes / 1000;
        const sigma = r => 2 * Math.hypot(r.sigma_random_wh, r.sigma_systematic_wh);
        return [rows.map(r => r.end), rows.map(r => power(r, r.unaccounted_wh + sigma(r))), rows.map(r => power(r, r.unaccounted_wh - sigma(r))), rows.map(r => power(r, r.unaccounted_wh))];
      },
      options: el => ({
        ...base(el, "kW"),
        scales: { x: { time: true }, y: { range: (u, low, high) => { const pad = (Math.max(high, 0) - Math.min(low, 0)) * 0.08 || 0.1; return [Math.min(low, 0) - pad, Math.max(high, 0) + pad]; } } },
        series: [time, line("+2σ", "technical", { width: 0 }), line("−2σ", "technical", { width: 0 }), line("unaccounted", "gap", { width: 2 })],
        bands: [{ series: [1, 2], fill: alpha("technical", 40) }],
        hooks: { draw: [zeroLine] }
      })
    },
    // A meter's mean power by interval, from its registers.
    power: {
      url: el => el.dataset.url,
      columns: rows => [rows.map(r => r.end), rows.map(r => r.import_w == null ? null : r.import_w / 1000), rows.map(r => r.export_w ? -r.export_w / 1000 : null)],
      options: el => ({ ...base(el, "kW"), series: [time, line("import", "metered", { fill: alpha("metered", 35) }), line("export", "good", { fill: alpha("good", 35) })], hooks: { draw: [zeroLine] } })
    },
    voltage: {
      url: el => el.dataset.url,
      columns: rows => [rows.map(r => r.end), rows.map(r => r.voltage_mv == null ? null : r.voltage_mv / 1000)],
      options: el => ({ ...base(el, "V", 0), series: [time, line("mean voltage", "metered", { value: (u, v) => v == null ? "–" : v.toFixed(1) })] })
    }
  };

  function withHoles(rows) {
    const out = [];
    for (const row of rows) {
      const before = out[out.length - 1];
      if (before && row.end - before.end > row.minutes * 60 * 1.5) out.push({ end: before.end + row.minutes * 60, minutes: row.minutes, hole: true });
      out.push(row);
    }
    return out;
  }
  const fetched = new Map();
  function rowsOf(url) {
    if (!fetched.has(url)) {
      fetched.set(url, fetch(url, { headers: { accept: "application/json" } }).then(r => { if (!r.ok) throw new Error(r.status); return r.json(); }).finally(() => setTimeout(() => fetched.delete(url), 500)));
    }
    return fetched.get(url);
  }
  async function draw(el) {
    const kind = kinds[el.dataset.chart];
    let body;
    try { body = await rowsOf(kind.url(el)); } catch { if (!el.chart) el.textContent = "The data could not be read. Reload the page to try again."; return; }
    const rows = withHoles(body.rows || []);
    if (rows.filter(r => !r.hole).length < 2) { if (el.chart) { el.chart.destroy(); el.chart = null; } el.textContent = "No data yet in this period."; return; }
    const columns = kind.columns(rows).map((c, i) => i === 0 ? c : c.map((v, j) => rows[j].hole || !Number.isFinite(v) ? null : v));
    if (el.chart) { el.chart.setData(columns, !el.zoomed); return; }
    el.textContent = "";
    const options = kind.options(el);
    el.chart = new uPlot(options, columns, el);
    el.chart.over.addEventListener("mouseup", () => { el.zoomed = true; });
    el.chart.over.addEventListener("dblclick", () => { el.zoomed = false; });
    el.dataset.drawn = "";
  }
  const all = () => [...doc.querySelectorAll(".chart[data-chart]")];
  function redraw() { for (const el of all()) { if (el.chart) { el.chart.destroy(); el.chart = null; } draw(el); } }
  all().forEach(draw);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth === width) return; width = innerWidth; for (const el of all()) if (el.chart) el.chart.setSize({ width: Math.max(280, el.clientWidth), height: Number(el.dataset.height || 240) }); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  doc.addEventListener("gt-theme", redraw);
  let due = null;
  doc.addEventListener("gt-changed", e => {
    if (due || !all().some(el => el.dataset.topic === e.detail)) return;
    due = setTimeout(() => { due = null; all().forEach(draw); }, 1500);
  });
})();
