"""The SDK of ThingsBoard against our listener: HOST PORT METER SECRET. Connects, reports, and must still be connected on its first connection."""
import json, sys, time
from tb_device_mqtt import TBDeviceMqttClient

host, port, meter, secret = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
client = TBDeviceMqttClient(host, port, username=meter, password=secret)
connections = []
inner = client._client.on_connect
client._client.on_connect = lambda *args, **kwargs: (connections.append(time.time()), inner(*args, **kwargs))[1]
client.connect(timeout=10)
deadline = time.time() + 20
while not client.is_connected() and time.time() < deadline:
    time.sleep(0.1)
info = client.send_telemetry({"ts": 1767225600000, "values": {"energy": 1234.5, "power": 351}})
code = info.get() if info is not None else None
# Longer than its first reconnection would take.
time.sleep(8)
print(json.dumps({"connected": client.is_connected(), "connections": len(connections), "published": code == 0}))
client.disconnect()
