"""A Beam worker started by a command: what a runner's PROCESS environment calls.

    #!/bin/sh
    exec /opt/ctr/bin/python -m preprocessing.beam_worker "$@"

Each Flink TaskManager (or Spark executor) starts that script with its own endpoints and gets a
Python process of its own, in the environment the script names, with this project importable. It
asks the runner for the job's options, so that file systems are set up as in the job, and becomes
Beam's own SDK harness. It ends when the runner does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
from google.protobuf import json_format

_PROVISION_SECONDS = 60


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The words every runner appends to the command."""
    parser = argparse.ArgumentParser(prog="python -m preprocessing.beam_worker")
    parser.add_argument("--id", required=True)
    parser.add_argument("--provision_endpoint", required=True)
    parser.add_argument("--logging_endpoint", default="")
    parser.add_argument("--control_endpoint", default="")
    return parser.parse_known_args(words)[0]


def environment(given: argparse.Namespace) -> dict[str, str]:
    """What Beam's SDK harness reads, from the runner's provision service."""
    with grpc.insecure_channel(given.provision_endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        me = [("worker_id", given.id)]
        info = service.GetProvisionInfo(
            request, metadata=me, timeout=_PROVISION_SECONDS, wait_for_ready=True
        ).info
    control = given.control_endpoint or info.control_endpoint.url
    logging = given.logging_endpoint or info.logging_endpoint.url
    return {
        "WORKER_ID": given.id,
        "PIPELINE_OPTIONS": json.dumps(json_format.MessageToDict(info.pipeline_options)),
        "CONTROL_API_SERVICE_DESCRIPTOR": f'url: "{control}"',
        "LOGGING_API_SERVICE_DESCRIPTOR": f'url: "{logging}"',
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


def become_harness(variables: Mapping[str, str]) -> None:
    """Replaces this process by Beam's SDK harness."""
    command = [sys.executable, "-m", "apache_beam.runners.worker.sdk_worker_main"]
    os.execve(sys.executable, command, {**os.environ, **variables})


if __name__ == "__main__":
    become_harness(environment(arguments(sys.argv[1:])))
