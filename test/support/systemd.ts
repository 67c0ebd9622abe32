import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { MAIN } from './worker.ts';
import { run } from './process.ts';

const SYSTEMD = '/lib/systemd/systemd';

/** Why no systemd can be started here; false where one can. For root only: it gets its own namespaces. */
export const noSystemd =
  process.getuid?.() !== 0
    ? 'only root can start a systemd'
    : existsSync(SYSTEMD)
      ? existsSync('/sys/fs/cgroup/systemd') || existsSync('/sys/fs/cgroup/cgroup.controllers')
        ? false
        : 'there are no cgroups for systemd here'
      : 'there is no systemd here';

interface Ended {
  /** Of the service: `success`, `exit-code` and so on. */
  readonly result: string;
  readonly exitCode: number;
  /** What the service wrote. */
  readonly output: string;
}

/** Starts as process 1 what this machine has, on a copy of its file system; the network is that of this machine. */
const BOOT = `set -e
mount -t tmpfs tmpfs "$0"
cd "$0"
mkdir upper work root && cp -a "$1/." upper
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" root && cd root
mount -t proc proc proc && mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs tmp && mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev && mkdir dev/shm dev/pts dev/mqueue dev/hugepages && ln -s /proc/self/fd dev/fd
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty dev
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts && ln -s pts/ptmx dev/ptmx
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mount -t cgroup2 cgroup2 sys/fs/cgroup
else mount -t tmpfs tmpfs sys/fs/cgroup && mkdir sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd; fi
mkdir tmp/results tmp/old && mount --bind "$2" tmp/results
pivot_root . tmp/old && cd / && umount -l /tmp/old && mount --make-rshared /
container=podman exec ${SYSTEMD} --system --log-target=null --unit=test.target`;

/**
 * Runs a service under a systemd of its own, with the program in /opt/etcd-snapshot.
 * @param files of the machine, by their paths
 * @param script of a shell, instead of starting it once
 */
export async function runService(
  dir: string,
  name: string,
  unit: string,
  files: Readonly<Record<string, string | Uint8Array>>,
  script = `systemctl start ${name}`,
): Promise<Ended> {
  const [machine, place, results] = ['machine', 'place', 'results'].map((each) => join(dir, each)) as [
    string,
    string,
    string,
  ];
  const write = (path: string, text: string | Uint8Array): void => {
    mkdirSync(dirname(join(machine, path)), { recursive: true });
    writeFileSync(join(machine, path), text, { mode: 0o600 });
  };
  for (const each of [place, results]) mkdirSync(each, { recursive: true });
  for (const [path, text] of Object.entries({ ...files, script })) write(path, text);
  // Nothing of the machine is started but this.
  const alone = unit
    .replaceAll(/^(Wants|Requires|After)=.*\n/gm, '')
    .replace('[Unit]', '[Unit]\nDefaultDependencies=no');
  write(
    `etc/systemd/system/${name}`,
    alone.replace(
      '[Service]',
      '[Service]\nStandardOutput=append:/tmp/results/output\nStandardError=append:/tmp/results/output',
    ),
  );
  write('etc/systemd/system/test.target', '[Unit]\nDefaultDependencies=no\nWants=report.service\n');
  const show = `systemctl show ${name} -p Result -p ExecMainStatus >/tmp/results/result`;
  write(
    'etc/systemd/system/report.service',
    `[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=-/bin/sh /script\nExecStart=/bin/sh -c '${show}'\nExecStart=/bin/kill -s RTMIN+14 1\n`,
  );
  install(machine);
  const control = existsSync('/sys/fs/cgroup/cgroup.controllers') ? '/sys/fs/cgroup' : '/sys/fs/cgroup/systemd';
  const group = join(control, `etcd-snapshot-test-${process.pid}`);
  const enter = `mkdir -p '${group}' && echo $$ >'${group}/cgroup.procs' && exec timeout 120 unshare --cgroup --mount --pid --fork --uts --ipc --kill-child sh -c "$0" "$@"`;
  const { stderr } = await run('sh', ['-c', enter, BOOT, place, machine, results]);
  removeGroup(group);
  const read = (file: string): string =>
    existsSync(join(results, file)) ? readFileSync(join(results, file), 'utf8') : '';
  const [, result = `no systemd: ${stderr}`] = /^Result=(.*)$/m.exec(read('result')) ?? [];
  return {
    result,
    exitCode: Number(/^ExecMainStatus=(\d+)$/m.exec(read('result'))?.[1] ?? NaN),
    output: read('output'),
  };
}

/** Groups are removed from below; their files are not. */
function removeGroup(group: string): void {
  for (const entry of readdirSync(group, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroup(join(group, entry.name));
  }
  rmdirSync(group);
}

/** The program where npm installs it, and Node where systemd looks for programs. */
function install(machine: string): void {
  const [root, to] = [join(dirname(MAIN), '..'), join(machine, 'opt/etcd-snapshot')];
  cpSync(dirname(MAIN), join(to, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(to, 'package.json'));
  cpSync(join(root, 'node_modules/@node-rs'), join(to, 'node_modules/@node-rs'), { recursive: true });
  mkdirSync(join(to, 'bin'));
  symlinkSync('../dist/main.js', join(to, 'bin/etcd-snapshot'));
  mkdirSync(join(machine, 'usr/local/bin'), { recursive: true });
  cpSync(process.execPath, join(machine, 'usr/local/bin/node'));
}
