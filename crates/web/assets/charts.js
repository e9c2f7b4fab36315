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
      scales: { x: { time: true } }, axes: axes(unit, digits), legend: { live: true },
      hooks: { setScale: [zoomed], draw: [marks(el)] }
    };
  }
  // A power is drawn from zero, and a flat zero on a tenth of a kilowatt.
  const fromZero = (u, low, high) => {
    if (low == null) return [0, 0.1];
    const top = Math.max(high, 0), bottom = Math.min(low, 0), pad = (top - bottom) * 0.06;
    return [bottom < 0 ? bottom - pad : 0, Math.max(top + pad, 0.1)];
  };
  const power = { x: { time: true }, y: { range: fromZero } };
  // Zooming one chart zooms all of the page; double-click brings all back.
  let joining = false;
  function zoomed(u, key) {
    if (key !== "x" || joining || !u.zoomedByHand) return;
    joining = true;
    const { min, max } = u.scales.x;
    for (const el of all()) if (el.chart && el.chart !== u && min != null) { el.zoomed = true; el.chart.setScale("x", { min, max }); }
    joining = false;
  }
  function unzoom() {
    joining = true;
    for (const el of all()) if (el.chart) { el.zoomed = false; el.chart.zoomedByHand = false; el.chart.setData(el.chart.data, true); }
    joining = false;
  }
  // What happened at a time: data-marks is [[seconds, "word"], …].
  function marks(el) {
    return u => {
      if (!el.dataset.marks) return;
      const { ctx, bbox } = u, r = devicePixelRatio || 1;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = colour("ink");
      ctx.lineWidth = r;
      ctx.font = `600 ${11 * r}px system-ui`;
      let before = -1e9, row = 0;
      for (const [at, word] of JSON.parse(el.dataset.marks)) {
        if (at < u.scales.x.min || at > u.scales.x.max) continue;
        const x = Math.round(u.valToPos(at, "x", true));
        row = x - before < 90 * r ? row + 1 : 0;
        before = x;
        ctx.setLineDash([4 * r, 3 * r]);
        ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
        const right = x + 90 * r > bbox.left + bbox.width;
        ctx.textAlign = right ? "right" : "left";
        ctx.fillText(word, x + (right ? -4 : 4) * r, bbox.top + (12 + 13 * row) * r);
      }
      ctx.restore();
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
        scales: power,
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
        hooks: { setScale: [zoomed], draw: [zeroLine, marks(el)] }
      })
    },
    // A meter's mean power by interval, from its registers.
    power: {
      url: el => el.dataset.url,
      columns: rows => [rows.map(r => r.end), rows.map(r => r.import_w == null ? null : r.import_w / 1000), rows.map(r => r.export_w ? -r.export_w / 1000 : null)],
      options: el => ({ ...base(el, "kW"), scales: power, series: [time, line("import", "metered", { fill: alpha("metered", 35) }), line("export", "good", { fill: alpha("good", 35) })], hooks: { setScale: [zoomed], draw: [zeroLine, marks(el)] } })
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
    el.chart.over.addEventListener("mousedown", () => { el.chart.zoomedByHand = true; });
    el.chart.over.addEventListener("mouseup", () => { el.zoomed = true; });
    el.chart.over.addEventListener("dblclick", unzoom);
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
