"""`python -m deploy.local up|demo`: the local stack in the foreground, or a guided tour of it."""

import argparse
import signal
import sys
import time
from types import FrameType

from deploy.local.demo import run_demo
from deploy.local.processes import ProcessFailed
from deploy.local.server import ServerBinaryMissing, ServerFailed
from deploy.local.stack import Stack
from deploy.local.tenants import OPERATOR

_KEY = "bl_local_acme"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="run the stack until Ctrl-C")
    up.add_argument("--port", type=int, default=50051, help="of the router on localhost (default: 50051)")
    commands.add_parser("demo", help="start a stack on free ports, show what it does, stop it")
    arguments = parser.parse_args()
    # SIGTERM ends the stack as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _up(arguments.port) if arguments.command == "up" else run_demo()
    except (ProcessFailed, ServerFailed, ServerBinaryMissing) as error:
        print(f"\nthe stack failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
        return 130


def _up(port: int) -> int:
    began = time.monotonic()
    with Stack(port=port, say=_say) as stack:
        stack.start()
        print(f"\nReady after {time.monotonic() - began:.1f} s: router on {stack.target}, an FP4 and an FP8 worker.")
        print(
            f"""
In another terminal:

  export BITLANE_API_KEY={_KEY}
  .venv/bin/bitlane chat
  .venv/bin/bitlane generate "What is the capital of France?"
  .venv/bin/bitlane explain "Is a verbal contract binding?"

or in Python:

  import bitlane
  question = [{{"role": "user", "content": "What is the capital of France?"}}]
  with bitlane.Client("{stack.target}", api_key="{_KEY}") as client:
      print(client.generate(messages=question, model="smollm2").text)

Whoever runs the service (tenants, keys, limits, usage):

  export BITLANE_API_KEY={OPERATOR}
  .venv/bin/bitlane admin tenants list
  .venv/bin/bitlane admin usage

Logs are in {stack.folder} while it runs. Ctrl-C stops everything.""",
            flush=True,
        )
        try:
            while (dead := stack.dead()) is None:
                time.sleep(0.2)
        except KeyboardInterrupt:
            print("\nstopping: running streams may finish ...", flush=True)
            return 0
        raise ProcessFailed(f"{dead.name} ended with {dead.returncode}:\n{dead.tail()}")


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
