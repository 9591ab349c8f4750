import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.source_file import is_piped, regular_file

pytestmark = pytest.mark.slow  # all of them together

ROOT = Path(__file__).parents[2]
CODE = "import sys; from pathlib import Path; from linfusion_cli.images.source_file import regular_file; "
CODE += "p = regular_file(Path(sys.argv[1])); assert regular_file(Path(sys.argv[1])) == p; "
CODE += "print(p.name, len(p.read_bytes()))"


def test_a_file_stays_and_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    assert regular_file(file) == file
    assert not is_piped(file)
    (tmp_path / "empty").touch()
    for path, reason in ((tmp_path, "folder"), (tmp_path / "empty", "empty"), (Path("/dev/null"), "device")):
        with pytest.raises(ImageError, match=reason):
            regular_file(path)


def test_a_pipe_that_nobody_writes_to_is_refused_soon(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    started = time.monotonic()
    with pytest.raises(ImageError, match="no program writes to it"):
        regular_file(tmp_path / "pipe")
    assert time.monotonic() - started < 2
    assert is_piped(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("head -c 300000 /dev/zero | {} -", "stdin 300000"),
        ("(sleep 1.3; head -c 5 /dev/zero) | {} /dev/stdin", "stdin 5"),
        ("{} <(head -c 200000 /dev/zero)", "pipe 200000"),
        ("(sleep 0.3; head -c 7 /dev/zero > fifo) & {} fifo", "fifo 7"),
    ],
)
def test_pipes_are_copied_once(tmp_path: Path, command: str, wanted: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    words = command.format(f"{sys.executable} -c '{CODE}'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(["bash", "-c", words], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.stdout.decode().strip() == wanted, done.stderr.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"], "the copy is removed"
