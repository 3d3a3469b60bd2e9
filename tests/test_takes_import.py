"""`realmaster takes import`, as a user types it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from capture.camera import UNITY, UNREAL, Axes, Conventions
from capture.take import Take
from realmaster.cli import main
from realmaster.commands.takes_import import AXES, axes, fov
from tests.capture.importers.test_folder import write_folder
from tests.capture.importers.truth import assert_truth


def test_a_folder_becomes_a_take_of_its_name(tmp_path: Path, capsys) -> None:
    conventions = Conventions(UNITY, Axes("+x", "+y", "-z"), 0.5)
    truth = write_folder(tmp_path / "my scene!", conventions, ray=True)
    options = ["--axes", "unity", "--camera-axes=+x,+y,-z", "--metres-per-unit", "0.5", "--depth-kind", "ray"]
    command = ["takes", "import", str(tmp_path / "my scene!"), "--takes", str(tmp_path / "takes"), "--json"]
    assert main([*command, *options, "--normal-space", "world", "--fps", "5"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["take"] == str(tmp_path / "takes" / "my-scene")
    assert (report["frames"], report["channels"], report["no_camera"]) == (2, ["color", "depth", "normal"], 0)
    with Take(report["take"]) as take:
        assert take.fps == 5  # what is declared goes before the file's own
        assert take.manifest["metadata"]["import"] == {"source": "my scene!", "preset": None}
        for frame, scene in zip(take, truth, strict=True):
            assert_truth(frame, scene)
    assert main([*command, *options]) == 1
    assert "there is a take" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_a_lens_alone(tmp_path: Path, capsys) -> None:
    write_folder(tmp_path / "in", Conventions())
    (tmp_path / "in/cameras.json").unlink()
    assert main(["takes", "import", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--vfov", "60"]) == 0
    assert "2 frames have a declared lens and no pose" in capsys.readouterr().out
    with Take(tmp_path / "out") as take:
        assert take[0].camera.fy == pytest.approx(27 / 2 / math.tan(math.radians(30)))
        assert np.isfinite(take[0].normal).all()  # of depth, camera space, as usual


def test_axes_and_angles_from_text() -> None:
    assert {name: axes(name) for name in AXES}["unreal"] == UNREAL
    assert axes("+x,+z,-y") == Axes("+x", "+z", "-y")
    assert fov("90") == pytest.approx(math.pi / 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--axes", "maya"), "'maya' is none of opencv, opengl, unity"),
        (("--axes=+x,+y,+y",), "nor right, up and forward such as"),
        (("--vfov", "200"), "is not a field of view between 0 and 180"),
        (("--preset", "maya"), "invalid choice"),
        (("--depth-scale", "0"), "is not a number above zero"),
        (("--name", "a/b"), "is not a plain name"),
        (("--name", "a", "-o", "b"), "not allowed with"),
    ],
)
def test_wrong_use(options: tuple[str, ...], words: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["takes", "import", str(tmp_path), *options])
    assert end.value.code == 2
    assert words in capsys.readouterr().err
