"""The scripts of docs/many-machines.md, with stand-ins for the launchers: each image is in one part."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.task_list import make_tasks, shard_of
from linfusion_cli.cli.batch import shard_parts

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.sbatch"))
# Writes its words, each on a line, into a file of its own: what stands for the programs that the scripts start.
RECORDER = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0")" "$@" > "$RECORDS/$RECORD"\n'


@pytest.fixture
def started(tmp_path: Path) -> Any:
    """Runs a command with recorders in the place of linfusion, srun and scontrol; returns what was recorded."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "records").mkdir()
    for name in ("linfusion", "srun"):
        (tmp_path / "bin" / name).write_text(RECORDER)
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\nprintf 'node7\\nnode8\\n'\n")
    for path in (tmp_path / "bin").iterdir():
        path.chmod(0o755)

    def run(*command: str, **variables: str) -> list[str]:
        record = f"record-{len(list((tmp_path / 'records').iterdir()))}"
        environment = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "RECORDS": str(tmp_path / "records"),
            "RECORD": record,
            **variables,
        }
        subprocess.run(command, env=environment, check=True, timeout=20)
        return (tmp_path / "records" / record).read_text().splitlines()

    return run


def array_of(script: Path) -> range:
    """The elements that `#SBATCH --array=FIRST-LAST` asks for."""
    found = re.search(r"^#SBATCH --array=(\d+)-(\d+)$", script.read_text(), re.MULTILINE)
    assert found
    return range(int(found[1]), int(found[2]) + 1)


def sbatch(started: Any, script: Path, *words: str, **more: str) -> list[list[str]]:
    """As sbatch does: the script once for each element of its array."""
    elements = array_of(script)
    last = str(elements[-1])
    return [
        started("bash", str(script), *words, SLURM_ARRAY_TASK_ID=str(element), SLURM_ARRAY_TASK_MAX=last, **more)
        for element in elements
    ]


def require_each_image_once(commands: list[list[str]]) -> None:
    rows = [Row(f"list:{number}", {"prompt": f"lake {number}"}) for number in range(50)]
    tasks = make_tasks(rows, {}, "{id}", lambda ids: {}, [])
    shards = [shard_parts(command[command.index("--shard") + 1]) for command in commands]
    made = [task.id for shard in shards for task in shard_of(tasks, *shard)]
    assert sorted(made) == sorted(task.id for task in tasks)


def test_a_slurm_array_makes_each_image_once(started: Any) -> None:
    commands = sbatch(started, EXAMPLES / "slurm_array.sbatch", "a list.txt", "/shared/my images", "--size", "4k")
    assert len(commands) == 8
    for command in commands:
        assert command[:5] == ["linfusion", "batch", "a list.txt", "-o", "/shared/my images"]
        assert command[-2:] == ["--size", "4k"]
    require_each_image_once(commands)


def test_two_elements_of_a_slurm_array_are_the_same_parts_again(started: Any) -> None:
    script = str(EXAMPLES / "slurm_array.sbatch")
    again = started("bash", script, "list.txt", "out", SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_MAX="5", PARTS="8")
    assert again[again.index("--shard") + 1] == "3/8"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_without_its_words_says_how_it_is_started(started: Any, script: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        started("bash", str(script))
    assert caught.value.returncode == 2


def test_one_image_by_slurm_meets_at_the_first_node(started: Any) -> None:
    words = started(
        "bash",
        str(EXAMPLES / "slurm_one_image.sbatch"),
        "a lake",
        "--size",
        "16k",
        SLURM_JOB_NODELIST="node[7-8]",
        SLURM_NNODES="2",
        SLURM_GPUS_ON_NODE="4",
        SLURM_JOB_ID="99",
    )
    assert words[:3] == ["srun", "--kill-on-bad-exit=1", "torchrun"]
    assert words[words.index("--rdzv-endpoint") + 1] == "node7:29500"
    assert words[words.index("--nproc-per-node") + 1] == "4"
    assert words[-6:] == ["-m", "linfusion_cli", "generate", "a lake", "--size", "16k"]


def test_an_indexed_job_makes_each_image_once(started: Any) -> None:
    job = yaml.safe_load((EXAMPLES / "kubernetes_job.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert job["completionMode"] == "Indexed"
    commands = [
        started(*container["command"], *container["args"], JOB_COMPLETION_INDEX=str(index))
        for index in range(job["completions"])
    ]
    require_each_image_once(commands)


def test_nodes_of_skypilot_make_each_image_once(started: Any) -> None:
    job = yaml.safe_load((EXAMPLES / "skypilot.yaml").read_text())
    count = job["num_nodes"]
    commands = [
        started("bash", "-c", job["run"], SKYPILOT_NODE_RANK=str(rank), SKYPILOT_NUM_NODES=str(count))
        for rank in range(count)
    ]
    require_each_image_once(commands)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
