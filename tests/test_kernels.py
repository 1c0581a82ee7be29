"What forked kernels promise whoever dies first: real processes, real kills."
import asyncio, contextlib, os, shutil, signal, subprocess, sys, time
from pathlib import Path

import psutil
import pytest

from partvision.kernels import WarmKernel, fork_kernel, nursery_folder

pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='kernels are forked on Linux only')

# A process that has a kernel forked, tells its number, and waits.
OWNER = '''
import os, sys, time
from partvision.kernels import WarmKernel
import asyncio
async def main():
    km = WarmKernel()
    await km.start_kernel()
    kc = km.client(); kc.start_channels(); await kc.wait_for_ready(timeout=120)
    await kc.execute_interactive('import subprocess; child = subprocess.Popen(["sleep", "600"]); print(child.pid)', output_hook=lambda m: print(km.provisioner.pid, m['content']['text'], flush=True) if m['msg_type'] == 'stream' else None)
    time.sleep(600)
asyncio.run(main())
'''


def until(condition, seconds=20):
    "Wait until `condition()` holds."
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(.05)


def gone(pid):
    "Whether a process has ended and was buried by its parent."
    return not psutil.pid_exists(pid) or pid_is_adopted_zombie(pid)


def pid_is_adopted_zombie(pid):
    "Whether a process has ended and waits for the first process of the machine, which in a container may bury nobody."
    with contextlib.suppress(psutil.Error):
        p = psutil.Process(pid)
        return p.status() == psutil.STATUS_ZOMBIE and p.ppid() == 1
    return True


def nursery_of(pid): return psutil.Process(psutil.Process(pid).ppid())


@pytest.fixture
def owner():
    process = subprocess.Popen([sys.executable, '-c', OWNER], stdout=subprocess.PIPE, text=True)
    kernel, child = map(int, process.stdout.readline().split())
    yield process, kernel, child
    process.kill(); process.wait()


async def _begin(**kw):
    km = WarmKernel()
    await km.start_kernel(**kw)
    kc = km.client()
    kc.start_channels()
    await kc.wait_for_ready(timeout=120)
    return km, kc


async def _said(kc, code):
    found = []
    await kc.execute_interactive(code, timeout=60, output_hook=lambda m: found.append(m['content'].get('text') or m['content'].get('evalue')))
    return ''.join(filter(None, found))


def test_a_kernel_ends_with_its_owner_and_takes_along_what_it_started(owner):
    process, kernel, child = owner
    process.kill()
    until(lambda: gone(kernel) and gone(child))


def test_a_kernel_ends_with_the_nursery_and_the_next_one_gets_another(owner):
    process, kernel, child = owner
    nursery_of(kernel).kill()
    until(lambda: gone(kernel))

    async def again():
        km, kc = await _begin()
        assert await _said(kc, 'print("here")') == 'here\n'
        assert km.provisioner.pid != kernel
        kc.stop_channels()
        await km.shutdown_kernel()
    asyncio.run(again())
    os.kill(child, signal.SIGKILL)


def test_many_kernels_leave_nothing_behind():
    async def many():
        first, kc = await _begin()
        nursery = nursery_of(first.provisioner.pid)
        files, memory = nursery.num_fds(), nursery.memory_info().rss
        for k in range(10):
            km, c = await _begin()
            pid = km.provisioner.pid
            c.stop_channels()
            if k % 2: await km.shutdown_kernel(now=bool(k % 3))
            else: os.kill(pid, signal.SIGKILL)
            until(lambda: gone(pid))
            await km.shutdown_kernel(now=True)
        assert [p.pid for p in nursery.children()] == [first.provisioner.pid]
        assert nursery.num_fds() == files and nursery.memory_info().rss < memory + 2e7
        kc.stop_channels()
        await first.shutdown_kernel()
    asyncio.run(many())


def test_changed_source_is_another_nursery_and_the_old_one_retires(tmp_path):
    import partvision
    shutil.copytree(Path(partvision.__file__).parent, tmp_path/'partvision', ignore=shutil.ignore_patterns('__pycache__'))
    env = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path))
    core = tmp_path/'partvision'/'core.py'

    async def ask():
        km, kc = await _begin(cwd=str(tmp_path), env=env)
        found = await _said(kc, 'import partvision.core as c; print(c.__file__, getattr(c, "MARK", None))')
        pid = nursery_of(km.provisioner.pid).pid
        kc.stop_channels()
        await km.shutdown_kernel(now=True)
        return found.split(), pid
    (file, mark), old = asyncio.run(ask())
    assert (file, mark) == (str(core), 'None')
    core.write_text(core.read_text() + '\nMARK = 1\n')
    (file, mark), new = asyncio.run(ask())
    assert (file, mark) == (str(core), '1') and new != old
    until(lambda: gone(old))
    os.kill(new, signal.SIGKILL)


def test_where_nothing_can_be_forked_the_kernel_starts_cold_and_says_why(tmp_path, caplog):
    (tmp_path/f'partvision-{os.getuid()}').mkdir(mode=0o777)
    (tmp_path/f'partvision-{os.getuid()}').chmod(0o777)

    async def ask():
        km, kc = await _begin(env=dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path)))
        found = await _said(kc, 'print(1 + 1)')
        kc.stop_channels()
        await km.shutdown_kernel(now=True)
        return found, km
    assert asyncio.run(ask())[0] == '2\n'
    assert 'the kernel starts cold' in caplog.text and 'is open to others' in caplog.text


def test_a_kernel_that_cannot_begin_says_so_and_ends(tmp_path, capfd):
    kernel = fork_kernel(['-f', str(tmp_path/'none.json')], tmp_path/'gone', os.environ)
    assert kernel.wait(20) == 1
    until(lambda: gone(kernel.pid))
    assert 'FileNotFoundError' in capfd.readouterr().err
