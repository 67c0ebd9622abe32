import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { mustRun } from './support/process.ts';

const ROOT = join(import.meta.dirname, '..');

interface Locked {
  readonly version: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
}

t.test(
  'the list of parts names everything that is in the image, and nothing that only development needs',
  async (t) => {
    const sbom = await mustRun(process.execPath, [join(ROOT, 'scripts', 'sbom.ts')]);
    const { components, metadata, ...head } = JSON.parse(sbom);
    t.match(head, { bomFormat: 'CycloneDX' });
    t.equal(metadata.component.name, 'etcd-snapshot-azure-blob');
    t.notOk(head.serialNumber ?? metadata.timestamp, 'nothing that differs from one time to the next');

    const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, Locked>;
    };
    const wanted = Object.entries(packages)
      .filter(([path, { dev, devOptional }]) => path !== '' && !dev && !devOptional)
      .map(([path, { version }]) => `${path.split('node_modules/').at(-1)}@${version}`)
      .filter((name) => !/crc32-(android|darwin|freebsd|win32|linux-arm-|linux-.*-musl)/.test(name))
      // An optional peer of valibot, which development alone installs.
      .filter((name) => !name.startsWith('@typescript/'));
    const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
    const etcd = `etcd@${/^ARG ETCD_VERSION=(.+)$/m.exec(dockerfile)?.[1]}`;
    const found = components.map(({ name, version }: Record<string, string>) => `${name}@${version}`);
    t.strictSame(new Set(found), new Set([...wanted, etcd, 'node@24-bookworm-slim']));
  },
);
