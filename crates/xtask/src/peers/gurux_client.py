"""Reads the simulated meter with the Gurux client over TCP: PORT none|lls|hls wrapper|hdlc. Prints one line of JSON."""
import json, socket, sys, time
from gurux_dlms import GXByteBuffer, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType, Security, ObjectType
from gurux_dlms.secure import GXDLMSSecureClient
from gurux_dlms.objects import GXDLMSRegister, GXDLMSProfileGeneric, GXDLMSDisconnectControl

port, how, framing = int(sys.argv[1]), sys.argv[2], sys.argv[3]
auth = {"none": Authentication.NONE, "lls": Authentication.LOW, "hls": Authentication.HIGH_GMAC}[how]
client = GXDLMSSecureClient(True, 16, 1, auth, "Gridtally-secret" if how == "lls" else None,
                            InterfaceType.WRAPPER if framing == "wrapper" else InterfaceType.HDLC)
client.maxReceivePDUSize = 512
if how == "hls":
    client.ciphering.security = Security.AUTHENTICATION_ENCRYPTION
    client.ciphering.systemTitle = bytes.fromhex("4D4D4D0000000001")
    client.ciphering.blockCipherKey = bytes.fromhex("000102030405060708090A0B0C0D0E0F")
    client.ciphering.authenticationKey = bytes.fromhex("D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF")
    client.ciphering.invocationCounter = int(sys.argv[4]) if len(sys.argv) > 4 else 1

line = socket.create_connection(("127.0.0.1", port), timeout=10)

def frame(data):
    reply = GXReplyData()
    notify = GXReplyData()
    line.sendall(bytes(data))
    buffer = GXByteBuffer()
    while True:
        part = line.recv(4096)
        if not part:
            raise EOFError("the meter closed")
        buffer.set(part)
        if client.getData(buffer, reply, notify):
            return reply

def exchange(data):
    if not data:
        return GXReplyData()
    messages = data if isinstance(data, list) else [data]
    reply = GXReplyData()
    for message in messages:
        one(message, reply)
    return reply

def one(message, reply):
    notify = GXReplyData()
    line.sendall(bytes(message))
    buffer = GXByteBuffer()
    def more():
        while not client.getData(buffer, reply, notify):
            part = line.recv(4096)
            if not part:
                raise EOFError("the meter closed")
            buffer.set(part)
    more()
    while reply.isMoreData():
        line.sendall(bytes(client.receiverReady(reply)))
        buffer.clear()
        more()
    if reply.error:
        raise ValueError(f"error {reply.error}")

request = client.snrmRequest()
if request:
    client.parseUAResponse(exchange(request).data)
reply = exchange(client.aarqRequest())
client.parseAareResponse(reply.data)
if client.isAuthenticationRequired:
    reply = exchange(client.getApplicationAssociationRequest())
    client.parseApplicationAssociationResponse(reply.data)

def read(item, index):
    reply = exchange(client.read(item, index))
    return client.updateValue(item, index, reply.value)

out = {}
register = GXDLMSRegister("1.0.1.8.0.255")
read(register, 3)
out["energy"] = read(register, 2)
profile = GXDLMSProfileGeneric("1.0.99.1.0.255")
read(profile, 3)
out["rows"] = len(read(profile, 2))
rows = profile.buffer
reply = exchange(client.readRowsByEntry(profile, 2, 3))
out["by_entry"] = len(client.updateValue(profile, 2, reply.value))
start = rows[10][0]
end = rows[19][0]
reply = exchange(client.readRowsByRange(profile, start, end))
out["by_range"] = len(client.updateValue(profile, 2, reply.value))
contact = GXDLMSDisconnectControl("0.0.96.3.10.255")
def settled(wanted):
    """The contact, read until it is as wanted: the relay keeps ten seconds between two operations."""
    for _ in range(30):
        output = read(contact, 2)
        if output == wanted:
            break
        time.sleep(0.5)
    return output

try:
    exchange(contact.remoteDisconnect(client))
    out["after_disconnect"] = settled(False)
    exchange(contact.remoteReconnect(client))
    out["after_reconnect"] = settled(True)
except ValueError as why:
    out["switching"] = str(why)
exchange(client.releaseRequest())
print(json.dumps(out, default=str))
