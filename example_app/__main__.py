"""Run the example: ``python -m example_app [--port 5000]``."""

import argparse

from . import create_app

parser = argparse.ArgumentParser(prog="python -m example_app", description="A chat that remembers.")
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=5000)
arguments = parser.parse_args()

create_app().run(host=arguments.host, port=arguments.port, threaded=True)
