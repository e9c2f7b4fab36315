"""Makers' libraries beside our decoders: FOLDER, DECODED (JSON of `meters decode`), GRIDTALLY, WORK folder. Prints one line of JSON.

What a library reads out of a shared file must be among our values; what a library sends is decoded by us and must be what it was given.
"""
import asyncio, csv, json, subprocess, sys
from decimal import Decimal
from pathlib import Path

folder, decoded, gridtally, work = Path(sys.argv[1]), json.load(open(sys.argv[2])), sys.argv[3], Path(sys.argv[4])
table = []


def norm(value, unit):
    unit = unit or ""
    value = Decimal(str(value)) * (1000 if unit.startswith("k") else 1)
    return (round(value, 6).normalize() + 0, unit.lower().lstrip("k"))


def have(rows):
    return {norm(r["value"], r["unit"]) for r in rows}


def row(peer, kind, theirs, ours, notes=()):
    missing = [t for t in theirs if t not in ours]
    notes = list(notes) + ([f"{len(missing)} differ, such as {missing[0]}"] if missing else [])
    table.append({"peer": peer, "kind": kind, "files": 1, "values": len(theirs), "equal": len(theirs) - len(missing), "notes": notes})


def attempt(name, kind):
    """Runs a comparison; one that cannot be made says why and counts as none."""
    def wrap(run):
        try:
            run()
        except Exception as why:
            table.append({"peer": name, "kind": kind, "files": 0, "values": 0, "equal": 0, "notes": [f"{type(why).__name__}: {why}"]})
    return wrap


def decode(kind, lines):
    """What we make of lines that a library has sent."""
    place = work / "sent"
    (place / kind).mkdir(parents=True, exist_ok=True)
    (place / kind / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "index.json").write_text(json.dumps([{"file": f"{kind}/lines.jsonl"}]))
    told = subprocess.run([gridtally, "meters", "decode", str(place), "--json"], capture_output=True, text=True, check=True).stdout
    return json.loads(told)[f"{kind}/lines.jsonl"]


def payloads(file):
    return [json.loads(line) for line in (folder / file).read_text().splitlines() if line.strip()]


@attempt("hatasmota", "mqtt")
def hatasmota():
    from hatasmota.const import CONF_SENSOR
    from hatasmota.sensor import _get_quantity, SENSOR_UNIT_MAP
    theirs = []
    for message in payloads("mqtt/tasmota_plug.jsonl"):
        if not message["topic"].endswith("/SENSOR"):
            continue
        for key, sensor in json.loads(message["payload"]).items():
            for name, value in sensor.items() if isinstance(sensor, dict) else ():
                unit = SENSOR_UNIT_MAP.get(_get_quantity(key, name, None))
                # Counters of the day and the period are no readings of ours.
                if unit and name not in ("Today", "Yesterday", "Period"):
                    theirs.append(norm(value, unit))
    row("hatasmota", "mqtt", theirs, have(decoded["mqtt/tasmota_plug.jsonl"]))


@attempt("aioshelly", "mqtt")
def aioshelly():
    from aiohttp import ClientSession, web, WSMsgType
    from aioshelly.common import ConnectionOptions
    from aioshelly.rpc_device import RpcDevice, WsServer
    status = {"sys": {"unixtime": 1767225600, "restart_required": False}}
    for message in payloads("mqtt/shelly_pro3em_status.jsonl"):
        component = message["topic"].split("/")[-1]
        if ":" in component:
            status[component] = json.loads(message["payload"])
    info = {"id": "shellypro3em-aabbccddeeff", "mac": "AABBCCDDEEFF", "model": "SPEM-003CEBEU", "gen": 2, "fw_id": "20240425-141453/1.3.0-ga3fdd3d",
            "ver": "1.3.0", "app": "Pro3EM", "auth_en": False, "auth_domain": None, "profile": "triphase", "name": None}
    answers = {"Shelly.GetDeviceInfo": info, "Shelly.GetConfig": {"sys": {"device": {"name": None}}}, "Shelly.GetStatus": status,
               "Shelly.GetComponents": {"components": [], "total": 0, "offset": 0}, "Script.List": {"scripts": []}}

    async def rpc(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                call = json.loads(message.data)
                await socket.send_json({"id": call["id"], "src": info["id"], "dst": call.get("src"), "result": answers.get(call["method"], {})})
        return socket

    async def read():
        app = web.Application()
        app.router.add_get("/rpc", rpc)
        app.router.add_get("/shelly", lambda _: web.json_response(info))
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        async with ClientSession() as session:
            device = await RpcDevice.create(session, WsServer(), ConnectionOptions("127.0.0.1", port=port))
            await device.initialize()
            told = dict(device.status)
            await device.shutdown()
        await runner.cleanup()
        return told

    told = asyncio.run(asyncio.wait_for(read(), 30))
    units = {"act_power": "W", "aprt_power": "VA", "current": "A", "voltage": "V", "pf": "", "freq": "Hz", "total_act_power": "W",
             "total_act_energy": "Wh", "total_act_ret_energy": "Wh", "total_act": "Wh", "total_act_ret": "Wh"}
    theirs = []
    for component in ("em:0", "emdata:0"):
        for key, value in told.get(component, {}).items():
            unit = units.get(key, units.get(key[2:] if key[:2] in ("a_", "b_", "c_") else None))
            if unit is not None and isinstance(value, (int, float)) and key != "total_current" and key != "total_aprt_power":
                theirs.append(norm(value, unit))
    row("aioshelly", "mqtt", theirs, have(decoded["mqtt/shelly_pro3em_status.jsonl"]))


@attempt("pysparkplug", "sparkplug")
def pysparkplug():
    import pysparkplug as psp
    kinds = {"NBIRTH": psp.NBirth, "DBIRTH": psp.DBirth, "DDATA": psp.DData, "NDATA": psp.NData}
    births, theirs = {}, []
    for message in payloads("sparkplug/birth_alias_data.jsonl"):
        _, _, kind, *place = message["topic"].split("/")
        if kind not in kinds:
            continue
        payload = kinds[kind].decode(bytes.fromhex(message["payload_hex"]), birth=births.get(tuple(place)))
        if kind.endswith("BIRTH"):
            births[tuple(place)] = payload
        theirs += [norm(m.value, "") for m in payload.metrics if isinstance(m.value, (int, float)) and not isinstance(m.value, bool) and m.name != "bdSeq"]
    row("pysparkplug", "sparkplug", theirs, have(decoded["sparkplug/birth_alias_data.jsonl"]))
    # And the other way: what it encodes.
    at = 1767225600000
    values = [("Int8", psp.DataType.INT8, -5), ("Int64", psp.DataType.INT64, -1234567890123), ("UInt32", psp.DataType.UINT32, 4000000000),
              ("Float", psp.DataType.FLOAT, 230.5), ("Double", psp.DataType.DOUBLE, 12345.625)]
    metrics = tuple(psp.Metric(timestamp=at, name=name, datatype=kind, value=value, alias=number) for number, (name, kind, value) in enumerate(values))
    birth = psp.DBirth(timestamp=at, seq=1, metrics=metrics)
    data = psp.DData(timestamp=at + 900000, seq=2, metrics=tuple(psp.Metric(timestamp=at + 900000, name=None, datatype=kind, value=value + 1, alias=number)
                                                               for number, (name, kind, value) in enumerate(values)))
    lines = [{"topic": "spBv1.0/g/DBIRTH/e/d", "payload_hex": birth.encode().hex()}, {"topic": "spBv1.0/g/DDATA/e/d", "payload_hex": data.encode().hex()}]
    expected = [norm(value, "") for _, _, value in values] + [norm(value + 1, "") for _, _, value in values]
    row("pysparkplug (sends)", "sparkplug", expected, have(decode("sparkplug", lines)))


@attempt("pyemoncms", "http")
def pyemoncms():
    from aiohttp import web
    from pyemoncms import EmoncmsClient
    seen = []

    async def take(request):
        seen.append({"method": request.method, "path": str(request.rel_url), "body": (await request.read()).decode()})
        return web.json_response({"success": True, "message": "ok"})

    async def send():
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        async with EmoncmsClient(f"http://127.0.0.1:{port}", "key") as client:
            await client.async_input_post(data={"power1": 351, "vrms": 231.5, "E1": 123456}, node="emontx")
        await runner.cleanup()

    asyncio.run(asyncio.wait_for(send(), 30))
    row("pyemoncms (sends)", "http", [norm(351, "W"), norm("231.5", "V"), norm(123456, "Wh")], have(decode("http", seen)))


@attempt("pymodbus", "modbus")
def pymodbus():
    from pymodbus.client.mixin import ModbusClientMixin as Mixin
    types = {"u16": Mixin.DATATYPE.UINT16, "i16": Mixin.DATATYPE.INT16, "u32": Mixin.DATATYPE.UINT32, "i32": Mixin.DATATYPE.INT32,
             "u64": Mixin.DATATYPE.UINT64, "i64": Mixin.DATATYPE.INT64, "f32": Mixin.DATATYPE.FLOAT32, "f64": Mixin.DATATYPE.FLOAT64}
    for image in sorted((folder / "modbus").glob("*.json")):
        table_file = image.with_suffix(".map.csv")
        if image.name.endswith(".expected.json") or not table_file.is_file():
            continue
        registers = {int(k): int(v, 16) for k, v in json.loads(image.read_text())["registers"].items()}
        theirs = []
        for entry in csv.DictReader(table_file.open()):
            fields = list(entry.values())
            kind = types[fields[3]]
            words = [registers.get(int(fields[1]) + at) for at in range(kind.value[1])]
            if None in words:
                continue
            order = "little" if fields[4].startswith("little") else "big"
            value = Mixin.convert_from_registers(words, kind, word_order=order)
            theirs.append(norm(Decimal(str(round(value, 6))) * Decimal(fields[5]), fields[6]))
        row("pymodbus", f"modbus {image.stem}", theirs, have(decoded[f"modbus/{image.name}"]))


print(json.dumps({"table": table}, default=str))
