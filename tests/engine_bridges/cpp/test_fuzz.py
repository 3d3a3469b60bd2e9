"""Damaged messages do no harm to either decoder. Longer runs: engine_bridges/cpp/README.md."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine_bridges.vectors.fuzz import fuzz, write_corpus

SECONDS = 10


def test_the_python_decoder_raises_nothing_but_protocol_errors() -> None:
    counts = fuzz(seconds=60, seed=11, rounds=20000)
    assert counts["made"] == sum(counts.values()) - counts["made"]
    assert min(counts[kind] for kind in ("accepted", "malformed", "version", "unknown_type", "too_large")) > 20


@pytest.mark.slow
def test_the_cpp_decoder_survives_libfuzzer_and_sanitizers(build_cpp: Any, tmp_path: Path) -> None:
    if shutil.which("clang++") is None:
        pytest.skip("there is no clang++ here; the C++ decoder is not fuzzed")
    options = ("-DREALMASTER_FUZZ=ON", "-DCMAKE_CXX_COMPILER=clang++")
    folder = build_cpp(tmp_path / "fuzz", *options, target="realmaster_fuzz")
    messages = write_corpus(tmp_path / "corpus")
    done = subprocess.run(
        [folder / "realmaster_fuzz", f"-max_total_time={SECONDS}", "-max_len=70000", f"-artifact_prefix={tmp_path}/",
         "-print_final_stats=1", tmp_path / "corpus"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (runs,) = [line for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed_units:")]
    assert int(runs.split()[1]) > messages
