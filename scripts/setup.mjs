// Prepares a fresh clone for the demo and the tests. Plain JavaScript without dependencies, because it runs on the machine's own Node
// before anything is installed.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..');
process.chdir(root);

installPackages();
installEtcd();

function installPackages() {
  const installed = 'node_modules/.package-lock.json';
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync('package-lock.json').mtimeMs) return;
  console.error('Installing the npm packages (once) …');
  try {
    execFileSync('npm', ['ci', '--loglevel=error'], { stdio: ['ignore', 'inherit', 'inherit'] });
  } catch {
    fail('The packages could not be installed. Check the network and the npm registry, run `npm ci`, and start again.');
  }
}

function installEtcd() {
  const built = existsSync('test/tools/bin') && readdirSync('test/tools/bin').some((name) => /^\d/.test(name));
  if (built || (onPath('etcd') && onPath('etcdctl'))) return;
  const installer = [
    { tool: 'apt-get', commands: ['apt-get update -q', 'apt-get install -q -y etcd-server etcd-client'] },
    { tool: 'dnf', commands: ['dnf install -q -y etcd'] },
    { tool: 'brew', commands: ['brew install --quiet etcd'] },
  ].find(({ tool }) => onPath(tool));
  if (installer === undefined) {
    fail('Install etcd 3.4 or later so that `etcd` and `etcdctl` are on the PATH, then run this again.');
  }
  const sudo = installer.tool === 'brew' || process.getuid?.() === 0 ? '' : 'sudo -n ';
  console.error(`Installing etcd (once), for the demo and the tests: ${installer.commands.join(' && ')} …`);
  try {
    for (const command of installer.commands) {
      const [program, ...args] = `${sudo}${command}`.split(' ');
      // Standard output belongs to the demo or the tests; the installer writes to standard error.
      execFileSync(program, args, {
        stdio: ['ignore', process.stderr, 'inherit'],
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      });
    }
  } catch {
    const commands = installer.commands.map((command) => (sudo === '' ? command : `sudo ${command}`));
    fail(`The installation failed. Run this by hand, then start again: ${commands.join(' && ')}`);
  }
}

function onPath(program) {
  return (process.env.PATH ?? '').split(delimiter).some((dir) => existsSync(join(dir, program)));
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
