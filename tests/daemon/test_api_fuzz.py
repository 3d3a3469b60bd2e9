"""Requests made up from the API's own description: whatever is asked, nothing is the daemon's fault."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from daemon.service import Service

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

EXAMPLES = 10
"""Of each operation; `settings.register_profile` is for those who have the night."""

LONG = {"/api/v1/models"}
"""What loads the model libraries for every right answer."""


def test_no_request_is_answered_with_an_error_of_ours(shared: Service, take: str) -> None:
    api = schemathesis.openapi.from_url(f"{shared.http_url}/api/v1/openapi.json")
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) >= 15
    for operation in operations:

        @settings(
            max_examples=1 if operation.path in LONG else EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            if case.path_parameters and "name" in case.path_parameters:
                case.path_parameters["name"] = take  # mostly: made-up names end in 404 before anything is done
            answer = case.call(timeout=60)
            assert answer.status_code < 500 or answer.status_code == 503, f"{answer.status_code}: {answer.text[:300]}"
            if answer.status_code >= 400:
                told = answer.json()
                assert set(told) == {"error"} and isinstance(told["error"], str) and told["error"]

        ask()
