"""A machine that has or lacks things: stub commands stand in for them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.stack.clone import fresh_clone

#: The commands that make and the scripts rest on; nothing else is on PATH but the stubs.
TOOLS = (
    *("sh", "make", "sed", "awk", "grep", "cut", "tr", "head", "tail", "find", "xargs", "printf"),
    *("printenv", "id", "mkdir", "touch", "rm", "cp", "mv", "cat", "cksum", "sort"),
)

DOCKER = """#!/bin/sh
echo "docker $*" >>"$CALLS"
for last; do :; done
case "$*" in
    version*) [ "$ENGINE" = yes ] && echo 26.1 || { echo 'cannot connect' >&2; exit 1; } ;;
    'compose version'*) echo 2.26 ;;
    *SecurityOptions*) echo "$SECURITY" ;;
    'info '*) echo "$RUNTIMES" ;;
    'image inspect --format {{.Created}}'*)
        case " $IMAGES " in *" $last "*) echo 2026-01-02T03:04:05Z ;; *) exit 1 ;; esac ;;
    *sureset.sources*) . docker/settings.sh; echo "${MADE_OF:-$(sources)}" ;;
    *image.base.name*) echo some-base ;;
    'image inspect '*) case " $IMAGES " in *" $last "*) ;; *) exit 1 ;; esac ;;
    'pull '*) [ "$PULL" = yes ] || { echo 'lookup registry: no such host' >&2; exit 1; } ;;
    *' build'*) echo "BASE_IMAGE=$BASE_IMAGE" >>"$CALLS"; [ "$BUILD" = yes ] ;;
    *' run '*)
        echo "ALPHA=$ALPHA DATA_DIR=$DATA_DIR" >>"$CALLS"
        echo "DATASET=$DATASET" >>"$CALLS"
        echo "RUN_AS=$RUN_AS" >>"$CALLS" ;;
    'compose -f compose.yaml config') [ "$PROJECT" != no ] && echo 'name: cars' ;;
    *' config --quiet') [ "$CONFIG" != bad ] ;;
    'volume ls'*) printf '%s' "$VOLUMES" ;;
esac
"""

#: Whom the stub of ``id`` takes for the caller.
CALLER = "1234:5678"
ID = f"""#!/bin/sh
case $1 in -u) echo {CALLER.partition(":")[0]} ;; -g) echo {CALLER.partition(":")[2]} ;; esac
"""

PYTHON = """#!/bin/sh
echo "python $*" >>"$CALLS"
echo "ALPHA=$ALPHA DATA_DIR=$DATA_DIR CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-unset}" >>"$CALLS"
echo "SAMPLE_SIZE=$SAMPLE_SIZE" >>"$CALLS"
echo "DATASET=$DATASET" >>"$CALLS"
"""

IMAGE = "masters-thesis:latest"
CUDA = "nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04"


def script(path: Path, text: str) -> None:
    """Write a command; what was there may be a link to the real one, which stays as it is."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@dataclass(frozen=True)
class Machine:
    """A fresh clone on a machine whose docker and python only note what they are asked."""

    clone: Path
    bin: Path
    log: Path

    def make(self, *arguments: str, answer: str = "", **facts: str) -> str:
        """What a successful ``make ARGUMENTS`` says where the stubs see ``facts``."""
        done = self._run(*arguments, answer=answer, **facts)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def make_fails(self, *arguments: str, answer: str = "", **facts: str) -> str:
        """What an unsuccessful one says."""
        done = self._run(*arguments, answer=answer, **facts)
        assert done.returncode != 0, done.stdout
        return done.stdout

    def _run(self, *arguments: str, answer: str, **facts: str) -> subprocess.CompletedProcess[str]:
        given = {"ENGINE": "yes", "IMAGES": IMAGE, "PULL": "no", "BUILD": "yes"}
        given |= {"RUNTIMES": '{"runc":{}}', **facts}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.clone,
            env={"PATH": str(self.bin), "CALLS": str(self.log), "HOME": "/nowhere", **given},
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def sources(self) -> str:
        """The checksum of what goes into the image."""
        command = ["sh", "-c", ". docker/settings.sh; sources"]
        return subprocess.check_output(command, cwd=self.clone, text=True).strip()

    def calls(self, word: str) -> list[str]:
        """The noted lines that hold ``word``."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if word in line]

    def add(self, name: str, text: str = "#!/bin/sh\n") -> None:
        script(self.bin / name, text)


def make_machine(folder: Path) -> Machine:
    """A machine with an engine, the image, and an installed .venv."""
    machine = Machine(fresh_clone(folder / "clone"), folder / "bin", folder / "calls")
    machine.bin.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"{tool} is needed"
        (machine.bin / tool).symlink_to(found)
    machine.add("docker", DOCKER)
    (machine.clone / ".venv" / "bin").mkdir(parents=True)
    script(machine.clone / ".venv" / "bin" / "python", PYTHON)
    (machine.clone / ".venv" / ".installed").touch()
    return machine
