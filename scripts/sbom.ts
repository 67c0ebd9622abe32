// Prints the components of the image as CycloneDX: the npm packages of the program, etcd's tools, and the base image. The same commit
// gives the same document. (buildx makes another one for the packages of the operating system.)
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
// Of the binaries for each platform, only those for Linux with glibc can be in the image.
const foreign = sbom.components.filter(({ name }) => /^@node-rs\/crc32-(?!linux-(x64|arm64)-gnu$)/.test(name));
const names = new Set(foreign.map(({ name, version }) => `${name}@${version}`));
sbom.components = [...sbom.components.filter((component) => !foreign.includes(component)), ...baseParts()];
sbom.dependencies = sbom.dependencies
  .filter(({ ref }) => !names.has(ref))
  .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((other) => !names.has(other)) }));
// npm adds the name of the directory, a time and a random number, which would differ in each document.
sbom.metadata.component.type = 'container';
sbom.metadata.component.name = 'etcd-snapshot-azure-blob';
delete sbom.serialNumber;
delete sbom.metadata.timestamp;
console.log(JSON.stringify(sbom, undefined, 2));

/**
 * npm's own document, for a copy without devDependencies: `npm sbom --omit=dev` of npm 11 also omits packages that development
 * needs as well, such as yaml.
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

/** The parts that the Dockerfile copies from other images. */
function baseParts(): Component[] {
  const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
  const [, node = '', tag = ''] = /^FROM \S*?(node):([^@\s]+)\S* AS root$/m.exec(dockerfile) ?? [];
  const etcd = process.env['ETCD_VERSION'] ?? /^ARG ETCD_VERSION=(.+)$/m.exec(dockerfile)?.[1] ?? '';
  return [
    { type: 'application', name: 'etcd', version: etcd, purl: `pkg:github/etcd-io/etcd@v${etcd}` },
    { type: 'container', name: node, version: tag, purl: `pkg:docker/${node}@${tag}` },
  ];
}
