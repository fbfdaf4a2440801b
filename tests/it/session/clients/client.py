"""A backend in Python: one command, one recv."""

import socket
import sys


class Registry:
    def __init__(self):
        self.socket = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        self.socket.settimeout(5)

    def ask(self, command):
        self.socket.sendall(f"{command}\n".encode())
        reply = self.socket.recv(1024).decode().strip()
        print(reply.split("|")[0] if reply.startswith("ACK") else reply)
        return reply


registry = Registry()
sid = registry.ask("REGISTER|api-service|api-v2|9000|9001").split("|")[1]
for command in [
    f"ROUTE|{sid}|api.example.com|/v2|http://api-v2:9000",
    f"ROUTE|{sid}|a.example.com,*.b.example.com|/|http://api-v2:9000",
    f"HEADER|{sid}|X-API-Version|2.0",
    f"OPTIONS|{sid}|timeout|60s",
    f"VALIDATE|{sid}",
    f"MAINT_ENTER|{sid}",
    f"MAINT_EXIT|{sid}",
    "PING",
]:
    registry.ask(command)
registry.socket.close()

registry = Registry()
registry.ask(f"RECONNECT|{sid}")
registry.ask(f"ROUTE|{sid}|api.example.com|/v3|http://api-v2:9000")
registry.socket.close()

registry = Registry()
registry.ask("RECONNECT|forgotten")
sid = registry.ask("REGISTER|web|web-1|8080|0").split("|")[1]
registry.ask(f"ROUTE|{sid}|web.example.com|/|http://web-1:8080")
registry.ask(f"SHUTDOWN|{sid}")
print("the end" if registry.socket.recv(1024) == b"" else "more")
