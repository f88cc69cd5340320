# SPDX-License-Identifier: Apache-2.0
"""Ray Serve, for houses.py: takes orders from standard input, a line of JSON each, and answers with one.

Run by an interpreter that has Ray Serve; the end of its input ends it.
"""

import json
import sys

import ray
from ray import serve

import crew_python


def answer(failed=""):
    print("house: " + json.dumps({"failed": failed}), flush=True)


def obey(order):
    if order["what"] == "deploy":
        serve.run(crew_python.build(order["arguments"]), name=order["app"], route_prefix=order["route"])
    elif order["what"] == "delete":
        serve.delete(order["app"])
    else:
        raise ValueError(order["what"])


def main():
    ray.init(num_cpus=16, include_dashboard=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    answer()
    for line in sys.stdin:
        try:
            obey(json.loads(line))
        except Exception as error:  # noqa: BLE001: whatever it is, it is told
            answer(str(error) or type(error).__name__)
        else:
            answer()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
