"""Nothing uses the network unless asked: a whole training, measured again, opens no connection."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
GUARD = """
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"the network was asked for: {event} {arguments[1:]}")
sys.addaudithook(watch)
from reid_core.cli._main import run
data, out = sys.argv[1:]
tiny = "--arch test_resnet --image_size 32 16 --batchsize 8 --workers 0 --threads 1 --epochs 2 --switch 1".split()
assert run(["train", "--data_dir", data, "--out", out, "--name", "r", *tiny]) == 0
assert run(["evaluate", out + "/r", data, "--workers", "0"]) == 0
assert run(["doctor", data, "--json"]) == 0
assert run(["info"]) == 0
import socket
try:
    socket.getaddrinfo("localhost", 80)
except RuntimeError:
    print("the guard works")
"""


def test_no_connection_is_opened(tiny_market, tmp_path):
    command = [sys.executable, "-c", GUARD, str(tiny_market), str(tmp_path)]
    found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith("the guard works\n")
