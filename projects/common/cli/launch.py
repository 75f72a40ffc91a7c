"""Check a launch of several processes before it starts: its port, its GPUs, its environment."""

from __future__ import annotations

import errno
import os
import socket
import subprocess

from ..errors import InputError

__all__ = ['check_gpus', 'check_port', 'check_rank', 'join_without_gpu']

_OF_TORCHRUN = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
# The number of processes, which of them this one is, and which of those on this machine.
_RANKS = {
    'mpi': ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK'),
    'slurm': ('SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID'),
}
# The number of processes on this machine, and which of them this one is.
_LOCAL = {
    'pytorch': ('LOCAL_WORLD_SIZE', 'LOCAL_RANK'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
    'slurm': ('SLURM_NTASKS_PER_NODE', 'SLURM_LOCALID'),
}


def check_port(port: int) -> None:
    """Raise :class:`InputError` if the port cannot be opened on this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', port))
        except OverflowError:
            raise InputError(f'port {port}: expected 0 to 65535') from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(port_in_use(port)) from None
            raise InputError(f'port {port}: {error.strerror}') from None


def port_in_use(port: int | str) -> str:
    """Return the message about a port that is taken."""
    return (
        f'port {port} is in use on this machine, such as by another run; choose another: '
        'PORT=29501 tools/dist_train.sh ..., or MASTER_PORT=29501 with other launchers'
    )


def check_gpus(processes: int) -> None:
    """Raise :class:`InputError` for more processes on this machine than it has GPUs, if any."""
    import torch

    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        chosen = '' if visible is None else f' (CUDA_VISIBLE_DEVICES={visible})'
        raise InputError(
            f'{processes} processes for {gpus} GPU{"s" if gpus > 1 else ""} of this machine'
            f'{chosen}: start at most {gpus} here'
        )


def check_rank(launcher: str) -> None:
    """Check the environment of a process that a launcher has started.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        InputError: The variables of ``torchrun`` are missing, or there is no GPU for the process.
    """
    if launcher == 'pytorch':
        missing = [name for name in _OF_TORCHRUN if name not in os.environ]
        if missing:
            raise InputError(
                f'--launcher pytorch: {", ".join(missing)} not set; start the processes with '
                'tools/dist_train.sh, tools/dist_test.sh or torchrun'
            )
    if launcher in _LOCAL:  # MMEngine takes the GPU with the number of the process
        here, number = (os.environ.get(name, '0') for name in _LOCAL[launcher])
        check_gpus(max(int(here), int(number) + 1))


def join_without_gpu(launcher: str) -> None:
    """Join the process group of a launcher with gloo.

    MMEngine's own functions select a CUDA device for every backend.

    Args:
        launcher: 'pytorch', 'slurm' or 'mpi'.

    Raises:
        InputError: The variables of the launcher are not set.
    """
    import torch

    if launcher in _RANKS:
        missing = [name for name in _RANKS[launcher] if name not in os.environ]
        if missing:
            raise InputError(f'--launcher {launcher}: {", ".join(missing)} not set')
        world, rank, local = (os.environ[name] for name in _RANKS[launcher])
        os.environ.update(WORLD_SIZE=world, RANK=rank, LOCAL_RANK=local)
        os.environ.setdefault('MASTER_PORT', '29500')
        if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
            os.environ['MASTER_ADDR'] = _first_slurm_node()
        if 'MASTER_ADDR' not in os.environ:
            raise InputError(f'--launcher {launcher}: MASTER_ADDR not set')
    torch.distributed.init_process_group('gloo')


def _first_slurm_node() -> str:
    command = ['scontrol', 'show', 'hostname', os.environ.get('SLURM_NODELIST', '')]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(
            f'--launcher slurm: MASTER_ADDR not set, and {" ".join(command)} failed: {error}'
        ) from None
    return done.stdout.split()[0]
