#!/usr/bin/env python3
"""Announces a backend, keeps its session, and ends it in order at SIGTERM.

    announce.py REGISTRY PORT SERVICE HOSTNAME BACKEND_PORT DOMAIN

Needs nothing but Python 3.7. Take it into the backend itself, or run it beside.
"""

import random
import signal
import socket
import sys
import time

registry, registry_port, service, hostname, port, domain = sys.argv[1:]

# What is announced; {} is the session's id.
ANNOUNCED = [
    f"ROUTE|{{}}|{domain}|/|http://{hostname}:{port}",
    "HEADER|{}|X-Served-By|" + hostname,
    "OPTIONS|{}|timeout|60s",
]
# How long a proxy may take to hear that the session has ended.
DRAIN = 2


class Stop(Exception):
    """The process was asked to end."""


def stop(*_):
    raise Stop


def say(text):
    print(text, file=sys.stderr, flush=True)


def connect():
    link = socket.create_connection((registry, int(registry_port)), timeout=5)
    # So that it is noticed when the registry's host has gone.
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return link


def ask(link, command):
    """Sends one command and reads one reply, which may come in pieces."""
    link.settimeout(5)
    link.sendall(f"{command}\n".encode())
    reply = b""
    while not reply.endswith(b"\n"):
        piece = link.recv(1024)
        if not piece:
            raise ConnectionError("the registry closed the connection")
        reply += piece
    reply = reply.decode().rstrip("\n")
    if reply == "ERROR|Unavailable":
        raise ConnectionError(reply)  # Nothing was changed: again in a moment.
    if reply.startswith("ERROR|") and not command.startswith("RECONNECT|"):
        sys.exit(f"{command.split('|')[0]}: {reply}")  # Wrong for ever.
    return reply


def take_up(link, sid):
    """Takes the session up again if there is one, else opens one."""
    if sid and ask(link, f"RECONNECT|{sid}") == "OK":
        return sid
    return ask(link, f"REGISTER|{service}|{hostname}|{port}|0")[len("ACK|") :]


link, sid, wait = None, None, 0.5
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
try:
    while True:
        try:
            link = connect()
            sid = take_up(link, sid)
            for command in ANNOUNCED:
                # The same again changes nothing, so this may be repeated.
                ask(link, command.format(sid))
            say("announced")
            wait = 0.5
            link.settimeout(None)
            link.recv(1)  # Nothing comes unasked: this waits for the end.
        except OSError as error:
            say(f"{registry}:{registry_port}: {error}")
        # A random part: everybody comes back at once.
        time.sleep(wait * random.uniform(0.5, 1.5))
        wait = min(2 * wait, 15)
except Stop:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sid:
        say(ask(link, f"SHUTDOWN|{sid}"))
        # The backend goes on serving meanwhile, and ends then.
        time.sleep(DRAIN)
