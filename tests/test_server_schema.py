"""Row 65: requests of every kind that the OpenAPI page allows, and many that it does not."""

import json
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest
from server_help import Server, write_model

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)
pytestmark = [pytest.mark.faults, pytest.mark.slow]


def test_row_65_no_request_makes_the_server_fail_or_answer_otherwise_than_its_page_says(
    tmp_path, tiny
):
    server = Server(tmp_path, write_model(tmp_path / "tiny", replace(tiny, chunk=2)))
    try:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json",
            "--seed", "1", "--max-examples", "20", "--workers", "1", "--phases", "fuzzing",
            "--exclude-path-regex", "events|live", "--request-timeout", "20",
            "--checks", CHECKS, "--no-color", "--generation-deterministic",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert json.loads(httpx.get(f"{server.url}/v1/models").text)["data"]
    finally:
        server.stop()
