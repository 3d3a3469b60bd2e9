"""Starting games with the library: what is refused before, what is said after, and that nothing is left behind."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from capture.errors import UserError
from tests.daemon.engines import until

if sys.platform != "linux":
    pytest.skip("the OpenGL bridge is for Linux", allow_module_level=True)

from engine_bridges.opengl.launch import Game, Settings, find_program
from tests.engine_bridges.opengl.conftest import needs


def refusal(name: str | Path) -> str:
    with pytest.raises(UserError) as error:
        find_program(str(name))
    return str(error.value)


def program(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def elf(bits: int, machine: int) -> bytes:
    """The beginning of an ELF program, as far as a loader reads before it refuses it (elf(5))."""
    ident = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    return (ident + struct.pack("<HHI", 3, machine, 1)).ljust(64, b"\0")


# -- before it starts


def test_names_that_are_no_programs(tmp_path: Path) -> None:
    assert "'no-such-game'" in refusal("no-such-game")
    assert "is a folder" in refusal(tmp_path)
    plain = tmp_path / "data.pk3"
    plain.write_text("no program")
    assert "chmod +x" in refusal(plain)


def test_programs_of_another_architecture(tmp_path: Path) -> None:
    own_machine = struct.unpack_from("<H", Path("/proc/self/exe").read_bytes()[:20], 18)[0]
    assert "32-bit" in refusal(program(tmp_path / "old", elf(32, own_machine)))
    assert "another processor" in refusal(program(tmp_path / "board", elf(64, own_machine + 1)))


def test_static_programs(tmp_path: Path) -> None:
    needs("c++")
    source = tmp_path / "main.c"
    source.write_text("int main(void) { return 0; }")
    made = tmp_path / "static"
    subprocess.run(["c++", "-static", "-x", "c", str(source), "-o", str(made)], check=True, timeout=60)
    assert "linked statically" in refusal(made)


def test_programs_with_rights_of_their_own(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        path = tmp_path / "game"
        shutil.copy(sys.executable, path)
        os.chown(path, 1, 1)
        path.chmod(0o4755)
    else:
        needs("su")
        path = Path(str(shutil.which("su")))
    assert "setuid" in refusal(path)


def test_scripts_and_dynamic_programs_pass(tmp_path: Path) -> None:
    assert find_program("sh") == Path(str(shutil.which("sh")))
    assert find_program(str(program(tmp_path / "start.sh", b"#!/bin/sh\n"))) == tmp_path / "start.sh"


def test_only_what_is_given_becomes_the_environment() -> None:
    assert Settings().environment() == {"REALMASTER_GL_MODE": "live"}
    given = Settings(mode="lossless", fps=30.0, vfov=73.5, near=0.1, far=1e4, metres_per_unit=0.0254)
    assert given.environment() == {
        "REALMASTER_GL_MODE": "lossless", "REALMASTER_GL_FPS": "30", "REALMASTER_GL_VFOV": "73.5",
        "REALMASTER_GL_NEAR": "0.1", "REALMASTER_GL_FAR": "10000", "REALMASTER_GL_METRES_PER_UNIT": "0.0254",
    }  # fmt: skip


# -- while it runs, and after


def run(command: list[str], library: Path, ends: bool = True, **environment: str) -> tuple[Game, str]:
    """Start the game, wait until it has ended, or until all that `why_nothing` needs is known."""
    with Game(command, library, environment) as game:
        text = game.news()
        if ends:
            until(lambda: game.wait(0.1), timeout=60, what="the end of the game")
        else:
            until(lambda: (game.news(), game._loaded)[1] >= ({"bridge"} if library.is_file() else set()), timeout=60)
        text += game.news()
        game.reason = game.why_nothing()  # type: ignore[attr-defined]
    assert not game.running
    return game, text


def test_a_game_that_ends_at_once(zoo: Path, library: Path, on_display: None) -> None:
    game, _ = run([str(zoo), "exits"], library)
    assert game.failed and "exit code 5" in game.reason


def test_a_game_without_a_display(zoo: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    game, printed = run([str(zoo), "fixed"], library)
    assert "there is no display" in printed and "xvfb-run" in game.reason


def test_a_program_that_never_swaps(zoo: Path, library: Path, on_display: None) -> None:
    game, _ = run([str(zoo), "never_swaps"], library, ends=False)
    assert "shows no picture through OpenGL" in game.reason and not game.draws


def test_a_game_that_draws_with_vulkan(zoo: Path, library: Path, tmp_path: Path, on_display: None) -> None:
    source = tmp_path / "vulkan.c"
    source.write_text("int vkCreateInstance(void) { return 0; }")
    loader = ["c++", "-shared", "-fPIC", "-x", "c", str(source), "-o", str(tmp_path / "libvulkan.so.1")]
    subprocess.run(loader, check=True, timeout=60)
    script = program(tmp_path / "game.sh", f'#!/bin/sh\nexec "{zoo}" vulkan\n'.encode())
    with Game([str(script)], library, {"LD_LIBRARY_PATH": str(tmp_path)}) as game:
        until(lambda: (game.news(), "vulkan" in game._loaded)[1], timeout=30, what="Vulkan")
        assert "draws with Vulkan" in game.why_nothing()


def test_what_is_preloaded_already_stays(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, other = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int other;")
    subprocess.run(["c++", "-shared", "-fPIC", "-x", "c", str(source), "-o", str(other)], check=True, timeout=60)
    monkeypatch.setenv("LD_PRELOAD", str(other))
    game, printed = run(["sh", "-c", "echo $LD_PRELOAD"], library)
    assert printed.strip() == f"{other}:{library}"


def test_a_library_in_a_folder_with_blanks(library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my games"
    folder.mkdir()
    shutil.copy(library, folder)
    _, printed = run(["sh", "-c", "grep -c librealmaster_gl.so /proc/$$/maps"], folder / library.name)
    assert "cannot be preloaded" not in printed and int(printed.split()[-1]) > 0


def test_a_scripts_children_end_with_it(library: Path, tmp_path: Path) -> None:
    script = program(tmp_path / "start.sh", b"#!/bin/sh\n(trap '' TERM; sleep 1000) &\necho $!\nexit 0\n")
    with Game([str(script)], library, {}) as game:
        child = int(until(game.news, what="the child's number"))
        assert game.running, "the script has ended, the game has not"
        assert (Path("/proc") / str(child)).exists()
    assert not game.running
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"
