import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { build, type Plugin } from 'esbuild';
import { Daemon, freePort } from './process.ts';
import type { Authority } from './certificates.ts';

const BUNDLE = join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'azurite-blob.cjs');

/** A real Azurite on loopback with an account of its own. */
export class Azurite {
  readonly account = 'testaccount';
  readonly key: string;
  readonly url: string;
  readonly #daemon: Daemon;

  private constructor(key: string, url: string, daemon: Daemon) {
    this.key = key;
    this.url = url;
    this.#daemon = daemon;
  }

  /** With an authority it speaks TLS and takes tokens, so that every credential can be tried. */
  static async start(dir: string, tls?: Authority, host = '127.0.0.1'): Promise<Azurite> {
    const port = await freePort();
    const key = randomBytes(64).toString('base64');
    const args = [
      ...['--blobHost', host, '--blobPort', String(port), '--location', dir],
      ...['--silent', '--skipApiVersionCheck', '--disableTelemetry'],
      ...(tls === undefined ? [] : ['--cert', tls.server.cert, '--key', tls.server.key, '--oauth', 'basic']),
    ];
    await bundle();
    const daemon = await Daemon.start(process.execPath, [BUNDLE, ...args], async () => accepts(host, port), {
      AZURITE_ACCOUNTS: `testaccount:${key}`,
    });
    return new Azurite(key, `${tls === undefined ? 'http' : 'https'}://${host}:${port}/testaccount`, daemon);
  }

  /** The worker's variables for a container of this account, by account key. */
  variables(container: string): Record<string, string> {
    return {
      SNAPSHOT_AZURE_ACCOUNT_NAME: this.account,
      SNAPSHOT_AZURE_ACCOUNT_KEY: this.key,
      SNAPSHOT_AZURE_CONTAINER_NAME: container,
      SNAPSHOT_AZURE_BLOB_ENDPOINT: this.url,
    };
  }

  /** The same for the second place. */
  copyVariables(container: string): Record<string, string> {
    return ofCopy(this.variables(container));
  }

  /** The test's own client, which knows nothing of the worker's code. */
  container(name: string): ContainerClient {
    const credential = new StorageSharedKeyCredential(this.account, this.key);
    return new BlobServiceClient(this.url, credential).getContainerClient(name);
  }

  /** Names of all visible blobs; none when there is no container. */
  async names(container: string): Promise<string[]> {
    const client = this.container(container);
    if (!(await client.exists())) return [];
    const names: string[] = [];
    for await (const { name } of client.listBlobsFlat()) names.push(name);
    return names;
  }

  signal(name: NodeJS.Signals): void {
    this.#daemon.signal(name);
  }

  async stop(): Promise<void> {
    await this.#daemon.stop();
  }
}

/** Variables of the first place, as those of the second. */
export function ofCopy(variables: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(variables);
  return Object.fromEntries(entries.map(([name, value]) => [name.replace('SNAPSHOT_', 'SNAPSHOT_COPY_'), value]));
}

/** Only for databases of SQL, and for telemetry: more than half of all modules. */
const withoutUnused: Plugin = {
  name: 'without unused modules',
  setup(bundler) {
    const filter = /\/SqlBlob(Server|Configuration)$|^applicationinsights$/;
    bundler.onResolve({ filter }, ({ path }) => ({ path, namespace: 'unused' }));
    bundler.onLoad({ filter: /^/, namespace: 'unused' }, () => ({ contents: '' }));
  },
};

/** Makes one file of Azurite, once per installation: to load its 3,600 modules takes two seconds of a core at each start. */
async function bundle(): Promise<void> {
  if (existsSync(BUNDLE)) return;
  const own = `${BUNDLE}.${process.pid}`;
  await build({
    entryPoints: ['azurite/dist/src/blob/main.js'],
    absWorkingDir: import.meta.dirname,
    outfile: own,
    bundle: true,
    platform: 'node',
    logLevel: 'error',
    plugins: [withoutUnused],
  });
  await rename(own, BUNDLE);
}

async function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const call = request({ host, port, path: '/' }, (response) => {
      response.resume();
      resolve(true);
    });
    // A TLS server hangs up on plain HTTP: it is there all the same.
    call.on('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
    call.end();
  });
}
