"""Several processes for one training: started on this machine, or found running because `torchrun` started them.

Each process runs the same command and reads the data itself; the first alone speaks and writes. They are tied
together: when one ends badly, or the command that started them ends in whatever way, the others end too.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mekiki.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

INTERRUPTED = 130
LEFT_ALONE = 75
"""Exit code of a process that another one has left alone: why is for that one to say."""
GRACE = 5.0
"""Seconds that processes have to end by themselves, and to say why, when one of them has ended badly."""
LOOK_EVERY = 0.05
LONGEST_WAIT = timedelta(days=2)
"""For a process that prepares alone; one that has died is noticed at once, by its closed connection."""
HELD = "MEKIKI_HELD"
"""Set for processes that end when their standard input does, which the process that started them holds open."""


def among_several() -> bool:
    """Whether this process is one of several that were started to train together."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str, devices: int, nodes: int) -> Fabric:
    """Meet the other processes; each calls this once.

    Args:
        device: `"auto"`, `"cpu"` or `"cuda"`.
        devices: processes on this machine; 1 is as many as `torchrun` started.
        nodes: machines; likewise.

    Raises:
        InputError: the numbers are not those of the processes that were started, or there are too few devices.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    world = int(os.environ["WORLD_SIZE"])
    here = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    if devices * nodes not in (1, world) or world % here:
        raise InputError(
            f"--devices {devices} --nodes {nodes} are {devices * nodes} processes, and {world} were started; leave "
            "both out under torchrun"
        )
    if HELD in os.environ:
        threading.Thread(target=_end_with_input, name="mekiki-held", daemon=True).start()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # What is kept beside the weights is the same everywhere by how it comes about, so it is not sent around.
    together = DDPStrategy(broadcast_buffers=False, timeout=LONGEST_WAIT)
    try:
        fabric = Fabric(accelerator=device, devices=here, num_nodes=world // here, strategy=together)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{here} processes on device {device!r} are not to be had here: {str(error).splitlines()[0]}"
        ) from None
    return fabric


def start(arguments: Sequence[str], devices: int, nodes: int) -> int:
    """Run a command of mekiki in several processes on this machine, to their end.

    Args:
        arguments: of the command.
        devices: how many.
        nodes: machines in all; on each the same command is given, with `MASTER_ADDR`, `MASTER_PORT` and `NODE_RANK`
            in its environment.

    Returns:
        The exit code.

    Raises:
        InputError: there are several machines, and the environment does not say which one this is.
    """
    environment = _environment(devices, nodes)
    with tempfile.TemporaryDirectory(prefix="mekiki-") as folder:
        said = [Path(folder) / str(number) for number in range(devices)]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            processes.extend(
                _started(arguments, environment, number, file) for number, file in enumerate(said)
            )
            return _watched(processes, said)
        except KeyboardInterrupt:
            return _interrupted(processes)
        finally:
            _end(processes)


def _environment(devices: int, nodes: int) -> dict[str, str]:
    environment = dict(os.environ)
    if nodes > 1:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in environment]
        if missing:
            raise InputError(
                f"--nodes {nodes}: {', '.join(missing)} not set; give on every machine the address and a free port of "
                "the first in MASTER_ADDR and MASTER_PORT and its own number, from 0, in NODE_RANK; or use torchrun"
            )
    else:
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
        if sys.platform == "linux":  # else gloo asks the network who this machine is
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    threads = max(1, (os.cpu_count() or 1) // devices)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    return environment | {"WORLD_SIZE": str(devices * nodes), "LOCAL_WORLD_SIZE": str(devices), HELD: "1"}


def left_alone(error: Exception) -> bool:
    """Whether an error of torch says that another process is gone; it tells it in words, in an error of no kind."""
    return "LOCAL_RANK" in os.environ and any(word in str(error).lower() for word in ("gloo", "nccl"))


def leave(code: int) -> None:
    """End a process that has met others, without the interpreter's own tidying.

    A thread of gloo may still hold what a last exchange left, and to let go of it asks for an interpreter that is
    being tidied away: torch then aborts the process, one time in four where nothing follows the exchange
    (pytorch/pytorch#179291).
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _started(
    arguments: Sequence[str], environment: dict[str, str], number: int, said: Path
) -> subprocess.Popen[bytes]:
    """One process; what any but the first says goes to a file, to be shown if it is the one that fails."""
    out: Any = None
    if number:
        out = said.open("wb")
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "mekiki", *arguments],
            env=environment | {"LOCAL_RANK": str(number)},
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,  # so that Ctrl-C reaches each of them once: from here
        )
    finally:
        if out is not None:
            out.close()


def _watched(processes: Sequence[subprocess.Popen[bytes]], said: Sequence[Path]) -> int:
    """Wait until all have ended well, or one has not."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [number for number, code in enumerate(codes) if code]
        if failed:
            break
        if all(code == 0 for code in codes):
            return 0
        time.sleep(LOOK_EVERY)
    _wait(processes)
    codes = [process.poll() for process in processes]
    own = codes[0]
    if own and own > 0 and own != LEFT_ALONE:  # has said why; the others may have met the same
        return own
    causes = [number for number, code in enumerate(codes) if code not in (None, 0, LEFT_ALONE)]
    number = (causes or failed)[0]
    code = codes[number] or 1
    if number:
        sys.stderr.write(said[number].read_text(encoding="utf-8", errors="replace"))
    if code < 0:
        sys.stderr.write(
            f"error: process {number} of {len(processes)} was ended by {signal.Signals(-code).name}; finished epochs "
            "are kept: --resume goes on\n"
        )
        return 128 - code
    return code


def _interrupted(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    _wait(processes)
    return INTERRUPTED


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Give them time to end by themselves."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until and any(process.poll() is None for process in processes):
        time.sleep(LOOK_EVERY)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()  # does nothing to one that has ended
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _end_with_input() -> None:
    """End this process when whoever holds its standard input is gone; nothing is ever written there."""
    # By its number: Python's own reader would be locked when this process ends in the ordinary way.
    os.read(0, 1)
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
