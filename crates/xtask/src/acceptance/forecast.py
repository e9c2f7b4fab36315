"""Joins histories, forecasts the mean of four weeks, checks sums over the network, judges solar. Prints one JSON object."""
import csv, json, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq

Q = np.round(np.arange(0.05, 0.951, 0.05), 2)
COLUMNS = [f"q{int(round(q * 100)):02d}" for q in Q]
DAY = 86400

def join(out, *parts):
    tables = [pq.read_table(p, columns=["series_id", "end", "kwh"]).cast(pa.schema([("series_id", pa.string()), ("end", pa.int64()), ("kwh", pa.float32())])) for p in parts]
    rows = {}
    for table in tables:
        for s, e, k in zip(table["series_id"].to_pylist(), table["end"].to_pylist(), table["kwh"].to_pylist()):
            rows[(s, e)] = k
    keys = list(rows)
    whole = pa.table({"series_id": [k[0] for k in keys], "end": pa.array([k[1] for k in keys], pa.int64()), "kwh": pa.array(list(rows.values()), pa.float32())})
    pq.write_table(whole, out, compression="zstd")
    return {"rows": len(keys)}

def usual(history, series, meta, out):
    m = json.load(open(meta)); step, horizon = m["step_s"], m["horizon"]
    t = pq.read_table(history); by = {}
    for s, e, k in zip(t["series_id"].to_pylist(), t["end"].to_pylist(), t["kwh"].to_pylist()):
        by.setdefault(s, {})[e] = k
    cols = {"series_id": [], "origin": [], "end": []}; bands = []
    for name in pq.read_table(series)["series_id"].to_pylist():
        at = by[name]
        def mean(end):
            seen = [at[end - w * 7 * DAY] for w in (1, 2, 3, 4) if end - w * 7 * DAY in at]
            return float(np.mean(seen)) if seen else np.nan
        for day in range(m["origins"]):
            origin = m["origin_first"] + day * DAY
            for k in range(1, horizon + 1):
                end = origin + k * step
                left = [at[e] - mean(e) for e in (end - d * DAY for d in range(1, 29)) if e in at]
                left = [v for v in left if np.isfinite(v)] or [0.0]
                centre = mean(end); centre = centre if np.isfinite(centre) else 0.0
                cols["series_id"].append(name); cols["origin"].append(origin); cols["end"].append(end)
                bands.append(centre + np.quantile(left, Q))
    bands = np.asarray(bands)
    for i, c in enumerate(COLUMNS):
        cols[c] = bands[:, i]
    pq.write_table(pa.table(cols), out, compression="zstd")
    return {"rows": len(bands)}

def sums(forecast, series):
    parents = {r["series_id"]: r.get("parent") for r in pq.read_table(series).to_pylist()}
    t = pq.read_table(forecast, columns=["series_id", "origin", "end", "mean"]); own = {}; below = {}
    for s, o, e, m in zip(*(t[c].to_pylist() for c in t.column_names)):
        own[(s, o, e)] = m
        if parents.get(s):
            below[(parents[s], o, e)] = below.get((parents[s], o, e), 0.0) + m
    gap = max((abs(v - own[k]) / max(abs(own[k]), 1e-6) for k, v in below.items()), default=0.0)
    return {"gap": gap}

def solar(found, truth):
    rows = {r["site"]: r for r in csv.DictReader(open(truth))}; out = {}; dated = [0, 0]
    for place in "LF":
        hit = false = missed = 0; errors = []; dates = []
        for r in pq.read_table(found).to_pylist():
            t = rows.get(r["site"])
            if t is None or r["site"][0] != place:
                continue
            has, says = t["has_pv"] == "True", r["p"] >= 0.5
            hit += has and says; false += says and not has; missed += has and not says
            if has and says:
                errors.append(abs(r["kwp"] / float(t["kwp"]) - 1))
            if has and t["installed"]:
                off = None if r["installed"] is None else round((r["installed"] - float(t["installed"])) / DAY)
                dates.append(off); dated[0] += off is not None and abs(off) <= 21; dated[1] += 1
        e = np.asarray(errors or [np.nan])
        out[place] = {"precision": hit / max(hit + false, 1), "recall": hit / max(hit + missed, 1), "kwp_error": float(np.median(e)), "within_25": float(np.mean(e <= 0.25)), "dates": dates}
    out["dated"] = dated[0] / max(dated[1], 1)
    return out

print(json.dumps({"join": join, "usual": usual, "sums": sums, "solar": solar}[sys.argv[1]](*sys.argv[2:])))
