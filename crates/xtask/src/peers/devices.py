"""Values and speed of other readers on the folder of telegrams: FOLDER, DECODED (JSON of `gridtally meters decode`). Prints JSON."""
import json, math, sys, time
from decimal import Decimal
from pathlib import Path

folder, decoded = Path(sys.argv[1]), json.load(open(sys.argv[2]))
index = json.load(open(folder / "index.json"))
accepted = [e["file"] for e in index if e["outcome"] == "accept"]
table, speed = [], {}


def ours(file):
    return decoded[file] if isinstance(decoded[file], list) else []


def norm(value, unit):
    value = Decimal(str(value)) * (1000 if unit.startswith("k") else 1)
    return (value.normalize() + 0, unit.lower().lstrip("k"))


def compare(peer, kind, values):
    """values(file) gives (number, unit) as the peer reads them; all must be among ours."""
    files = equal = count = 0
    notes = []
    for file in (f for f in accepted if f.split("/")[0] == kind):
        try:
            theirs = values(file)
        except Exception as why:
            notes.append(f"{file}: the peer does not read it ({type(why).__name__})")
            continue
        if not theirs:
            notes.append(f"{file}: the peer gives no value")
            continue
        have = {norm(r["value"], r["unit"]) for r in ours(file)}
        missing = [v for v in theirs if norm(*v) not in have]
        files, count, equal = files + 1, count + len(theirs), equal + len(theirs) - len(missing)
        if missing:
            notes.append(f"{file}: {len(missing)} differ, such as {missing[0]}")
    table.append({"peer": peer, "kind": kind, "files": files, "values": count, "equal": equal, "notes": notes})


def best(run):
    """Fastest run of a second, in microseconds, as ours."""
    run()
    out, end = math.inf, time.perf_counter() + 1
    while time.perf_counter() < end:
        t = time.perf_counter()
        run()
        out = min(out, time.perf_counter() - t)
    return out * 1e6


def dsmr(file):
    from dsmr_parser import telegram_specifications as specs
    from dsmr_parser.parsers import TelegramParser
    text = (folder / file).read_bytes().decode("latin-1")
    text = text[text.index("/"):]
    best_values = []
    for name in ("V5", "V4", "V2_2", "BELGIUM_FLUVIUS", "LUXEMBOURG_SMARTY", "SWEDEN", "Q3D", "SAGEMCOM_T210_D_R", "AUSTRIA_ENERGIENETZE_STEIERMARK"):
        spec = getattr(specs, name, None)
        if spec is None:
            continue
        try:
            telegram = TelegramParser({**spec, "checksum_support": False}).parse(text)
        except Exception:
            continue
        values = []
        for item in telegram:
            for part in (item[1] if isinstance(item[1], list) else [item[1]]):
                value, unit = getattr(part, "value", None), getattr(part, "unit", None)
                if isinstance(value, Decimal) and unit and unit not in ("s",):
                    values.append((value, unit))
        if len(values) > len(best_values):
            best_values = values
    return best_values


def sml(file):
    from smllib import SmlStreamReader
    from smllib.const import UNITS
    reader = SmlStreamReader()
    reader.add((folder / file).read_bytes())
    values = []
    while True:
        try:
            frame = reader.get_frame()
        except Exception:
            continue
        if frame is None:
            return values
        for entry in frame.get_obis():
            unit = UNITS.get(entry.unit)
            if unit and isinstance(entry.value, int):
                values.append((Decimal(entry.value).scaleb(entry.scaler or 0), unit))


def mbus(file):
    import meterbus
    frame = meterbus.load((folder / file).read_bytes())
    data = json.loads(frame.to_JSON())
    records = data["body"]["records"]
    units = {"MeasureUnit.WH": "Wh", "MeasureUnit.W": "W", "MeasureUnit.V": "V", "MeasureUnit.A": "A"}
    return [(round(r["value"], 6), units[r["unit"]]) for r in records if r.get("unit") in units and isinstance(r["value"], (int, float))]


def nem12(file):
    from nemreader import NEMFile
    frame = NEMFile(str(folder / file)).get_data_frame()
    per = {}
    for row in ours(file):
        per[row["meter"]] = per.get(row["meter"], Decimal(0)) + Decimal(row["value"])
    rows = frame.reset_index()
    out = []
    for nmi, part in rows.groupby("nmi"):
        # One column a channel; the others are texts and times.
        columns = [c for c in part.columns if part[c].dtype.kind == "f"]
        total = sum(Decimal(str(round(float(part[c].sum()), 6))) for c in columns)
        out.append((nmi, total, per.get(nmi)))
    return out


def sums():
    files = equal = count = 0
    notes = []
    for file in (f for f in accepted if f.startswith("nem12/")):
        try:
            rows = nem12(file)
        except Exception as why:
            notes.append(f"{file}: the peer does not read it ({type(why).__name__}: {str(why)[:80]})")
            continue
        files += 1
        for nmi, theirs, mine in rows:
            count += 1
            same = mine is not None and abs(theirs - mine) < Decimal("0.001")
            equal += same
            if not same:
                notes.append(f"{file} {nmi}: {theirs} and {mine}")
    table.append({"peer": "nemreader", "kind": "nem12 (sums)", "files": files, "values": count, "equal": equal, "notes": notes})


def push_speed(file):
    from dlms_cosem.protocol.xdlms.data_notification import DataNotification
    from dlms_cosem.utils import parse_as_dlms_data
    raw = (folder / file).read_bytes()
    apdu, at = b"", 0
    while at + 2 < len(raw):
        if raw[at] == 0x7E and raw[at + 1] & 0xF0 == 0xA0:
            n = (raw[at + 1] & 7) << 8 | raw[at + 2]
            inner, head = raw[at + 1:at + 1 + n], 2
            for _ in ("destination", "source"):
                while inner[head] & 1 == 0:
                    head += 1
                head += 1
            # control, header check; frame check at the end
            apdu += inner[head + 3:-2]
            at += n + 1
        else:
            at += 1
    apdu = apdu[apdu.index(b"\x0f"):]
    def run():
        notification = DataNotification.from_bytes(apdu)
        parse_as_dlms_data(notification.body)
    return best(run)


def measure():
    from dsmr_parser import telegram_specifications as specs
    from dsmr_parser.parsers import TelegramParser
    from smllib import SmlStreamReader
    text = (folder / sys.argv[3]).read_bytes().decode()
    parser = TelegramParser(specs.V5)
    speed["dsmr-parser"] = best(lambda: [parser.parse(text), None])
    raw = (folder / sys.argv[4]).read_bytes()

    def one():
        reader = SmlStreamReader()
        reader.add(raw)
        while True:
            try:
                frame = reader.get_frame()
            except Exception:
                continue
            frame.parse_frame()
            return
    speed["smllib"] = best(one)
    try:
        speed["dlms-cosem"] = push_speed(sys.argv[5])
    except Exception as why:
        speed["dlms-cosem"] = None
        table.append({"peer": "dlms-cosem", "kind": "dlms-push", "files": 0, "values": 0, "equal": 0, "notes": [f"{type(why).__name__}: {why}"]})


compare("dsmr-parser", "p1", dsmr)
compare("smllib", "sml", sml)
compare("pyMeterBus", "mbus", mbus)
sums()
measure()
print(json.dumps({"table": table, "speed": speed}, default=str))
