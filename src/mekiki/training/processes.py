"""Processes of one training: started on this machine, or by `torchrun`.

Each process runs the same command and reads the data itself; only the first writes. When one fails, or the command
that started them ends, the others end too.
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
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mekiki.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

INTERRUPTED = 130
PEER_FAILED = 75
"""Exit code of a process that ends because another one has failed, which prints the reason."""
END_TIMEOUT_S = 5.0
"""How long processes may take to end, and to print why, when one of them has failed."""
POLL_INTERVAL_S = 0.05
EXCHANGE_TIMEOUT = timedelta(days=2)
"""How long the others wait for one that prepares data; one that has died is noticed at once."""
HELD_VARIABLE = "MEKIKI_HELD"
"""Set for processes that end when their standard input is closed, which the process that started them holds open."""


def among_several() -> bool:
    """Whether this process is one of several that train together."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str, devices: int, nodes: int) -> Fabric:
    """Connect this process with the others; each calls this once.

    Args:
        device: `"auto"`, `"cpu"` or `"cuda"`.
        devices: processes on this machine; 1 is as many as `torchrun` started.
        nodes: machines; likewise.

    Raises:
        InputError: another number of processes was started, or there are too few devices.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    world = int(os.environ["WORLD_SIZE"])
    local = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    if devices * nodes not in (1, world) or world % local:
        raise InputError(
            f"--devices {devices} --nodes {nodes} are {devices * nodes} processes, and {world} were started; leave "
            "both out under torchrun"
        )
    if HELD_VARIABLE in os.environ:
        threading.Thread(target=_exit_when_input_closes, name="mekiki-held", daemon=True).start()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # Buffers are averaged where that is needed (see `Ranks.average_batch_norms`), so they are not sent each step.
    strategy = DDPStrategy(broadcast_buffers=False, timeout=EXCHANGE_TIMEOUT)
    try:
        fabric = Fabric(accelerator=device, devices=local, num_nodes=world // local, strategy=strategy)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{local} processes on device {device!r} cannot run here: {reason}") from None
    return fabric


def start(arguments: Sequence[str], devices: int, nodes: int) -> int:
    """Run a command of mekiki in several processes on this machine, to their end.

    Args:
        arguments: of the command.
        devices: how many.
        nodes: machines in all; each is given the same command, with `MASTER_ADDR`, `MASTER_PORT` and `NODE_RANK` in
            its environment.

    Returns:
        The exit code.

    Raises:
        InputError: there are several machines, and the environment does not tell which this one is.
    """
    environment = _environment(devices, nodes)
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="mekiki-") as folder:
        outputs = [Path(folder) / str(rank) for rank in range(devices)]
        try:
            for rank, output in enumerate(outputs):
                processes.append(_start_process(arguments, environment | {"LOCAL_RANK": str(rank)}, output))
            return _wait_for_all(processes, outputs)
        except KeyboardInterrupt:
            for process in processes:
                process.send_signal(signal.SIGINT)
            _wait_until_ended(processes)
            return INTERRUPTED
        finally:
            for process in processes:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()


def is_peer_failure(error: Exception) -> bool:
    """Whether an error of torch means that another process has ended; it has no class of its own."""
    return "LOCAL_RANK" in os.environ and any(word in str(error).lower() for word in ("gloo", "nccl"))


def leave(code: int) -> None:
    """End a process that has exchanged data with others, at once.

    A thread of gloo may still hold the result of the last exchange and free it while the interpreter shuts down, and
    torch then aborts the process, one time in four (pytorch/pytorch#179291).
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


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
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
        if sys.platform == "linux":  # else gloo looks up the name of this machine in the network
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    world = {"WORLD_SIZE": str(devices * nodes), "LOCAL_WORLD_SIZE": str(devices)}
    return environment | world | {HELD_VARIABLE: "1"}


def _start_process(
    arguments: Sequence[str], environment: dict[str, str], output: Path
) -> subprocess.Popen[bytes]:
    """Start one process; the output of all but the first goes to a file, and is printed if that process fails."""
    with ExitStack() as files:
        first = environment["LOCAL_RANK"] == "0"
        stream = None if first else files.enter_context(output.open("wb"))
        return subprocess.Popen(
            [sys.executable, "-m", "mekiki", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # so that Ctrl-C reaches each of them once: from here
        )


def _wait_for_all(processes: Sequence[subprocess.Popen[bytes]], outputs: Sequence[Path]) -> int:
    """Wait until all have ended well, or one has failed; the exit code."""
    while not any(process.poll() for process in processes):
        if all(process.returncode == 0 for process in processes):
            return 0
        time.sleep(POLL_INTERVAL_S)
    failed = [rank for rank, process in enumerate(processes) if process.returncode]
    _wait_until_ended(processes)
    codes = [process.poll() for process in processes]
    if (
        codes[0] and codes[0] > 0 and codes[0] != PEER_FAILED
    ):  # it has printed why, which holds for the others too
        return codes[0]
    rank = next((rank for rank, code in enumerate(codes) if code not in (None, 0, PEER_FAILED)), failed[0])
    code = codes[rank] or 1
    if rank:
        sys.stderr.write(outputs[rank].read_text(encoding="utf-8", errors="replace"))
    if code < 0:
        sys.stderr.write(
            f"error: process {rank} of {len(processes)} was ended by {signal.Signals(-code).name}; finished epochs "
            "are kept: --resume continues\n"
        )
        return 128 - code
    return code


def _wait_until_ended(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < until and any(process.poll() is None for process in processes):
        time.sleep(POLL_INTERVAL_S)


def _exit_when_input_closes() -> None:
    """End this process when its standard input is closed; nothing is ever written there."""
    os.read(0, 1)  # not by Python's reader, which would be locked when this process ends in the ordinary way
    os._exit(1)


def free_port() -> int:
    """A port of this machine that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
