"""A Modbus TCP server of pymodbus that holds a register image: PORT IMAGE."""
import asyncio, json, logging, sys
from pymodbus.datastore import ModbusServerContext, ModbusDeviceContext, ModbusSparseDataBlock
from pymodbus.server import StartAsyncTcpServer

logging.disable(logging.CRITICAL)
registers = {int(k): int(v, 16) for k, v in json.load(open(sys.argv[2]))["registers"].items()}
# Holes between the registers of a map are readable and zero, as in most meters.
block = ModbusSparseDataBlock({at: registers.get(at, 0) for at in range(min(registers), max(registers) + 130)})
context = ModbusServerContext(devices=ModbusDeviceContext(hr=block, ir=block), single=True)
asyncio.run(StartAsyncTcpServer(context, address=("127.0.0.1", int(sys.argv[1]))))
