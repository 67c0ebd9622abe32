// Prints what is in the image beside its operating system, as CycloneDX: the npm packages that the program is made of, etcd's
// tools, and the base image. The same commit gives the same document. (Of the operating system's packages buildx makes an own
// one while it builds.)
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

interface Component {
  readonly type: string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
}

interface Sbom {
  serialNumber?: string;
  metadata: { timestamp?: string; component: { type: string; name: string } };
  components: Component[];
  dependencies: { ref: string; dependsOn: string[] }[];
}

const sbom = npmPackages();
// Of the binaries, one for each platform, only those for Linux with glibc can be in the image.
const foreign = sbom.components.filter(({ name }) => /^@node-rs\/crc32-(?!linux-(x64|arm64)-gnu$)/.test(name));
const names = new Set(foreign.map(({ name, version }) => `${name}@${version}`));
sbom.components = [...sbom.components.filter((component) => !foreign.includes(component)), ...baseParts()];
sbom.dependencies = sbom.dependencies
  .filter(({ ref }) => !names.has(ref))
  .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((other) => !names.has(other)) }));
// npm takes the name of the directory, and a time and a number that nobody can make again.
sbom.metadata.component.type = 'container';
sbom.metadata.component.name = 'etcd-snapshot-azure-blob';
delete sbom.serialNumber;
delete sbom.metadata.timestamp;
console.log(JSON.stringify(sbom, undefined, 2));

/**
 * npm's own, of a copy without what is only for development: `npm sbom --omit=dev` of npm 11 leaves out what development
 * needs too, such as yaml.
 */
function npmPackages(): Sbom {
  const dir = mkdtempSync(join(tmpdir(), 'sbom-'));
  try {
    for (const file of ['package.json', 'package-lock.json', '.npmrc']) copyFileSync(join(ROOT, file), join(dir, file));
    const npm = (...args: string[]): string => execFileSync('npm', args, { cwd: dir, encoding: 'utf8' });
    npm('pkg', 'delete', 'devDependencies');
    npm('install', '--package-lock-only', '--ignore-scripts', '--offline', '--silent');
    return JSON.parse(npm('sbom', '--package-lock-only', '--sbom-format=cyclonedx')) as Sbom;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** What the Dockerfile takes from other images. */
function baseParts(): Component[] {
  const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
  const [, node = '', tag = ''] = /^FROM \S*?(node):([^@\s]+)\S*$/m.exec(dockerfile) ?? [];
  const etcd = process.env['ETCD_VERSION'] ?? /^ARG ETCD_VERSION=(.+)$/m.exec(dockerfile)?.[1] ?? '';
  return [
    { type: 'application', name: 'etcd', version: etcd, purl: `pkg:github/etcd-io/etcd@v${etcd}` },
    { type: 'container', name: node, version: tag, purl: `pkg:docker/${node}@${tag}` },
  ];
}
