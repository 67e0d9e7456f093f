"""Synthetic parts, and commands run on them: what the tests of inspection share."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

QUADRANTS = ((16, 16), (16, 48), (48, 16), (48, 48))
"""Row and column of the middle of each quarter of a part of 64×64 pixels: where blots lie."""


def part(seed, height=64, width=64, *, blot=None, scratch=None, size=14, shade=250, lift=None):
    """A grey surface with a soft texture and noise; bad with a bright blot, or a dark scratch, around a place.

    With `lift` the blot is no more than so much brighter than what it lies on.
    """
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.normal(size=(max(1, height // 8), max(1, width // 8))).astype(np.float32))
    waves = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR))
    surface = 110 + 4 * waves + rng.normal(0, 8, (height, width))
    if blot is not None:
        row, column = blot
        spot = surface[row - size // 2 : row + size // 2, column - size // 2 : column + size // 2]
        spot[...] = shade if lift is None else spot + lift
    if scratch is not None:
        row, column = scratch
        for step in range(-12, 13):
            surface[row + step - 2 : row + step + 3, column + step - 2 : column + step + 3] = 5
    return np.clip(surface, 0, 255).astype(np.uint8)


def save(path, pixels):
    """Write an image, and the folder it goes to; the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def ok_folder(folder, count, seed=0, **changes):
    """A folder of OK parts; its path."""
    for number in range(count):
        save(folder / f"{number:03}.png", part(seed + number, **changes))
    return folder


def ng_folder(folder, count, seed=0):
    """A folder of blots and scratches in turn around the quarters, by kind; its path."""
    for number in range(count):
        place, kind = QUADRANTS[number // 2 % 4], ("blot", "scratch")[number % 2]
        save(folder / kind / f"{number:03}.png", part(seed + number, **{kind: place}))
    return folder


def images(folder):
    """The files of a folder in order, those of folders in it too."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def same(one, other):
    """Whether two verdicts say the same, to the bit."""
    return str(one.row()) == str(other.row())


def contents(folder):
    """Every file of a folder by its name, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in images(folder)}


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        assert self.out.count("\n") == 1, "one line and nothing else belongs on standard output"
        return json.loads(self.out)

    @property
    def error(self):
        """The one line of an error, and nothing else."""
        assert (self.code, self.out) == (2, ""), (self.code, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: "), lines
        return lines[0]


def process(*arguments, **more):
    """A command in a process of its own, as from a shell."""
    environment = {k: v for k, v in os.environ.items() if k != "MEKIKI_DATA"}
    return subprocess.Popen(
        [sys.executable, "-m", "mekiki", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A suite that was started in the background ignores Ctrl-C, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        **more,
    )


class Forked:
    """A command in a process of its own that is forked off: it need not import anything, so it starts at once."""

    def __init__(self, said, *arguments):
        self._out, self._err = said / "out", said / "err"
        self.code = None
        self.pid = os.fork()
        if self.pid == 0:
            self._run([str(argument) for argument in arguments])

    def _run(self, arguments):
        code = 70
        try:
            for number, path in ((1, self._out), (2, self._err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
            sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            import torch

            from mekiki import cli

            torch.set_num_threads(1)  # the threads of the parent are not there any more
            sys.argv = ["mekiki", *arguments]
            cli.main()
        except SystemExit as stopped:
            code = stopped.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def send(self, number):
        os.kill(self.pid, number)

    def running(self):
        if self.code is None and (done := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.code = os.waitstatus_to_exitcode(done[1])
        return self.code is None

    def wait(self, seconds=60):
        wait_until(lambda: not self.running(), seconds=seconds)
        return Said(self.code, self._out.read_text(), self._err.read_text())

    def kill(self):
        if self.running():
            self.send(signal.SIGKILL)
            self.wait()


def wait_until(true, command=None, seconds=60):
    """Look again and again until it is true; fails if the command ends before, or it takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        if isinstance(command, Forked):
            assert command.running(), command.wait().err
        elif command is not None:
            assert command.poll() is None, command.stderr.read()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def make_backbone(folder, side=64, width=0.25):
    """A tiny MobileNet whose late layers still tell textures apart and know where, as those of a trained one do."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        settings = transformers.MobileNetV1Config(depth_multiplier=width, image_size=side)
        model = transformers.MobileNetV1Model(settings)
        middle, soft = torch.eye(3)[1], torch.tensor([0.25, 0.5, 0.25])
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean over what it sees
                module.bias.fill_(0.5)
            if isinstance(module, torch.nn.Conv2d):
                out, into = module.weight.shape[:2]
                torch.nn.init.kaiming_normal_(module.weight)
                if module.groups > 1:
                    kernel = middle.outer(middle) if module.stride[0] == 1 else soft.outer(soft)
                    module.weight.mul_(0.05).add_(kernel)
                elif into > 3:
                    copies = torch.arange(out)
                    module.weight.mul_(0.2)
                    module.weight[copies, copies % into, 0, 0] += 1.0 - 2.0 * (copies // into % 2)
        seen = torch.from_numpy(np.stack([part(10_000 + number) for number in range(16)]))
        model.train()
        model(((seen / 255 - 0.5) / 0.25)[:, None].expand(-1, 3, -1, -1))
        model.eval().save_pretrained(folder)
    given = {"size": {"height": side, "width": side}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (Path(folder) / "preprocessor_config.json").write_text(json.dumps(given))
    return f"hf:{folder}"


@contextmanager
def held_elsewhere(path, purpose, role="lock"):
    """Another process holds a lock of `mekiki.storage.lock` for the block."""
    command = (
        "import sys; from pathlib import Path; from mekiki.storage.lock import hold_lock\n"
        "with hold_lock(Path(sys.argv[1]), sys.argv[2], role=sys.argv[3]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command, path, purpose, role], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        yield
