"""Processes of one machine that know of each other: free ports, and what TF_CONFIG tells each."""

import json
import socket


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nothing listens, each another one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def configs(processes: int) -> list[str]:
    """The `TF_CONFIG` of each of so many workers."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(processes)]}
    tasks = [{"type": "worker", "index": number} for number in range(processes)]
    return [json.dumps({"cluster": cluster, "task": task}) for task in tasks]
